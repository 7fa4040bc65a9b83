"""Devices to train on: their memory, and the peak throughput of their matrix products."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch

from snrise._errors import invalid, require, unknown
from snrise.precision import bf16_is_native
from snrise.training import Precision

__all__ = ["DEVICES", "GIB", "Device", "device"]

GIB = 2**30
#: Memory that a GPU's driver and libraries take: the context, workspaces of cuBLAS and cuDNN. An assumption.
DRIVER = GIB
#: The share of a device's memory that a plan fills: predictions are not exact (docs/performance.md).
FILL = 0.9
#: Allocator overhead on temporary memory, as a share. Of glibc's heap: measured, benchmarks/memory.py. Of CUDA's
#: caching allocator: an assumption.
HEAP, CACHING = 0.32, 0.05


@final
@dataclass(frozen=True, kw_only=True)
class Device:
    """A device: its memory in bytes, and the peaks of dense matrix products in FLOP/s, where known.

    `bf16` accumulates in float32; `fp32` is without TF32, PyTorch's default. `overhead` is the share by which the
    allocator enlarges temporary blocks. `links` names the usual links within a node and between nodes: see LINKS.
    """

    title: str
    memory: int
    gpu: bool = True
    overhead: float = CACHING
    bf16: float | None = None
    fp32: float | None = None
    bf16_is_native: bool = True
    links: tuple[str, str] | None = None
    source: str = ""

    def shared(self, processes: int) -> "Device":
        """What is left of it for each of so many processes: their part of the memory."""
        return replace(self, memory=self.memory // processes)

    @property
    def usable(self) -> int:
        """The most bytes that a step may take."""
        return int(FILL * (self.memory - (DRIVER if self.gpu else 0)))

    def precision(self, wanted: Precision) -> Precision:
        """The precision in which a run computes there."""
        if wanted is not Precision.AUTO:
            return wanted
        return Precision.BF16 if self.bf16_is_native else Precision.FP32

    def peak(self, precision: Precision) -> float | None:
        """FLOP/s of matrix products at most; None if unknown."""
        return self.bf16 if precision is Precision.BF16 else self.fp32

    def images_per_second(self, precision: Precision, utilisation: float, flops: float) -> float | None:
        """Images at so many operations each, at a share of the peak; None if the peak is unknown, or flops are 0."""
        require(0 < utilisation <= 1, "utilisation", utilisation, "a share of the peak in (0, 1]")
        peak = self.peak(precision)
        return None if peak is None or not flops else peak * utilisation / flops

    def taken(self, size: int) -> float:
        """The bytes that the allocator holds for a temporary block of a size."""
        return (1 + self.overhead) * size


#: GPUs by name. Memory is what PyTorch reports of it.
DEVICES = {
    "h100": Device(title="H100 SXM 80 GB", memory=int(79.1 * GIB), bf16=989.4e12, fp32=66.9e12,
                   links=("nvlink4", "ndr"),
                   source="NVIDIA H100 datasheet: 1,979 TFLOPS with sparsity"),
    "a100": Device(title="A100 80 GB", memory=int(79.1 * GIB), bf16=312e12, fp32=19.5e12,
                   links=("nvlink3", "hdr"),
                   source="NVIDIA A100 datasheet"),
    "4090": Device(title="RTX 4090 24 GB", memory=int(23.6 * GIB), bf16=165.2e12, fp32=82.6e12,
                   links=("pcie4", "ethernet-100"),
                   source="NVIDIA Ada architecture whitepaper"),
}


def device(name: str) -> Device:
    """The device of a name: one of DEVICES, `cpu`, or `this`, this machine's GPU if it has one, else its CPU.

    >>> device("4090").title
    'RTX 4090 24 GB'
    """
    if name in DEVICES:
        return DEVICES[name]
    if name == "this" and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        native = bf16_is_native(torch.device("cuda"))
        return Device(title=torch.cuda.get_device_name(0), memory=memory, bf16_is_native=native)
    if name in ("cpu", "this"):
        native = bf16_is_native(torch.device("cpu"))
        return Device(title="this machine's CPU", memory=_memory(), gpu=False, overhead=HEAP, bf16_is_native=native)
    raise unknown("--device", name, [*DEVICES, "cpu", "this"], "device")


def _memory() -> int:
    """The memory of this machine in bytes, or its cgroup's limit."""
    if not hasattr(os, "sysconf"):  # Windows
        raise invalid("--device", "this machine", f"one of {', '.join(DEVICES)}: the system does not tell its memory")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdecimal() else whole
