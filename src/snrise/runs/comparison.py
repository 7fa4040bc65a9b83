"""Several experiments trained with the same budget and seeds and judged alike: one table, also after interruptions."""

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple, TypeVar, final

from snrise._errors import SnriseError, require
from snrise._typing import type_name
from snrise.config import RunConfig
from snrise.construct import plain
from snrise.data import ByIndex
from snrise.documents import differences
from snrise.encoding import encoded
from snrise.evaluation import Reference, judge, measures
from snrise.experiment import Experiment, compared
from snrise.files import write_atomically
from snrise.metrics import Better, Extractor
from snrise.runs.run import Run
from snrise.runs.summary import summarize
from snrise.trained import load
from snrise.training import checkpoints

__all__ = ["Comparison", "Point", "Row", "check_alike", "curve", "table"]

T = TypeVar("T")
#: Beside the metrics of a moment in a file.
RATE = "pictures per second"


class Point(NamedTuple):
    """The judgement of one run after some images: arm, seed, images, seconds of training, and metrics by name.

    Of an arm on codes, the seconds are those of its codec, too. pictures_per_second: how fast it was sampled.
    """

    arm: str
    seed: int
    images_seen: int
    seconds: float
    metrics: dict[str, Any]
    pictures_per_second: float | None = None


class Row(NamedTuple):
    """An arm at the end of its runs: mean and standard deviation of a metric over n seeds."""

    arm: str
    mean: float
    spread: float | None
    n: int


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms by name, each settings or an experiment, which say how long it trains; a run in `folder` per arm and seed.

    Settings are built anew for every seed. The runs of an experiment all start from its network's weights, and leave
    them as they are: their seeds differ in noise and data order only.

    number: pictures that are judged at each of `points` moments of a run, the last one at its end. before: the seconds
    that an arm had spent before it was trained, on its codec: they count as its own.

    Raises:
        SnriseError: for no arm, or one on data that cannot be taken by index, which samples could not be judged by.
    """

    folder: Path
    arms: Mapping[str, RunConfig | Experiment]
    seeds: int
    number: int
    extractor: Extractor
    points: int = 4
    before: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(self.arms) >= 1, "Comparison.arms", len(self.arms), "one arm or more")
        for name in ("seeds", "points"):
            value = getattr(self, name)
            require(value >= 1, f"Comparison.{name}", value, "a whole number above 0")
        for name, arm in self.arms.items():
            if isinstance(arm, Experiment):
                where, allowed = f"Comparison.arms.{name}", "data by index: a map-style data set, or one of snrise.data"
                require(isinstance(arm.dataset, ByIndex), where, type_name(arm.dataset), allowed)
                upsample, fix = arm.sampling.upsample, "give its settings instead"
                require(upsample == 1, f"{where}.sampling.upsample", upsample, "1 for an experiment", fix)

    def images(self, arm: str) -> int:
        """How many images each run of an arm sees."""
        base = self.arms[arm]
        return base.images if isinstance(base, Experiment) else base.training.images

    def experiment(self, arm: str, seed: int, device: Any = None) -> Experiment:
        """The experiment of one run."""
        base, every = self.arms[arm], self._every(arm)
        log = replace(base.log, checkpoint=every, keep_every=every, samples=self.images(arm))
        if isinstance(base, Experiment):
            return replace(base, name=arm, seed=seed, log=log, network=deepcopy(base.network))
        return encoded(Experiment.of(replace(base, name=arm, seed=seed, log=log), device=device))

    def run_folder(self, arm: str, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / f"{arm}-seed{seed}"

    def train(self, arm: str, seed: int, device: Any = None) -> Generator[int, None, None]:
        """Train one run to its end, resuming it if it was begun; yields images seen. Closed early, it saves first."""
        folder = self.run_folder(arm, seed)
        files = checkpoints(folder / "checkpoints")
        if files and _seen(files[-1]) >= self.images(arm):
            return
        with Run(self.experiment(arm, seed, device), folder, tell=lambda line: None) as run:
            try:
                for report in run:
                    yield report.images_seen
            finally:
                run.save()
            run.draw()

    def judge(
        self, arm: str, seed: int, device: Any = None, watch: Callable[[float], None] | None = None
    ) -> Iterator[Point]:
        """Judge each kept checkpoint of a run, unless it was before; `watch` gets the number of its pictures made."""
        folder = self.run_folder(arm, seed)
        file = folder / "points.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        times, expected = _seconds(folder), measures(self.extractor).keys()
        base = self.arms[arm]
        data = base.dataset if isinstance(base, Experiment) else compared(base)
        reference = Reference.of(data, self.extractor)  # type: ignore[arg-type]  # checked above
        for checkpoint in self._moments(arm, folder):
            key = f"{_seen(checkpoint)} images seen, {self.number} pictures, {self.extractor.name}"
            if not known.get(key, {}).keys() >= expected:  # a metric may have been added since
                network = deepcopy(base.network) if isinstance(base, Experiment) else None
                trained = load(checkpoint, network=network, device=device)
                samples = trained.samples(self.number, context=data.contexts(self.number), watch=watch)
                clock = Clock()
                known[key] = judge(clock(samples), reference).as_json()
                known[key][RATE] = self.number / clock.seconds
                write_atomically(file, json.dumps(known, indent=1).encode())
            spent = self.before.get(arm, 0.0) + times(_seen(checkpoint))
            metrics = {name: value for name, value in known[key].items() if name != RATE}
            yield Point(arm, seed, _seen(checkpoint), spent, metrics, known[key].get(RATE))

    def _moments(self, arm: str, folder: Path) -> list[Path]:
        """The first checkpoint at or after each moment, and the last: not those that an interruption left."""
        files, every = checkpoints(folder / "checkpoints"), self._every(arm)
        firsts = {_seen(file) // every: file for file in reversed(files)}
        return sorted({*(file for moment, file in firsts.items() if moment), files[-1]})

    def _every(self, arm: str) -> int:
        """Images from one moment to the next."""
        return -(-self.images(arm) // self.points)


class Clock:
    """Counts the seconds that an iterator takes to yield, not what is done with what it yields."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, items: Iterable[T]) -> Iterator[T]:
        stream, last = iter(items), object()
        while True:
            started = time.perf_counter()
            item = next(stream, last)
            self.seconds += time.perf_counter() - started
            if item is last:
                return
            yield item  # type: ignore[misc]


def table(points: Sequence[Point], metric: str, better: Better = Better.LOWER) -> list[Row]:
    """Each arm at its end, the best first; the spread is the standard deviation over seeds, None for one."""
    rows = []
    for arm in dict.fromkeys(point.arm for point in points):
        mine = [point for point in points if point.arm == arm]
        end = max(point.images_seen for point in mine)
        values = [point.metrics[metric] for point in mine if point.images_seen == end]
        rows.append(Row(arm, mean(values), stdev(values) if len(values) > 1 else None, len(values)))
    return sorted(rows, key=lambda row: better.rank(row.mean))


def curve(points: Sequence[Point], arm: str, metric: str) -> list[tuple[float, float, float]]:
    """An arm along its runs: seconds of training, the metric, and its spread over seeds (0 for one)."""
    moments: dict[int, list[Point]] = {}
    for point in points:
        if point.arm == arm:
            moments.setdefault(point.images_seen, []).append(point)
    means = []
    for _, at in sorted(moments.items()):
        values = [point.metrics[metric] for point in at]
        spread = stdev(values) if len(values) > 1 else 0.0
        means.append((mean(point.seconds for point in at), mean(values), spread))
    return means


def check_alike(arms: Mapping[str, RunConfig]) -> None:
    """Raise if two arms have the same settings."""
    seen: dict[str, dict[str, Any]] = {}
    for name, config in arms.items():
        document = plain(replace(config, name="arm", seed=0))
        for other, known in seen.items():
            if not differences(known, document):
                raise SnriseError(f"compare: {name} and {other} have the same settings; leave one out")
        seen[name] = document


def _seen(checkpoint: Path) -> int:
    return int(checkpoint.stem)


def _seconds(folder: Path) -> Callable[[int], float]:
    """Seconds of training after a number of images, by the speeds in a run's log."""
    lines = summarize(folder).lines
    seen = [0, *(line["images_seen"] for line in lines)]
    each = [(b - a) / line["images_per_second"] for a, b, line in zip(seen, seen[1:], lines, strict=False)]

    def until(images: int) -> float:
        whole = [seconds for seconds, end in zip(each, seen[1:], strict=True) if end <= images]
        rest = next((line for line in lines if line["images_seen"] > images), None)
        behind = seen[len(whole)]
        return float(sum(whole) + (0.0 if rest is None else (images - behind) / rest["images_per_second"]))

    return until
