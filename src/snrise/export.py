"""The averaged weights of a checkpoint alone, in a file to distribute: a sixth of its size in bfloat16, or a third."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from snrise._errors import invalid, require
from snrise._typing import StrEnum
from snrise.checkpoint import COUNTS, Checkpoint, read_header, read_parts, write_checkpoint

__all__ = ["DTYPES", "WeightFormat", "export_weights", "write_weights"]


class WeightFormat(StrEnum):
    """The precision in which exported weights are stored."""

    BF16 = "bf16"
    FP32 = "fp32"


DTYPES = {WeightFormat.BF16: torch.bfloat16, WeightFormat.FP32: torch.float32}
#: Entries of a checkpoint that are needed to resume training alone.
OF_TRAINING = ("meter", "spikes")


def export_weights(
    checkpoint: Path, out: Path, form: WeightFormat = WeightFormat.BF16, instead: Mapping[str, Tensor] | None = None
) -> Checkpoint:
    """Write the averaged weights of a checkpoint into a file of their own, with its config, counts and classes.

    `instead` are weights that replace some of them, such as an average of another width.

    Such a file can be sampled from, and other runs initialised from it, but no run resumes from it: it holds no
    optimizer state. Its header's `extra` holds the checksum of these weights in the checkpoint: `exported_from`.

    Raises:
        SnriseError: if `checkpoint` is broken or such a file itself, or if `out` exists or is no `….safetensors`.
    """
    require(out.suffix == ".safetensors", "--out", str(out), "a file ….safetensors")
    require(not out.exists(), "--out", str(out), "a file that is not there yet", "remove it, or choose another")
    header = read_header(checkpoint)
    if header.weights_alone:
        raise invalid(str(checkpoint), "weights that were exported already", "a run, or a checkpoint of one")
    return write_weights(header, out, form, header.config, instead or {})


def write_weights(
    header: Checkpoint, out: Path, form: WeightFormat, config: str, instead: Mapping[str, Tensor]
) -> Checkpoint:
    """Write the averaged weights of a checkpoint, or of exported ones, with settings that may say less than its own.

    Raises:
        SnriseError: if the checkpoint is broken, or the file cannot be written.
    """
    weights = read_parts(header, ("ema",)) | {f"ema.{name}": t for name, t in instead.items()}
    tensors = {name: t.to(DTYPES[form]).contiguous() for name, t in weights.items()}
    extra = {name: value for name, value in header.extra.items() if name not in OF_TRAINING}
    exported = {
        "parts": ["ema"], **{name: getattr(header, name) for name in COUNTS}, "optimizer": {},
        "extra": {"exported_from": header.checksums["ema"]} | extra | {"weights": str(form)},
    }
    write_checkpoint(out, exported, config, tensors)
    return read_header(out)
