"""Post-hoc EMA: averages of any width, reconstructed after training from snapshots of two.

A run keeps power-function averages (`ema.Power`) of two widths, and saves them with each checkpoint. The profile of any
other is nearly a linear combination of theirs, by least squares. Karras et al. 2024 (arXiv 2312.02696), sec. 3.2 and
app. C.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from snrise._errors import SnriseError, invalid
from snrise.checkpoint import checkpoints
from snrise.parallel import ALONE, World
from snrise.sharding import Rows
from snrise.tensorfile import write_tensors
from snrise.training.ema import Power
from snrise.training.state import TrainState

__all__ = ["Averages", "Profile", "average", "forget_later", "save_averages", "shares"]


class Profile(NamedTuple):
    """How an average weighs the parameters after τ ≤ `images_seen` images: as τ^γ, γ that of its `power`."""

    power: Power
    images_seen: int


def shares(kept: Sequence[Profile], wanted: Profile) -> Tensor:
    """Coefficients of the kept averages whose sum is nearest to the wanted profile, by least squares: [k] in float64.

    They add up to 1 exactly, so that a weight which never changed stays as it is. A kept average is itself:

    >>> kept = [Profile(Power(width), seen) for seen in (500, 1000) for width in (0.05, 0.1)]
    >>> [abs(round(share, 6)) for share in shares(kept, kept[2]).tolist()]
    [0.0, 0.0, 1.0, 0.0]
    """
    gram = torch.tensor([[_product(a, b) for b in kept] for a in kept], dtype=torch.float64)
    aim = torch.tensor([_product(a, wanted) for a in kept], dtype=torch.float64)
    # Profiles of narrow averages are high; scaled to one height, they are weighed alike, and the numbers are harmless.
    scale = gram.diagonal().rsqrt()
    inverse = scale[:, None] * torch.linalg.pinv(scale[:, None] * gram * scale, rtol=1e-12, hermitian=True) * scale
    free, one = inverse @ aim, inverse.sum(dim=1)
    constrained: Tensor = free + one * (1 - free.sum()) / one.sum()
    return constrained


def _product(a: Profile, b: Profile) -> float:
    """∫ p_a p_b dτ, with p(τ) = (γ+1)·τ^γ/T^(γ+1) up to T."""
    early, late = sorted((a, b), key=lambda profile: profile.images_seen)
    first, second = early.power.gamma, late.power.gamma
    ratio: float = (early.images_seen / late.images_seen) ** second
    return (first + 1) * (second + 1) / (first + second + 1) * ratio / late.images_seen


@final
@dataclass(frozen=True, eq=False)
class Averages:
    """A state's averages in half precision, this process's rows of each by name, and their widths."""

    tensors: Mapping[str, Rows]
    widths: tuple[float, ...]
    images_seen: int

    @classmethod
    def of(cls, state: TrainState) -> "Averages":
        """Copies of those of a state."""
        tensors: dict[str, Rows] = {}
        widths: list[float] = []
        for i, ema in enumerate(state.powers):
            assert isinstance(ema.half_life, Power), "those of a state are powers"
            widths.append(ema.half_life.width)
            held = {f"{i}.{name}": Rows.of(t) for name, t in ema.parameters.items()}
            tensors |= {name: rows._replace(own=rows.own.half()) for name, rows in held.items()}
        return cls(tensors, tuple(widths), state.images_seen)

    def save(self, folder: Path, world: World = ALONE) -> Path | None:
        """Write `folder/IMAGES.safetensors`; None if there are none. Of several processes, all call it."""
        if not self.tensors:
            return None
        path, told = folder / f"{self.images_seen:012d}.safetensors", {"widths": json.dumps(self.widths)}
        world.agreed(lambda: write_tensors(path, self.tensors, lambda: told, world=world))
        return path


def save_averages(state: TrainState, folder: Path, world: World = ALONE) -> Path | None:
    """Write a state's averages: see `Averages`."""
    return Averages.of(state).save(folder, world)


def forget_later(folder: Path, images_seen: int) -> None:
    """Remove the averages saved after `images_seen` images, where a run resumes from there."""
    for file in checkpoints(folder):
        if int(file.stem) > images_seen:
            file.unlink()


def average(folder: Path, width: float, images_seen: int) -> dict[str, Tensor]:
    """The average of a width at `images_seen`, of the trainable parameters, by name, in float32.

    Raises:
        SnriseError: if no averages were kept, or a file of them is broken.
    """
    wanted = Profile(Power(width), images_seen)
    files = [file for file in checkpoints(folder) if int(file.stem) <= images_seen]
    if not files:
        fix = "train with training.averages=[0.05,0.1]"
        raise invalid(str(folder), "no averages", "those that a run keeps with its checkpoints", fix)
    kept = [(Profile(Power(w), int(file.stem)), file, i) for file in files for i, w in enumerate(_widths(file))]
    made: dict[str, Tensor] = {}
    for (_, file, i), share in zip(kept, shares([profile for profile, _, _ in kept], wanted).tolist(), strict=True):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                if name.startswith(f"{i}."):
                    own = name.split(".", 1)[1]
                    part = share * opened.get_tensor(name).double()
                    made[own] = made[own] + part if own in made else part
    return {name: t.float() for name, t in made.items()}


def _widths(file: Path) -> list[float]:
    try:
        with safe_open(file, framework="pt") as opened:
            return [float(width) for width in json.loads((opened.metadata() or {})["widths"])]
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise SnriseError(f"{file}: not a whole file of averages ({type(error).__name__}); remove it") from error
