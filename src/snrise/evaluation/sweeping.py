"""One trained network, sampled with several settings, each judged against its cost in network evaluations."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from snrise._errors import SnriseError
from snrise.evaluation.judging import judge, measures
from snrise.evaluation.reference import Reference
from snrise.files import write_atomically
from snrise.parallel import ALONE, World
from snrise.trained import Trained

__all__ = ["Way", "counted", "sweep", "ways"]


@final
@dataclass(frozen=True)
class Way:
    """One combination: settings of sampling as `key=value`, and a width of the average; both override the run's."""

    settings: tuple[str, ...]
    ema: float | None = None

    def __str__(self) -> str:
        names = [s.removeprefix("sampling.") for s in self.settings]
        return " ".join([*names, *([] if self.ema is None else [f"ema={self.ema}"])]) or "the run's"


def ways(**choices: Sequence[str]) -> list[Way]:
    """Every combination of values of settings of sampling.

    >>> [str(way) for way in ways(steps=["8", "16"], guidance=["1.5"])]
    ['steps=8 guidance=1.5', 'steps=16 guidance=1.5']
    """
    names = [name for name, values in choices.items() if values]
    combined = product(*(choices[name] for name in names))
    return [Way(tuple(f"sampling.{n}={v}" for n, v in zip(names, values, strict=True))) for values in combined]


@final
class counted:
    """As a context: counts in `count` the images that a network is evaluated on.

    >>> import torch
    >>> network = nn.Identity()
    >>> with counted(network) as calls:
    ...     _ = network(torch.zeros(4, 3, 8, 8)), network(torch.zeros(2, 3, 8, 8))
    >>> calls.count
    6
    """

    def __init__(self, network: nn.Module) -> None:
        self.network, self.count = network, 0

    def __enter__(self) -> "counted":
        self._hook = self.network.register_forward_pre_hook(self._add)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _add(self, network: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.count += len(inputs[0])


def sweep(
    opened: Callable[[float | None], Trained], chosen: Sequence[Way], reference: Reference, *, number: int,
    seeds: int, file: Path, batch: int = 64, watch: Callable[[float], None] | None = None, world: World = ALONE,
) -> Iterator[dict[str, Any]]:
    """Yield the results of each combination and seed, read from the file, or else measured and added to it.

    `opened` gives the network for a width of the average, None for the run's own. A result is a line of JSON: settings,
    seed, network evaluations an image, seconds, and the numbers of `judge`. `watch` is called with the number of
    pictures made in total. Several processes make the pictures together, and all get the results; seconds are the sum
    of theirs.
    """
    lines = world.first(lambda: _whole(file))
    done, expected = {_key(line): line for line in lines}, measures(reference.extractor).keys()
    for before, (way, seed) in enumerate(product(chosen, range(seeds))):
        trained = opened(way.ema)
        asked = {
            "settings": list(way.settings), "ema": way.ema, "seed": seed, "number": number,
            "features": reference.extractor.name, "images_seen": trained.images_seen,
            "data": reference.dataset.fingerprint,
        }
        world.agree("sweep", {"weights": trained.fingerprint, "asked": _key(asked)})
        line = done.get(_key(asked), {})
        if not line.keys() >= expected:  # a metric may have been added since
            told = _from(before * number, watch)
            line = asked | _measure(trained, way, reference, number, seed, batch, told, world)
            lines.append(line)
            world.first(lambda: write_atomically(file, "".join(json.dumps(one) + "\n" for one in lines).encode()))
        yield line


def _measure(
    trained: Trained, way: Way, reference: Reference, number: int, seed: int, batch: int,
    watch: Callable[[float], None] | None, world: World,
) -> dict[str, Any]:
    spent: list[float] = []
    with counted(trained.network) as calls:
        parts = trained.with_sampling(way.settings).samples(number, seed=seed, batch=batch, watch=watch, world=world)
        judgement = judge(_timed(parts, spent), reference, world=world)
    evaluations, seconds = map(sum, zip(*world.gathered((calls.count, sum(spent))), strict=True))
    return {"evaluations": evaluations / number, "seconds": seconds} | judgement.as_json()


def _from(before: int, watch: Callable[[float], None] | None) -> Callable[[float], None] | None:
    """`watch`, called with the pictures of one combination on top of those made before."""
    return None if watch is None else lambda made: watch(before + made)


def _timed(parts: Iterator[Tensor], spent: list[float]) -> Iterator[Tensor]:
    """Yield the parts, and append the seconds that each took to `spent`."""
    started = time.perf_counter()
    for part in parts:
        spent.append(time.perf_counter() - started)
        yield part
        started = time.perf_counter()


def _key(line: dict[str, Any]) -> str:
    names = ("settings", "ema", "seed", "number", "features", "images_seen", "data")
    return json.dumps([line.get(name) for name in names])


def _whole(file: Path) -> list[dict[str, Any]]:
    """The lines of a file, none if there is no file.

    Raises:
        SnriseError: if one is not JSON.
    """
    if not file.exists():
        return []
    try:
        return [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise SnriseError(f"{file}: holds a line that is not JSON: {error}; mend it, or choose another --out") from None
