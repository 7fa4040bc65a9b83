"""Metrics: pure functions of features, and the features."""

from snrise.metrics.features import efficientnet_lite0
from snrise.metrics.kernel import KernelDistance, kernel_distance

__all__ = ["KernelDistance", "efficientnet_lite0", "kernel_distance"]
