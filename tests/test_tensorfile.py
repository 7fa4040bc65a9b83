import pytest
import torch
from safetensors.torch import load_file

from snrise.sharding import Rows
from snrise.tensorfile import write_tensors

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool, torch.complex64,
)


def test_tensors_of_any_dtype_and_shape_are_read_by_safetensors(tmp_path):
    """Narrow ones come first in the file's order of names, and must not misalign the others."""
    kept = {f"{i}": torch.arange(5).to(dtype) for i, dtype in enumerate(reversed(DTYPES))}
    kept |= {"scalar": torch.tensor(3.0), "none": torch.empty(0, 4), "last": torch.rand(2, 3, 4, 5).mT}
    write_tensors(tmp_path / "x", {name: Rows.of(t) for name, t in kept.items()}, lambda: {"about": "x"})
    found = load_file(tmp_path / "x")
    assert found.keys() == kept.keys()
    for name, t in kept.items():
        assert (found[name].dtype, found[name].shape) == (t.dtype, t.shape)
        assert found[name].tolist() == t.tolist()


def test_an_error_leaves_what_was_there(tmp_path):
    rows = {name: Rows.of(torch.ones(3)) for name in "ab"}
    write_tensors(tmp_path / "x", rows, lambda: {})
    before = (tmp_path / "x").read_bytes()

    def seen(name, tensor):
        if name == "b":
            raise KeyError(name)

    with pytest.raises(KeyError):
        write_tensors(tmp_path / "x", rows, lambda: {"changed": "yes"}, seen=seen)
    assert (tmp_path / "x").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
