"""As on an older processor: PyTorch held back to fewer instructions by variables that it reads when it is loaded."""

import os
import sys

__all__ = ["ISAS", "held_back"]

ISAS = {"avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}}


def held_back(isa: str | None) -> None:
    """Begin the program again with the libraries held back, unless they are; None is as the machine is."""
    wanted = {} if isa is None else ISAS[isa]
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
