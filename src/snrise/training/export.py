"""The averaged weights of a checkpoint alone, in a file to give away: a sixth of its size in bfloat16, or a third."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from snrise._errors import invalid, require
from snrise._typing import StrEnum
from snrise.training.checkpoint import (
    COUNTS,
    FORMAT,
    Checkpoint,
    checksum,
    header_sum,
    part_of_checkpoint,
    read_header,
)
from snrise.training.files import write_atomically

__all__ = ["WeightFormat", "export_weights"]


class WeightFormat(StrEnum):
    """What the numbers in a file of weights are kept in."""

    BF16 = "bf16"
    FP32 = "fp32"


DTYPES = {WeightFormat.BF16: torch.bfloat16, WeightFormat.FP32: torch.float32}
#: What a checkpoint notes for going on with the training alone.
OF_TRAINING = ("meter", "spikes")


def export_weights(
    checkpoint: Path, out: Path, form: WeightFormat = WeightFormat.BF16, instead: Mapping[str, Tensor] | None = None
) -> Checkpoint:
    """Write the averaged weights of a checkpoint into a file of their own, with its config, counts and classes.

    `instead` are weights to take for some of them, such as an average of another width.

    Such a file samples and begins other runs as a checkpoint does, but no run goes on from it: what the optimizer knew
    is not in it. Its header's `extra` holds the checksum that these weights have in the checkpoint: `exported_from`.

    Raises:
        SnriseError: if `checkpoint` is broken or such a file itself, or if `out` exists or is no `….safetensors`.
    """
    require(out.suffix == ".safetensors", "--out", str(out), "a file ….safetensors")
    require(not out.exists(), "--out", str(out), "a file that is not there yet", "remove it, or choose another")
    header = read_header(checkpoint)
    if header.weights_alone:
        raise invalid(str(checkpoint), "weights that were exported already", "a run, or a checkpoint of one")
    weights = part_of_checkpoint(checkpoint, "ema") | {f"ema.{name}": t for name, t in (instead or {}).items()}
    tensors = {name: t.to(DTYPES[form]).contiguous() for name, t in weights.items()}
    extra = {name: value for name, value in header.extra.items() if name not in OF_TRAINING}
    told = {
        "format": FORMAT, "parts": ["ema"], **{name: getattr(header, name) for name in COUNTS}, "optimizer": {},
        "extra": extra | {"exported_from": header.checksums["ema"], "weights": str(form)},
    }
    metadata = {"snrise": json.dumps(told), "config": header.config}
    metadata["checksums"] = json.dumps({"ema": checksum(tensors), "header": header_sum(metadata)})
    write_atomically(out, save(tensors, metadata))
    return read_header(out)
