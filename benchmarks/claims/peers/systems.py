"""The systems by name, each with two sizes at each side, three learning rates and two ways of sampling to try."""

from benchmarks.claims.peers import ours
from benchmarks.claims.peers.contender import System, Way
from benchmarks.claims.peers.models import DiT, KDiffusion, SimpleDiffusion, UNet2D

__all__ = ["PEERS", "SIDES", "SNRISE", "SYSTEMS"]

SIDES = (32, 64, 128)
SNRISE = "snrise"

SDE = Way("DPM-Solver++ (2M) SDE", 50)

SYSTEMS: dict[str, System] = {
    SNRISE: System(
        sizes={side: {
            "64 and 128 wide": ours.of(side, (64, 128), (1, 1)),
            "128 and 256 wide": ours.of(side, (128, 256), (1, 1)),
        } for side in SIDES},
        ways=(Way("ancestral", 50), SDE),
    ),
    "simple diffusion": System(
        sizes={
            32: {"32 wide": SimpleDiffusion(side=32, dim=32), "64 wide": SimpleDiffusion(side=32, dim=64)},
            **{side: {
                "in patches": SimpleDiffusion(side=side, dim=32, patch=side // 32),
                "in smaller patches": SimpleDiffusion(side=side, dim=32, patch=side // 64, factors=(4, 2, 2)),
            } for side in SIDES[1:]},
        },
        ways=(Way("ancestral", 50), Way("ancestral", 100)),
    ),
    "UNet2DModel": System(
        sizes={side: {
            "narrow": UNet2D(side=side, channels=narrow), "wide": UNet2D(side=side, channels=wide),
        } for side, (narrow, wide) in {
            32: ((32, 64, 128), (64, 128, 256)),
            64: ((16, 32, 64, 128), (32, 64, 128, 256)),
            128: ((16, 32, 64, 128, 128), (32, 64, 64, 128, 256)),
        }.items()},
        ways=(SDE, Way("DDPM", 100)),
    ),
    "DiT": System(
        sizes={side: {
            "128 wide": DiT(side=side, patch=side // 16, width=128, depth=6),
            "256 wide": DiT(side=side, patch=side // 16, width=256, depth=4),
        } for side in SIDES},
        ways=(SDE, Way("DDPM", 100)),
    ),
    "k-diffusion": System(
        sizes={side: {
            "32 wide": KDiffusion(side=side, channels=(32, 64, 128), patch=side // 32),
            "64 wide": KDiffusion(side=side, channels=(64, 128, 256), patch=side // 32),
        } for side in SIDES},
        ways=(Way("DPM-Solver++ (2M)", 50), SDE),
    ),
}
PEERS = tuple(name for name in SYSTEMS if name != SNRISE)
