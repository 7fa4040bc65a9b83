"""A run: one state, a loop that is a generator, checkpoints, and images from a trained network."""

from snrise.config import WIDEST, OnFault
from snrise.optimizers import Optimizer, adamw, muon
from snrise.precision import Precision, autocast
from snrise.rates import LearningRate
from snrise.training.averages import average, forget_later, save_averages
from snrise.training.checkpoint import (
    BrokenCheckpoint,
    Checkpoint,
    checkpoints,
    latest,
    load_latest,
    load_network,
    load_state,
    newest_whole,
    read_header,
    save_state,
)
from snrise.training.ema import Ema, Power
from snrise.training.export import WeightFormat, export_weights
from snrise.training.faults import Spikes
from snrise.training.generation import Generation, State, draw_labels, generate, trajectory
from snrise.training.loop import Report, train
from snrise.training.starting import start_from
from snrise.training.state import TrainState

__all__ = [
    "WIDEST", "BrokenCheckpoint", "Checkpoint", "Ema", "Generation", "LearningRate", "OnFault", "Optimizer",
    "Power", "Precision", "Report", "Spikes", "State", "TrainState", "WeightFormat", "adamw", "autocast",
    "average", "checkpoints", "draw_labels", "export_weights", "forget_later", "generate", "latest", "load_latest",
    "load_network", "load_state", "muon", "newest_whole", "read_header", "save_averages", "save_state", "start_from",
    "train", "trajectory",
]
