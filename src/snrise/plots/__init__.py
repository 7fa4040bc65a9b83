"""Every picture: schedule curves, power of pooled images, noise at several resolutions, sample grids, loss by λ.

Charts are matplotlib figures made without pyplot, so no picture leaks into another; pictures of pixels are Pillow
images, pixel for pixel. `save` writes either.

>>> from snrise.schedules import Cosine, for_resolution
>>> schedules = {"before": Cosine(), "after": for_resolution(Cosine(), image=(512, 512))}
>>> save(schedule_curves(schedules, image=(512, 512), reference=(64, 64)), "schedule.png")  # doctest: +SKIP
"""

from snrise.plots.curves import loss_by_logsnr, schedule_curves, signal_power, training_curves
from snrise.plots.hourglass import hourglass
from snrise.plots.judged import captioned, metric_against, octaves, twins
from snrise.plots.pictures import noise_at_resolutions, sample_grid, side_by_side
from snrise.plots.planned import plan_chart, scaling_chart
from snrise.plots.style import SUFFIXES, logsnr_text, save

__all__ = [
    "SUFFIXES", "captioned", "hourglass", "logsnr_text", "loss_by_logsnr", "metric_against", "noise_at_resolutions",
    "octaves", "plan_chart", "sample_grid", "save",
    "scaling_chart", "schedule_curves", "side_by_side", "signal_power", "training_curves", "twins",
]
