"""How well a network fits images that it has not seen: its loss by noise level, and a bound of their likelihood."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from snrise.data import Dataset, to_float
from snrise.denoisers import from_network
from snrise.metrics import LossByLogsnr, VariationalBound, joined, loss_by_logsnr, variational_bound
from snrise.networks.base import evaluating
from snrise.precision import autocast
from snrise.samplers import generators
from snrise.trained import Trained

__all__ = ["Fit", "fit"]

#: λ at which the loss is told: within them, the training of most schedules lies.
LEVELS = torch.tensor([-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0])
#: Bins of λ of the bound, equally wide.
BINS = 24
#: Beyond the second, a denoiser that does not know that pixels have 256 levels pays for nothing.
ENDS = -20, 10


class Fit(NamedTuple):
    """The ε-loss by λ, and the variational bound in bits per dimension with its parts."""

    loss: LossByLogsnr
    bound: VariationalBound

    def __str__(self) -> str:
        return f"{self.loss}\n{self.bound}"

    def as_json(self) -> dict[str, Any]:
        """Every mean."""
        bound = self.bound
        return {
            "images": len(self.loss.losses), "logsnrs": self.loss.logsnrs.tolist(),
            "eps_loss": self.loss.mean.tolist(), "eps_loss_error": self.loss.standard_error.tolist(),
            "bits_per_dimension": bound.total.value, "bits_per_dimension_error": bound.total.standard_error,
            **{name: getattr(bound, name).value for name in ("prior", "diffusion", "reconstruction")},
            "bound_edges": bound.logsnrs.tolist(), "bits_by_logsnr": bound.by_logsnr.tolist(),
        }


@torch.no_grad()
def fit(
    trained: Trained, dataset: Dataset, number: int, *, batch: int = 64, seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> Fit:
    """Measure on `number` images of a data set, evenly taken; each has its own noise, a function of the seed.

    The network is told the images' classes where the data set has those it was trained with, and no guidance is used.
    The ends of the bound are those of the run's schedule, within −20 and 10. `watch` takes the images done.
    """
    how = trained.generation()
    device = how.device
    number = min(number, len(dataset))
    chosen = [i * len(dataset) // number for i in range(number)]
    low, high = how.schedule(torch.tensor([1.0, 0.0], dtype=torch.float64)).clamp(*ENDS).tolist()
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)
    known = dataset.labels is not None and dataset.source.classes == trained.classes
    losses, bounds = [], []
    for first in range(0, number, batch):
        indices = chosen[first : first + batch]
        pixels = dataset.images(indices).to(device)
        labels = dataset.labels[indices].to(device) if known and dataset.labels is not None else None
        denoise = from_network(trained.network, how.target, labels)
        with evaluating(trained.network), autocast(device, how.precision):
            own = generators(seed, first, len(indices))
            losses.append(loss_by_logsnr(denoise, to_float(pixels), LEVELS, own))
            bounds.append(variational_bound(denoise, pixels, edges, own))
        if watch is not None:
            watch(first + len(indices))
    return Fit(joined(losses), joined(bounds))
