"""Writes a safetensors file one tensor at a time, so that tensors in shards never have to be whole at once."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, final

import torch
from torch import Tensor

from snrise.files import writing
from snrise.parallel import ALONE, World
from snrise.sharding import Rows

__all__ = ["write_tensors"]

#: The format's names of dtypes: https://huggingface.co/docs/safetensors.
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint64: "U64", torch.uint32: "U32",
    torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64",
}


def write_tensors(
    path: Path, tensors: Mapping[str, Rows], metadata: Callable[[], Mapping[str, str]], *, world: World = ALONE,
    seen: Callable[[str, Tensor], None] = lambda name, tensor: None,
) -> None:
    """Write a file atomically: in the first process, each tensor whole, in the order given; collective.

    `metadata` is called before the first tensor and after the last, and must give texts of the same lengths. `seen` is
    called in the first process with each whole tensor, on the CPU.

    Raises:
        SnriseError: in the first process, if the file cannot be written; it is as it was before.
    """
    wholes = ((name, world.assembled(rows)) for name, rows in tensors.items())
    try:
        if world.leads:
            with writing(path) as file:
                layout = _Layout(file, tensors, metadata())
                for name, whole in wholes:
                    assert whole is not None, "the first process gets all of it"
                    layout.put(name, whole)
                    seen(name, whole)
                layout.write_header(metadata())
    finally:
        for _ in wholes:  # the others send theirs, whatever has happened here
            pass


@final
class _Layout:
    """Where each tensor is in a file: wide elements first, so that all are aligned."""

    def __init__(self, file: BinaryIO, tensors: Mapping[str, Rows], metadata: Mapping[str, str]) -> None:
        self.file, self.entries, end = file, dict[str, dict[str, object]](), 0
        self.begins: dict[str, int] = {}
        for name in sorted(tensors, key=lambda name: -tensors[name].own.element_size()):
            rows = tensors[name]
            self.begins[name], end = end, end + rows.nbytes
            self.entries[name] = {
                "dtype": DTYPES[rows.own.dtype], "shape": list(rows.shape), "data_offsets": [self.begins[name], end],
            }
        self.size = self.write_header(metadata)

    def put(self, name: str, whole: Tensor) -> None:
        """Write a tensor to its place."""
        self.file.seek(self.size + self.begins[name])
        for part in _pieces(whole):
            self.file.write(part)

    def write_header(self, metadata: Mapping[str, str]) -> int:
        """Write what precedes the tensors; its size in bytes."""
        text = json.dumps({"__metadata__": dict(metadata), **self.entries}).encode()
        text += b" " * (-len(text) % 8)
        self.file.seek(0)
        self.file.write(len(text).to_bytes(8, "little"))
        self.file.write(text)
        return 8 + len(text)


def _pieces(whole: Tensor) -> Iterator[memoryview]:
    """The memory of a tensor, without a copy."""
    if whole.numel():
        yield whole.contiguous().view(-1).view(torch.uint8).numpy().data
