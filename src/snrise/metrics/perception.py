"""Perceptual distances: between features of pretrained networks, weighted to agree with what people see (LPIPS).

Zhang et al. 2018; shift-tolerant: Ghildyal and Liu 2022.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._errors import SnriseError, invalid, require, unknown
from snrise._typing import Images, PerImage

__all__ = ["PERCEPTUAL", "Perceptual", "Trunk", "perceptual"]

#: Mean and standard deviation of ImageNet's channels, for images in −1…1, as LPIPS has them.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
#: Keeps the direction of features that are all 0, as in a white sky, differentiable.
EPS = 1e-10
VGG16 = "https://download.pytorch.org/models/vgg16-397923af.pth"


class _Conv(NamedTuple):
    """A convolution, and its padding."""

    channels: int
    side: int
    padding: int


_RELU, _BLUR = "relu", "blur"


class _Max(NamedTuple):
    """The largest of side×side values."""

    side: int
    stride: int


_Layer = _Conv | _Max | str


def _vgg16(pool: Sequence[_Layer]) -> tuple[tuple[_Layer, ...], ...]:
    """The five stages of VGG16 (Simonyan and Zisserman 2015, table 1, D); all but the first begin with a pool."""
    stages: list[tuple[_Layer, ...]] = []
    for channels, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        body = [layer for _ in range(convolutions) for layer in (_Conv(channels, 3, 1), _RELU)]
        stages.append((*(pool if stages else ()), *body))
    return tuple(stages)


@final
@dataclass(frozen=True, kw_only=True)
class Trunk:
    """A stack of convolutions, the ends of whose stages are compared.

    Attributes:
        stages: the layers of each.
        load: weights of the layers by their number in the whole stack, and of the channels by that of the stage.
        least: the shortest side of images that it can take.
    """

    stages: tuple[tuple[_Layer, ...], ...]
    load: Callable[[], tuple[Mapping[str, Tensor], list[Tensor]]]
    least: int


@final
class Perceptual(nn.Module):
    """Images x, y in −1…1, [b 3 h w] -> the distance of each pair, 0 or more; its weights are fixed.

    The unit vectors of the features at each place are compared, the squared differences are weighted by channel and
    averaged over places, and the stages are summed (Zhang et al. 2018, eq. 1).
    """

    def __init__(self, trunk: Trunk, name: str = "perceptual") -> None:
        super().__init__()
        self.name, self.least = name, trunk.least
        layers, channels = [], 3
        self.ends: list[int] = []
        for stage in trunk.stages:
            for layer in stage:
                layers.append(_built(layer, channels))
                channels = layer.channels if isinstance(layer, _Conv) else channels
            self.ends.append(len(layers) - 1)
        self.layers = nn.Sequential(*layers)
        weights, heads = trunk.load()
        self.layers.load_state_dict(dict(weights))
        self.heads = nn.ParameterList(heads)
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Perceptual":
        """It stays as it is."""
        return super().train(False)

    def forward(self, x: Images, y: Images) -> PerImage:
        """Distances [b]."""
        sides = x.shape[-2:]
        require(min(sides) >= self.least, self.name, tuple(sides), f"images of {self.least} pixels a side or more")
        total = x.new_zeros(len(x))
        for ours, theirs, head in zip(self._features(x), self._features(y), self.heads, strict=True):
            total = total + ((_unit(ours) - _unit(theirs)).square() * head).sum(dim=1).mean(dim=(1, 2))
        return total

    def features(self, x: Images) -> Float[Tensor, "b d"]:
        """What the distance compares, averaged over places: unit vectors by the roots of the channels' weights."""
        stages = zip(self._features(x), self.heads, strict=True)
        return torch.cat([(_unit(found) * head.sqrt()).mean(dim=(2, 3)) for found, head in stages], dim=1)

    def _features(self, x: Images) -> Iterator[Tensor]:
        """Those at the end of each stage."""
        x = (x - self.shift) / self.scale
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self.ends:
                yield x


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + EPS**2).sqrt().add(EPS)


def _built(layer: _Layer, channels: int) -> nn.Module:
    match layer:
        case _Conv(channels=out, side=side, padding=padding):
            return nn.Conv2d(channels, out, side, padding=padding)
        case _Max(side=side, stride=stride):
            return nn.MaxPool2d(side, stride)
        case "blur":
            return _Blur(channels)
        case _:
            return nn.ReLU()


class _Blur(nn.Module):
    """Every second pixel after a binomial blur of 3×3, padded by two reflected pixels (Zhang 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filt: Tensor
        self.register_buffer("filt", torch.zeros(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


def _shift_tolerant(name: str) -> tuple[Mapping[str, Tensor], list[Tensor]]:
    """The weights of `stlpips-pytorch`, whose code is not run."""
    file = _in_package("stlpips_pytorch", f"weights/vST0.0/{name}_shift_tolerant.pth", "pip install 'snrise[codec]'")
    stored = _tensors(file)
    # net.slice1.0.weight: a layer's number counts through all slices
    trunk = {key.split(".", 2)[2]: t for key, t in stored.items() if key.startswith("net.slice")}
    return trunk, _heads(stored)


def _vgg_lpips() -> tuple[Mapping[str, Tensor], list[Tensor]]:
    """VGG16 of torchvision, and the channel weights of `lpips`, version 0.1."""
    heads = _in_package("lpips", "weights/v0.1/vgg.pth", "pip install lpips")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        stored = torch.hub.load_state_dict_from_url(VGG16, map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:  # no connection, no space, a damaged file: torch.hub's own
        reason = f"{type(error).__name__} {error}".strip().splitlines()[0]
        fix = f"put {VGG16} into {folder}, or use stlpips-vgg, which needs no download"
        raise SnriseError(f"perceptual: VGG16 cannot be had ({reason}); {fix}") from error
    last = sum(len(stage) for stage in _vgg16([_Max(2, 2)]))
    trunk = {key.removeprefix("features."): t for key, t in stored.items() if key.startswith("features.")}
    return {key: t for key, t in trunk.items() if int(key.partition(".")[0]) < last}, _heads(_tensors(heads))


def _heads(stored: Mapping[str, Tensor]) -> list[Tensor]:
    """The weights of the channels of each stage, [c 1 1]."""
    return [stored[f"lin{i}.model.1.weight"][0] for i in range(5)]


def _in_package(package: str, path: str, fix: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise SnriseError(f"perceptual: {package} is not installed; {fix}")
    return Path(found.origin).parent / path


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors in a file of PyTorch's, which may hold nothing else."""
    try:
        stored: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's own kinds
        raise invalid(str(file), f"{type(error).__name__}", "a file of weights", "install its package again") from error
    return stored


_ALEX: tuple[tuple[_Layer, ...], ...] = (
    (_Conv(64, 11, 2), _BLUR, _RELU),
    (_Max(3, 1), _BLUR, _Conv(192, 5, 2), _RELU),
    (_Max(3, 1), _BLUR, _Conv(384, 3, 1), _RELU),
    (_Conv(256, 3, 1), _RELU),
    (_Conv(256, 3, 1), _RELU),
)

#: Networks by name. `stlpips-…`, shift-tolerant LPIPS, come with the extra `codec`; `lpips-vgg` is LPIPS as most
#: autoencoders are trained with: the weights of its VGG16 are fetched once, if there is a connection.
PERCEPTUAL: dict[str, Trunk] = {
    "stlpips-alex": Trunk(stages=_ALEX, load=lambda: _shift_tolerant("alex"), least=32),
    "stlpips-vgg": Trunk(stages=_vgg16([_Max(2, 1), _BLUR]), load=lambda: _shift_tolerant("vgg"), least=32),
    "lpips-vgg": Trunk(stages=_vgg16([_Max(2, 2)]), load=_vgg_lpips, least=32),
}


def perceptual(name: str, where: str = "perceptual") -> Perceptual:
    """The distance of a name in `PERCEPTUAL`.

    Raises:
        SnriseError: for an unknown name, or where its weights are missing, with what to install or where to put them.

    >>> distance = perceptual("stlpips-alex")
    >>> x = torch.zeros(1, 3, 32, 32)
    >>> float(distance(x, x)), bool(distance(x, x + 0.5) > 0.01)
    (0.0, True)
    """
    if name not in PERCEPTUAL:
        raise unknown(where, name, PERCEPTUAL, "perceptual distance")
    return Perceptual(PERCEPTUAL[name], name)
