"""Optimizers: each is called with a network, and gives one of PyTorch's for the parameters that are not frozen.

>>> from torch import nn
>>> type(AdamW()(nn.Linear(2, 2))).__name__
'FusedAdamW'
"""

from snrise.optimizers.adamw import AdamW
from snrise.optimizers.base import Optimizer
from snrise.optimizers.muon import Muon

__all__ = ["OPTIMIZERS", "AdamW", "Muon", "Optimizer"]

#: Every optimizer by the name that a config gives it.
OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "muon": Muon}
