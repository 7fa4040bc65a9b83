"""Metrics: pure functions of features, and the features."""

from snrise.metrics.estimates import Estimate, joined
from snrise.metrics.features import efficientnet_lite0
from snrise.metrics.flow import Basis, FlowLikelihood, Rademacher, flow_likelihood, flow_log_density
from snrise.metrics.kernel import KernelDistance, kernel_distance
from snrise.metrics.likelihood import ContinuousTime, DiscreteTime, VariationalBound, diffusion_loss, variational_bound
from snrise.metrics.validation import LossByLogsnr, loss_by_logsnr

__all__ = [
    "Basis", "ContinuousTime", "DiscreteTime", "Estimate", "FlowLikelihood", "KernelDistance", "LossByLogsnr",
    "Rademacher", "VariationalBound", "diffusion_loss", "efficientnet_lite0", "flow_likelihood", "flow_log_density",
    "joined", "kernel_distance", "loss_by_logsnr", "variational_bound",
]
