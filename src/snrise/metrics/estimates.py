"""Shared by measurements on held-out images: means with standard errors, noise per image, batching and checks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

from snrise._errors import invalid, require
from snrise._typing import Images

__all__ = ["Estimate", "joined"]

class Estimate(NamedTuple):
    """A mean, or another estimate, and its standard error, which is NaN for one image."""

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.standard_error:.4f}"


def mean_and_error(values: Float64[Tensor, "n *rest"]) -> tuple[Float64[Tensor, "*rest"], Float64[Tensor, "*rest"]]:
    """The mean over images and its standard error, NaN for one image."""
    n, mean = len(values), values.mean(dim=0)
    return mean, ((values - mean).square().sum(dim=0) / (n * (n - 1))).sqrt()


def estimate(values: Float64[Tensor, " n"]) -> Estimate:
    """The mean over images."""
    mean, error = mean_and_error(values)
    return Estimate(mean.item(), error.item())


@dataclass(frozen=True, kw_only=True, eq=False)
class ByImage:
    """Results by image, the first dimension of every field but this one, at noise levels that all images share."""

    logsnrs: Float64[Tensor, " levels"]


Result = TypeVar("Result", bound=ByImage)


def joined(parts: Sequence[Result]) -> Result:
    """Concatenate the results of several batches, as if measured at once; they must share `logsnrs`.

    >>> from snrise.denoisers import gaussian
    >>> from snrise.metrics import loss_by_logsnr
    >>> images, levels = torch.zeros(4, 3, 8, 8), torch.tensor([-2.0, 0.0, 2.0])
    >>> own = [torch.Generator().manual_seed(i) for i in range(4)]
    >>> denoise = gaussian(torch.tensor(0.0), torch.tensor(0.1))
    >>> batches = [slice(0, 3), slice(3, 4)]
    >>> joined([loss_by_logsnr(denoise, images[part], levels, own[part]) for part in batches]).losses.shape
    torch.Size([4, 3])
    """
    require(len(parts) >= 1, "joined.parts", len(parts), "one result or more")
    values: dict[str, Any] = {f.name: [getattr(part, f.name) for part in parts] for f in fields(parts[0])}
    logsnrs = values.pop("logsnrs")
    if not all(torch.equal(logsnrs[0], other) for other in logsnrs):
        raise invalid("joined.parts", "results at different noise levels", "the same logsnrs in each")
    return type(parts[0])(logsnrs=logsnrs[0], **{name: torch.cat(of_parts) for name, of_parts in values.items()})


def in_batches(
    where: str, images: Tensor, generators: Sequence[torch.Generator], batch: int,
    measure: Callable[[Tensor, Sequence[torch.Generator]], Result],
) -> Result:
    """The joined results of `measure(images, generators)` on at most `batch` images at a time."""
    check_generators(where, generators, len(images))
    require(batch >= 1, f"{where}.batch", batch, "a whole number above 0")
    cuts = [slice(first, first + batch) for first in range(0, len(images), batch)]
    return joined([measure(images[cut], generators[cut]) for cut in cuts])


def white_noise(like: Images, generators: Sequence[torch.Generator]) -> Images:
    """White noise of the shape, dtype and device of `like`, each image's from its own generator."""
    drawn = [torch.randn(like.shape[1:], generator=g, device=g.device) for g in generators]
    return torch.stack(drawn).to(like)


def check_generators(where: str, generators: Sequence[torch.Generator], count: int) -> None:
    """Raise unless there is one generator an image."""
    if len(generators) != count:
        allowed = f"one for each of {count} images"
        raise invalid(f"{where}.generators", f"{len(generators)} generators", allowed, "see samplers.generators")


def check_logsnrs(where: str, logsnrs: Tensor, least: int) -> None:
    """Raise unless λ is one dimension of finite values that strictly increase."""
    where = f"{where}.logsnrs"
    one_line = logsnrs.ndim == 1 and len(logsnrs) >= least
    require(one_line, where, tuple(logsnrs.shape), f"one dimension, {least} values or more")
    if bool(logsnrs.isinf().any()):
        raise invalid(where, "an infinite λ", "finite λ", "limit the schedule with schedules.Clipped")
    if not bool((logsnrs[1:] > logsnrs[:-1]).all()) or bool(logsnrs.isnan().any()):
        raise invalid(where, "values that do not increase", "λ from the noisy end up")


def check_shape(where: str, images: Tensor) -> None:
    """Raise unless images are [n c h w]."""
    require(images.ndim == 4 and len(images) >= 1, where, tuple(images.shape), "[n c h w], one image or more")


def check_float(where: str, images: Tensor) -> None:
    """Raise unless images are [n c h w] in floating point."""
    where = f"{where}.images"
    check_shape(where, images)
    require(images.is_floating_point(), where, str(images.dtype), "floating point, -1…1", "use data.to_float")


def check_images(where: str, images: Tensor, bounds: tuple[float, float] | None = (-1.0, 1.0)) -> None:
    """Raise unless images are [n c h w] in floating point, within bounds if there are any."""
    check_float(where, images)
    where = f"{where}.images"
    low, high = images.min().item(), images.max().item()
    within = bounds is None or (low >= bounds[0] and high <= bounds[1])
    least, most = bounds or (-math.inf, math.inf)
    allowed = f"numbers in [{least:g}, {most:g}]"
    require(within, where, f"values {low:g}…{high:g}", allowed, "use data.to_float on uint8 pixels")


def check_pixels(where: str, images: Tensor) -> None:
    """Raise unless images are [n c h w] in uint8."""
    where = f"{where}.images"
    check_shape(where, images)
    require(images.dtype == torch.uint8, where, str(images.dtype), "uint8, levels 0…255", "use data.to_uint8")
