"""A run and its folder: fixed settings, logs, grids of samples, checkpoints, and recovery from faults.

    config.yaml           all settings, defaults included, and the versions and data that made the run
    checkpoints/*.safetensors
    log.jsonl             means over each interval
    events.jsonl          loss spikes and dropped steps, with λ and file names
    skipped.txt           files that could not be read, if any
    samples/*.png         grids from the averaged weights
    tensorboard/
"""

from snrise.runs.folder import MAY_CHANGE, RunFolder, saved_config, settle
from snrise.runs.notes import notes
from snrise.runs.pace import Pace, measure
from snrise.runs.provenance import made_with
from snrise.runs.run import Run
from snrise.runs.starting import train
from snrise.runs.summary import Summary, summarize

__all__ = [
    "MAY_CHANGE", "Pace", "Run", "RunFolder", "Summary", "made_with", "measure", "notes", "saved_config", "settle",
    "summarize", "train",
]
