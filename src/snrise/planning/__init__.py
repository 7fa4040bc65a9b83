"""What a run would cost before it starts: parameters, operations and memory level by level, on any device.

`plan` is all of it, `scaling` a step on more and more devices; `rehearse` is one training step on fake tensors, which
`ledger` counts; `probe` times real steps.

>>> device("h100").usable < device("h100").memory
True
"""

from snrise.planning.cluster import Cluster, Traffic, all_gather, all_reduce, reduce_scatter
from snrise.planning.devices import DEVICES, Device, device
from snrise.planning.distributed import AUTO, Distributed, distribute, scaling
from snrise.planning.links import LINKS, Link
from snrise.planning.parallel import PARALLEL, Demand, Parallel
from snrise.planning.plan import Plan, plan
from snrise.planning.probe import Probed, probe
from snrise.planning.rehearsal import Rehearsal, rehearse
from snrise.planning.table import Row

__all__ = [
    "AUTO", "DEVICES", "LINKS", "PARALLEL", "Cluster", "Demand", "Device", "Distributed", "Link", "Parallel", "Plan",
    "Probed", "Rehearsal", "Row", "Traffic", "all_gather", "all_reduce", "device", "distribute", "plan", "probe",
    "reduce_scatter", "rehearse", "scaling",
]
