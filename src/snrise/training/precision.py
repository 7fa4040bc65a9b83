"""In which number format the network's matrix products run. λ, the loss and all weights stay float32."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from snrise._errors import invalid
from snrise._typing import StrEnum

__all__ = ["Precision", "autocast", "bf16_is_native"]


class Precision(StrEnum):
    """`auto` is bfloat16 where the processor computes in it, else float32."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


def bf16_is_native(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return False


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The context to run a network in."""
    match precision:
        case Precision.FP32:
            return nullcontext()
        case Precision.BF16:
            return torch.autocast(device.type, torch.bfloat16)
        case Precision.AUTO:
            return autocast(device, Precision.BF16 if bf16_is_native(device) else Precision.FP32)
    raise invalid("precision", precision, "auto, bf16, fp32")
