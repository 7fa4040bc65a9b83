"""The precision of matrix products, decided here alone. λ, the loss and all weights stay float32."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from snrise._typing import StrEnum

__all__ = ["Precision", "autocast", "bf16_is_native", "product_dtype", "resolved"]

#: What oneDNN's ONEDNN_MAX_CPU_ISA must allow for products of bfloat16 in hardware; it is "DEFAULT" unless set.
ONEDNN_WITH_BF16 = ("DEFAULT", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10")


class Precision(StrEnum):
    """`auto` is bfloat16 where the device multiplies it in hardware, else float32."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


def bf16_is_native(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware; elsewhere PyTorch emulates that, many times slower.

    A CPU that could, but whose libraries are held back by ATEN_CPU_CAPABILITY or ONEDNN_MAX_CPU_ISA, does not: so an
    older processor can be tried on a newer one.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        able = any(getattr(torch.cpu, check, lambda: False)() for check in checks)
        allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
        vectors = torch.backends.cpu.get_cpu_capability()
        return able and vectors.startswith("AVX512") and allowed.startswith(ONEDNN_WITH_BF16)
    return False


def resolved(device: torch.device, precision: Precision) -> Precision:
    """`bf16` or `fp32`: what a setting means on a device.

    >>> resolved(torch.device("cpu"), Precision.FP32)
    <Precision.FP32: 'fp32'>
    """
    if precision is not Precision.AUTO:
        return precision
    return Precision.BF16 if bf16_is_native(device) else Precision.FP32


def product_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """The dtype of matrix products under a setting on a device."""
    return torch.bfloat16 if resolved(device, precision) is Precision.BF16 else torch.float32


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The autocast context to run a network in."""
    if resolved(device, precision) is Precision.FP32:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
