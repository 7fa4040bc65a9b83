"""Growing to twice the resolution: the settings of a nest around a trained network, with measured detail bands."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from snrise import trained
from snrise._errors import require
from snrise.config import RunConfig
from snrise.experiment import dataset
from snrise.networks import NestedConfig
from snrise.networks.haar import band_variances
from snrise.schedules import Shifted
from snrise.weightings import Edm

__all__ = ["grown", "with_measured_bands"]

#: The power of detail bands is measured on at most so many images.
MEASURED = 512
#: The default blocks of an outer level.
OUTER = {"channels": 64, "blocks": 3, "kind": "local"}
#: The crop size, in pixels, on which an outer level is trained, where images are larger.
CROP = 64
#: The power of rounding to 256 grey levels, (2/255)²/12: a lower bound for that of a band.
ROUNDING = 5e-6
#: Placeholder for variances yet to be measured; no images have bands as strong as noise.
UNMEASURED = (1.0, 1.0, 1.0)


def grown(path: Path, factor: int) -> dict[str, Any]:
    """The settings of a run at twice another's resolution, whose network becomes the inner one of a nest.

    The power of the images' detail bands is yet unknown: `with_measured_bands` enters it.
    """
    require(factor == 2, "--grow", factor, "2", "grow an octave at a time: each begins with the one below")
    document = trained.transferred(path)
    data = document["data"]
    data["resolution"] = [2 * side for side in data["resolution"]]
    inner = document["network"]
    if inner.get("kind") == "nested":
        inner = inner | {"crop": None}
        document["loss"]["levels"]["draw"] = None  # it was for the bands of the level below
    network = {
        "kind": "nested", "inner": inner, "level": inner.get("level", dict(OUTER)), "variances": list(UNMEASURED),
        "crop": CROP if max(data["resolution"]) > CROP else None,
    }
    return document | {"name": document["name"].removesuffix("-on") + "-grown", "network": network}


def with_measured_bands(config: RunConfig) -> RunConfig:
    """The settings with the power of the detail bands of the run's own images, where it has not been measured yet.

    With s² their mean, the loss is that of the outer level, and λ is drawn where bands are comparable to the noise: at
    λ + 2 log s of the base schedule. Where `loss.levels.draw` is given, the loss is left as it is.
    """
    network = config.network
    if not isinstance(network, NestedConfig) or network.variances != UNMEASURED:
        return config
    images = dataset(config)
    shown = images.images(images.spread(MEASURED))
    a, b, c = (float(f"{max(v, ROUNDING):.3g}") for v in band_variances(config.codec.encode(shown)).tolist())
    loss, size = config.loss, float(f"{((a + b + c) / 3) ** 0.5:.3g}")
    if loss.levels.draw is None:
        draw = Shifted(base=config.schedule.base, factor=size)
        loss = replace(loss, weighting=Edm(sigma_data=size), levels=replace(loss.levels, draw=draw))
    return replace(config, network=replace(network, variances=(a, b, c)), loss=loss)
