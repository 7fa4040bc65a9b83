"""What a run would cost before it starts: parameters, operations and memory level by level, on any device.

`plan` is all of it; `rehearse` is one training step on fake tensors, which `ledger` counts; `probe` times real steps.

>>> from snrise import Experiment
>>> from snrise.documents import load
>>> plan(Experiment.imagined(load("emoji-32"), classes=97), device("h100")).whole.parameters
3260876
"""

from snrise.planning.devices import DEVICES, Device, device
from snrise.planning.plan import Plan, plan
from snrise.planning.probe import Probed, probe
from snrise.planning.rehearsal import Rehearsal, rehearse
from snrise.planning.table import Row

__all__ = ["DEVICES", "Device", "Plan", "Probed", "Rehearsal", "Row", "device", "plan", "probe", "rehearse"]
