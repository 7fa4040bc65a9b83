"""Metrics: pure functions of features, of images and of denoisers; and the features."""

from snrise.metrics.estimates import Estimate, joined
from snrise.metrics.features import FEATURES, Extractor, efficientnet_lite0, extractor_named
from snrise.metrics.flow import (
    Basis,
    FlowLikelihood,
    Rademacher,
    flow_likelihood,
    flow_log_density,
    heun_step,
    rk4_step,
)
from snrise.metrics.frechet import Moments, frechet, frechet_caution
from snrise.metrics.kernel import kernel_distance
from snrise.metrics.likelihood import ContinuousTime, DiscreteTime, VariationalBound, diffusion_loss, variational_bound
from snrise.metrics.neighbours import Nearest, Prdc, nearest, prdc
from snrise.metrics.pairs import psnr, ssim
from snrise.metrics.perception import PERCEPTUAL, Perceptual, perceptual
from snrise.metrics.scores import (
    Better,
    Metric,
    PrdcScores,
    Score,
    Statistics,
    frechet_score,
    kernel_score,
    spectral_score,
)
from snrise.metrics.spectrum import SpectralDistance, grid_excess, octave_names, radial_power, spectral_distance
from snrise.metrics.validation import LossByLogsnr, loss_by_logsnr

__all__ = [
    "FEATURES", "METRICS", "PERCEPTUAL", "Basis", "Better", "ContinuousTime", "DiscreteTime", "Estimate", "Extractor",
    "FlowLikelihood", "LossByLogsnr", "Metric", "Moments", "Nearest", "Perceptual", "Prdc", "PrdcScores",
    "Rademacher", "Score", "SpectralDistance", "Statistics", "VariationalBound", "diffusion_loss",
    "efficientnet_lite0", "extractor_named", "flow_likelihood", "flow_log_density", "frechet", "frechet_caution",
    "grid_excess", "heun_step", "joined", "kernel_distance", "loss_by_logsnr", "nearest", "octave_names",
    "perceptual", "prdc", "psnr", "radial_power", "rk4_step", "spectral_distance", "ssim", "variational_bound",
]

#: What samples are judged by, in the order in which it is reported.
METRICS: dict[str, Metric] = {
    "kernel": kernel_score, "frechet": frechet_score, "prdc": PrdcScores(), "spectrum": spectral_score,
}
