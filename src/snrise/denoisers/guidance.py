"""Guidance: extrapolation from a weaker denoiser."""

from dataclasses import dataclass
from typing import final

import torch

from snrise._errors import require
from snrise._typing import Images, LogSnr
from snrise.denoisers.base import EVERYWHERE, Denoiser, Wrapper, check_interval, inside
from snrise.process import per_image


def guided(denoise: Denoiser, reference: Denoiser, scale: float, rescale: float = 0.0) -> Denoiser:
    """x̂_ref + scale·(x̂ − x̂_ref): scale 1 is no guidance.

    The reference is the same network without labels (Ho and Salimans 2022, arXiv 2207.12598), or a weaker one with
    the same labels: smaller, or trained for less time (autoguidance; Karras et al. 2024, arXiv 2406.02507). The second
    needs no labels at all, and steers away from the network's errors without steering to one kind of image.
    `rescale` is the φ of `rescaled`, which is applied to the result.
    """
    return guided_within(denoise, reference, scale, EVERYWHERE, rescale)


def guided_within(
    denoise: Denoiser, reference: Denoiser, scale: float, interval: tuple[float, float], rescale: float = 0.0
) -> Denoiser:
    """Guidance only for λ in the interval; where no image of a batch is in it, the reference is not computed.

    Kynkäänniemi et al. 2024 (arXiv 2404.07724).
    """
    check_interval("guided_within", interval)
    require(
        reference.process == denoise.process, "guided_within.reference", f"a denoiser of {reference.process}",
        f"one of {denoise.process}",
    )
    require(0 <= rescale <= 1, "guided_within.rescale", rescale, "a number in [0, 1]")

    def guide(z: Images, logsnr: LogSnr) -> Images:
        x = denoise(z, logsnr)
        within = inside(logsnr, interval)
        if scale == 1 or not bool(within.any()):
            return x
        steered = torch.lerp(reference(z, logsnr), x, scale)
        return torch.where(per_image(within, x), rescaled(steered, x, rescale) if rescale else steered, x)

    return Denoiser(guide, denoise.process)


def rescaled(steered: Images, x: Images, phi: float) -> Images:
    """The guided x̂ with the contrast of the unguided one: steered·(φ·std(x̂)/std(steered) + 1 − φ).

    Lin et al. 2023 (arXiv 2305.08891), eq. 15 and 16, each image by itself. They apply it to what the network
    predicts. Here it is applied to x̂, so that it means the same whatever is predicted; out of pure noise, where it
    matters most, the two are one (v = −x at λ = −∞). An image of one colour has no contrast and stays as it is.
    """
    had, has = (images.std(dim=(1, 2, 3), keepdim=True) for images in (x, steered))
    # A hundredth of a grey level is rounding, and no contrast.
    return steered * torch.where(has > 1e-4, phi * had / has + 1 - phi, 1.0)


@final
@dataclass(frozen=True, kw_only=True)
class Guided(Wrapper):
    """`guided_within` as a wrapper; `interval` None is all λ. Without a reference, or at scale 1, it does nothing."""

    scale: float
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __call__(self, denoise: Denoiser, reference: Denoiser | None) -> Denoiser:
        if reference is None:
            return denoise
        return guided_within(denoise, reference, self.scale, self.interval or EVERYWHERE, self.rescale)
