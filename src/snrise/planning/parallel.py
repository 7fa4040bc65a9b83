"""Data parallelism: what a rank holds and sends where the network is replicated (DDP) or sharded (FSDP)."""

from dataclasses import dataclass, replace
from typing import Protocol, final

from torch import nn

from snrise.planning.cluster import Cluster, Traffic, all_gather, all_reduce, reduce_scatter
from snrise.planning.ledger import bytes_of
from snrise.planning.rehearsal import Rehearsal
from snrise.precision import Precision

__all__ = ["PARALLEL", "Demand", "Replicated", "Sharded", "Way"]

#: The share of a step's operations that is the backward pass, at two products for each of the forward pass.
BACKWARD = 2 / 3
NOTHING = Traffic()


@final
@dataclass(frozen=True, kw_only=True)
class Demand:
    """The traffic of a step by rank, during the forward and the backward pass.

    Communication is assumed to overlap with computation: the forward pass's with all of that, the backward pass's with
    a `window` of the step's operations, a share of them.
    """

    forward: Traffic = NOTHING
    backward: Traffic = NOTHING
    window: float = BACKWARD

    @property
    def traffic(self) -> Traffic:
        """That of the step."""
        return self.forward + self.backward

    def seconds(self, compute: float, cluster: Cluster) -> float:
        """The time of a step that computes for so many seconds."""
        forward, backward = cluster.seconds(self.forward), cluster.seconds(self.backward)
        exposed = max(0.0, forward - (1 - BACKWARD) * compute), max(0.0, backward - self.window * compute)
        return compute + sum(exposed)


class Way(Protocol):
    """A way to train one network on many devices."""

    def shards(self, ranks: int) -> int:
        """Into how many shards the network's state is divided: see `rehearse`."""
        ...

    def held(self, step: Rehearsal, ranks: int) -> Rehearsal:
        """The step of a rank, from one rehearsed with so many shards: what communication holds is added."""
        ...

    def demand(self, network: nn.Module, cluster: Cluster, parts: int, precision: Precision) -> Demand:
        """The traffic of a step in so many micro-batches."""
        ...


@final
@dataclass(frozen=True)
class Replicated:
    """DDP: each rank holds all; gradients are summed once a step, during the last micro-batch's backward pass.

    The buckets in which they are summed are copies of the gradients, as with PyTorch's default of
    `gradient_as_bucket_view=False`, and stay. Li et al. 2020 (arXiv 2006.15704), sec. 3.2.
    """

    def shards(self, ranks: int) -> int:
        return 1

    def held(self, step: Rehearsal, ranks: int) -> Rehearsal:
        if ranks == 1:
            return step
        static = {**step.static, "gradient buckets": step.gradients}
        return replace(step, static=static, peak=step.peak + step.gradients)

    def demand(self, network: nn.Module, cluster: Cluster, parts: int, precision: Precision) -> Demand:
        gradients = bytes_of(p for p in network.parameters() if p.requires_grad)
        return Demand(backward=all_reduce(gradients, cluster), window=BACKWARD / parts)


@final
@dataclass(frozen=True)
class Sharded:
    """FSDP: parameters, gradients, optimizer state and averages are sharded over all ranks.

    In each micro-batch parameters are gathered for the forward and again for the backward pass, and gradients reduced
    to shards: Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054), sec. 7.2.2. Parameters are sent in what products are
    computed in, gradients in float32. What an optimizer does between its shards is not counted.
    """

    def shards(self, ranks: int) -> int:
        return ranks

    def held(self, step: Rehearsal, ranks: int) -> Rehearsal:
        return step

    def demand(self, network: nn.Module, cluster: Cluster, parts: int, precision: Precision) -> Demand:
        size = bytes_of(network.parameters())
        gather = all_gather(size / 2 if precision is Precision.BF16 else size, cluster)
        scatter = reduce_scatter(bytes_of(p for p in network.parameters() if p.requires_grad), cluster)
        return Demand(forward=gather.times(parts), backward=(gather + scatter).times(parts))


#: Ways by name, in the order in which they are tried.
PARALLEL: dict[str, Way] = {"ddp": Replicated(), "fsdp": Sharded()}
