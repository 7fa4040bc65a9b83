"""What was measured: a record for each case, arm and seed, in a JSON file that is added to after an interruption."""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch

from benchmarks.claims.texts import read_json, write_json

__all__ = ["Record", "Results", "Summary", "machine", "summary", "write"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Metrics of one arm with one seed, with the settings and the machine that they are of.

    seconds: that the measurement took; of one that an earlier measurement's training went into, only the rest.
    """

    case: str
    arm: str
    seed: int
    settings: str
    metrics: dict[str, float]
    seconds: float
    machine: str


#: Below, numbers are written with an exponent.
SMALL = 1e-3


class Summary(NamedTuple):
    """Mean and standard deviation (None for one) over n seeds."""

    mean: float
    spread: float | None
    n: int

    def __str__(self) -> str:
        size = self.spread or self.mean
        if 0 < abs(self.mean) < SMALL:
            return f"{self.mean:.1e}" + ("" if self.spread is None else f" ± {self.spread:.0e}")
        digits = _digits(size) if self.spread or self.mean % 1 else 0
        return f"{self.mean:.{digits}f}" + ("" if self.spread is None else f" ± {self.spread:.{digits}f}")


class Results:
    """The records in a file; each is written as soon as it is there."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._read()

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, case: str, arm: str, seed: int, settings: str) -> Record | None:
        """The record of these settings, if there is one."""
        same = (r for r in self._records if (r.case, r.arm, r.seed, r.settings) == (case, arm, seed, settings))
        return next(same, None)

    def add(self, record: Record) -> None:
        """Add a record in place of one of the same case, arm and seed, to what the file holds by now."""
        self._read()
        place = record.case, record.arm, record.seed
        self._records = [r for r in self._records if (r.case, r.arm, r.seed) != place] + [record]
        write(self._records, self.file)

    def _read(self) -> None:
        self._records = [Record(**one) for one in read_json(self.file).get("records", [])]


def write(records: Sequence[Record], file: Path) -> None:
    """Make records the content of a file of results."""
    write_json({"records": [asdict(record) for record in records]}, file)


def summary(records: Sequence[Record], case: str, arm: str, metric: str) -> Summary | None:
    """The seeds of an arm together; None without a record of this metric."""
    values = [r.metrics[metric] for r in records if (r.case, r.arm) == (case, arm) and metric in r.metrics]
    return Summary(mean(values), stdev(values) if len(values) > 1 else None, len(values)) if values else None


def machine() -> str:
    """The processor, what it can, and how many threads PyTorch has."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    capability = torch.backends.cpu.get_cpu_capability().replace("AVX512", "AVX-512")
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}, {capability}, torch {torch.__version__.partition('+')[0]}"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _digits(value: float) -> int:
    """Decimals that show two digits of a value, 6 at most."""
    return next((digits for digits in range(7) if abs(value) * 10**digits >= 10), 6)
