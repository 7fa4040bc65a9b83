"""Training: one state, a loop that is a generator, averages of the weights, and the state in checkpoints."""

from snrise.checkpoint import (
    BrokenCheckpoint,
    Checkpoint,
    checkpoints,
    latest,
    load_network,
    newest_whole,
    read_header,
)
from snrise.config import WIDEST, OnFault
from snrise.optimizers import Optimizer
from snrise.precision import Precision, autocast
from snrise.rates import LearningRate
from snrise.training.averages import average, forget_later, save_averages
from snrise.training.ema import Ema, Power
from snrise.training.faults import Spikes
from snrise.training.loop import Report, train
from snrise.training.saving import load_latest, load_state, save_state
from snrise.training.starting import start_from
from snrise.training.state import TrainState

__all__ = [
    "WIDEST", "BrokenCheckpoint", "Checkpoint", "Ema", "LearningRate", "OnFault", "Optimizer", "Power", "Precision",
    "Report", "Spikes", "TrainState", "autocast", "average", "checkpoints", "forget_later", "latest",
    "load_latest", "load_network", "load_state", "newest_whole", "read_header", "save_averages", "save_state",
    "start_from", "train",
]
