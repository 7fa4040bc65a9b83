"""The network that most claims train."""

from benchmarks.claims.trainings import config
from snrise.config import RunConfig

__all__ = ["LONG", "QUICKLY", "SHORT", "trunk"]

#: Images of a short training, and of a long one by side.
SHORT = 12_800
LONG = {64: 76_800, 128: 76_800, 256: 38_400}
#: How quick forms judge.
QUICKLY = {"pictures": 128, "references": 500}
#: Blocks at 16×16 and at 8×8 cells.
LEVELS = "{channels: 64, blocks: 2}, {channels: 128, blocks: 1, attention: true}"
#: And at 256 px at 32×32 cells, behind the widest stem that wavelets have.
ABOVE = "{channels: 32, blocks: 1}, "


def trunk(side: int, images: int, *settings: str) -> RunConfig:
    """A run with two blocks at 16×16 cells and one at 8×8, behind a wavelet stem, which predicts x without guidance."""
    average = 3000 if images > SHORT else images // 12
    return config(
        f"data.resolution=[{side},{side}]", f"network.levels=[{ABOVE if side == 256 else ''}{LEVELS}]",
        f"network.stem={min(side // 16, 8)}", "network.stem_kind=wavelet", "network.embedding=128",
        f"training.ema_half_life={average}", f"training.warmup={min(2000, images // 10)}", "loss.prediction=x",
        "sampling.guidance=1", "sampling.steps=32",
        *settings, images=images,
    )
