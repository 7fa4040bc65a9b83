"""A run: one state, a loop that is a generator, checkpoints, and images from a trained network."""

from snrise.training.checkpoint import Checkpoint, latest, load_network, load_state, read_header, save_state
from snrise.training.ema import Ema
from snrise.training.generation import Generation, draw_labels, generate
from snrise.training.loop import Recipe, Report, train
from snrise.training.optim import Decay, LearningRate, Optimizer, adamw, muon
from snrise.training.precision import Precision, autocast
from snrise.training.state import TrainState

__all__ = [
    "Checkpoint", "Decay", "Ema", "Generation", "LearningRate", "Optimizer", "Precision", "Recipe", "Report",
    "TrainState", "adamw", "autocast", "draw_labels", "generate", "latest", "load_network", "load_state", "muon",
    "read_header", "save_state", "train",
]
