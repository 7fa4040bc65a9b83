"""The peers: lucidrains' simple diffusion, diffusers' U-Net and DiT, k-diffusion. Each as its package has it.

- `SimpleDiffusion`: `UViT` and `GaussianDiffusion` of `denoising_diffusion_pytorch.simple_diffusion`: v-prediction,
  min-SNR weight, cosine schedule, shifted from 32 px above 32 px; its ancestral sampler.
- `UNet2D`, `DiT`: `UNet2DModel` and `DiTTransformer2DModel` of diffusers, trained as in its unconditional example:
  ε-prediction at 1,000 steps of linear β, AdamW with a cosine; its DDPM sampler, and DPM-Solver++ (2M) SDE, both with
  x̂ clipped to the range of images. The DiT is in pixel space, with a single class; as in its paper, and unlike in
  diffusers, which only loads weights, gates and output begin at zero.
- `KDiffusion`: `ImageDenoiserModelV1` of k-diffusion within its `Denoiser`: the preconditioning of Karras et al., its
  soft min-SNR weight, σ drawn by its interpolated cosine from 32 px, stratified, as its later configs do; its
  DPM-Solver++ (2M) SDE on Karras' σ, without noise as in its training script, and with.
  The package fixes NumPy below 2 and wants CLIP, clean-fid, kornia and more, for metrics and augmentation. Of it
  `layers`, `models`, `sampling` and `utils` are imported, which need none of these.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.claims.peers.contender import Way
from benchmarks.claims.peers.training import Peer, module, part

__all__ = ["DiT", "KDiffusion", "SimpleDiffusion", "UNet2D"]

K_DIFFUSION = "pip install 'snrise[bench]' && pip install --no-deps k-diffusion dctorch"


@final
@dataclass(frozen=True, kw_only=True)
class SimpleDiffusion(Peer):
    """lucidrains' U-ViT; `factors` are the downsampling of its levels, `patch` that before them."""

    dim: int
    mults: tuple[int, ...] = (1, 2, 4)
    factors: tuple[int, ...] = (2, 2, 2)
    depth: int = 2
    patch: int = 1
    betas: ClassVar = (0.9, 0.99)

    def network(self) -> nn.Module:
        made = part("denoising_diffusion_pytorch.simple_diffusion").UViT(
            self.dim, dim_mults=self.mults, downsample_factor=self.factors, vit_depth=self.depth, patch_size=self.patch)
        assert isinstance(made, nn.Module)
        return made

    def loss(self, network: nn.Module, x: Tensor) -> Tensor:
        loss: Tensor = self._diffusion(network, 1)((x + 1) / 2)
        return loss

    def sample(self, network: nn.Module, number: int, way: Way) -> Tensor:
        pictures: Tensor = self._diffusion(network, way.steps).sample(batch_size=number)
        return 2 * pictures - 1

    def _diffusion(self, network: nn.Module, steps: int) -> Any:
        diffusion = part("denoising_diffusion_pytorch.simple_diffusion")
        diffusion.tqdm = _quiet
        shift = {"noise_d": 32} if self.side > 32 else {}
        return diffusion.GaussianDiffusion(network, image_size=self.side, num_sample_steps=steps, **shift)


@dataclass(frozen=True, kw_only=True)
class Diffusers(Peer):
    """What the two models of diffusers share."""

    betas: ClassVar = (0.95, 0.999)
    weight_decay: ClassVar = 1e-6

    @abstractmethod
    def predicted(self, network: nn.Module, z: Tensor, steps: Tensor) -> Tensor:
        """The noise [b 3 side side] of z at steps [b]."""

    def loss(self, network: nn.Module, x: Tensor) -> Tensor:
        scheduler, eps = _ddpm(), torch.randn_like(x)
        steps = torch.randint(0, scheduler.config.num_train_timesteps, (len(x),))
        return F.mse_loss(self.predicted(network, scheduler.add_noise(x, eps, steps), steps).float(), eps)

    def sample(self, network: nn.Module, number: int, way: Way) -> Tensor:
        scheduler = _ddpm()
        if way.sampler != "DDPM":
            solver = module("diffusers.schedulers.scheduling_dpmsolver_multistep").DPMSolverMultistepScheduler
            scheduler = solver(algorithm_type="sde-dpmsolver++", timestep_spacing="trailing", thresholding=True)
        scheduler.set_timesteps(way.steps)
        z = torch.randn(number, 3, self.side, self.side) * scheduler.init_noise_sigma
        for step in scheduler.timesteps:
            eps = self.predicted(network, z, step.expand(number)).float()
            z = scheduler.step(eps, step, z).prev_sample
        return z


@final
@dataclass(frozen=True, kw_only=True)
class UNet2D(Diffusers):
    """diffusers' U-Net, with attention at its lowest level."""

    channels: tuple[int, ...]
    layers: int = 1

    def network(self) -> nn.Module:
        others = len(self.channels) - 1
        made = module("diffusers.models.unets.unet_2d").UNet2DModel(
            sample_size=self.side, block_out_channels=self.channels, layers_per_block=self.layers,
            down_block_types=("DownBlock2D",) * others + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * others, norm_num_groups=min(32, self.channels[0]),
        )
        assert isinstance(made, nn.Module)
        return made

    def predicted(self, network: nn.Module, z: Tensor, steps: Tensor) -> Tensor:
        eps: Tensor = network(z, steps).sample
        return eps


@final
@dataclass(frozen=True, kw_only=True)
class DiT(Diffusers):
    """diffusers' DiT on patches of pixels."""

    patch: int
    width: int
    depth: int
    head: int = 32

    def network(self) -> nn.Module:
        made = module("diffusers.models.transformers.dit_transformer_2d").DiTTransformer2DModel(
            num_attention_heads=self.width // self.head, attention_head_dim=self.head, in_channels=3, out_channels=3,
            num_layers=self.depth, sample_size=self.side, patch_size=self.patch, num_embeds_ada_norm=1,
        )
        assert isinstance(made, nn.Module)
        for block in made.transformer_blocks:
            block.norm1.emb.class_embedder.dropout_prob = 0.0
        for layer in (*(block.norm1.linear for block in made.transformer_blocks), made.proj_out_1, made.proj_out_2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return made

    def predicted(self, network: nn.Module, z: Tensor, steps: Tensor) -> Tensor:
        eps: Tensor = network(z, timestep=steps, class_labels=torch.zeros(len(z), dtype=torch.int64)).sample
        return eps


@final
@dataclass(frozen=True, kw_only=True)
class KDiffusion(Peer):
    """k-diffusion's U-Net `image_v1`, with self-attention at its lowest level."""

    channels: tuple[int, ...]
    depths: tuple[int, ...] = (2, 2, 2)
    patch: int = 1
    mapping: int = 256
    sigmas: tuple[float, float] = (1e-2, 80.0)
    sigma_data: float = 0.5
    betas: ClassVar = (0.95, 0.999)
    weight_decay: ClassVar = 1e-3
    epsilon: ClassVar = 1e-6

    def network(self) -> nn.Module:
        attention = [False] * (len(self.channels) - 1) + [True]
        made = part("k_diffusion.models.image_v1", K_DIFFUSION).ImageDenoiserModelV1(
            3, self.mapping, self.depths, self.channels, attention, patch_size=self.patch)
        assert isinstance(made, nn.Module)
        return made

    def loss(self, network: nn.Module, x: Tensor) -> Tensor:
        utils = part("k_diffusion.utils", K_DIFFUSION)
        with utils.enable_stratified():
            sigma = utils.rand_cosine_interpolated(
                (len(x),), image_d=self.side, noise_d_low=32, noise_d_high=self.side, sigma_data=self.sigma_data)
        losses: Tensor = self._denoiser(network).loss(x, torch.randn_like(x), sigma)
        return losses.mean()

    def sample(self, network: nn.Module, number: int, way: Way) -> Tensor:
        sampling = part("k_diffusion.sampling", K_DIFFUSION)
        sigmas = sampling.get_sigmas_karras(way.steps, *self.sigmas)
        z = torch.randn(number, 3, self.side, self.side) * sigmas[0]
        pictures: Tensor = sampling.sample_dpmpp_2m_sde(
            self._denoiser(network), z, sigmas, disable=True, eta=1.0 if "SDE" in way.sampler else 0.0,
            noise_sampler=lambda *_: torch.randn_like(z), solver_type="heun",
        )
        return pictures

    def _denoiser(self, network: nn.Module) -> Any:
        layers = part("k_diffusion.layers", K_DIFFUSION)
        return layers.Denoiser(network, sigma_data=self.sigma_data, weighting="soft-min-snr")


def _ddpm() -> Any:
    return module("diffusers.schedulers.scheduling_ddpm").DDPMScheduler(timestep_spacing="trailing")


def _quiet(steps: Any, **_: object) -> Any:
    return steps
