"""What the search has chosen for each system and side, and all its trials, kept with the claim."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from benchmarks.claims.peers.contender import Way
from benchmarks.claims.texts import read_json, write_json

__all__ = ["JUDGE", "Choice", "Trial", "choice", "choose", "chosen", "keep", "tried"]

CHOICES = Path(__file__).parent / "choices.json"
#: What decides.
JUDGE = "KID-EffNet"
#: A choice, with its score and whatever else is told of it.
Trial = dict[str, Any]


@final
@dataclass(frozen=True, kw_only=True)
class Choice:
    """A size, a learning rate and a way of sampling."""

    size: str
    rate: float
    way: Way

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Choice":
        """What a document, such as a trial, tells."""
        return cls(size=told["size"], rate=told["rate"], way=Way(*told["way"]))

    def as_json(self) -> dict[str, Any]:
        """The inverse of `of`."""
        return {"size": self.size, "rate": self.rate, "way": list(self.way)}

    def __str__(self) -> str:
        return f"{self.size}, learning rate {self.rate:g}, {self.way}"


def choice(trials: list[Trial]) -> Choice:
    """The trial with the lowest score."""
    return Choice.of(min(trials, key=lambda told: told[JUDGE]))


def chosen(name: str, side: int) -> Choice | None:
    """What a search came to; None where there was none, or it was interrupted."""
    picked = _kept(name, side).get("chosen")
    return None if picked is None else Choice.of(picked)


def choose(name: str, side: int, picked: Choice) -> None:
    """Keep what a search came to."""
    _write(name, side, {"chosen": picked.as_json(), "trials": tried(name, side)})


def tried(name: str, side: int) -> list[Trial]:
    """The trials so far, whatever networks they were of."""
    trials: list[Trial] = _kept(name, side).get("trials", [])
    return trials


def keep(name: str, side: int, trial: Trial) -> None:
    """Keep one more trial."""
    _write(name, side, {**_kept(name, side), "trials": [*tried(name, side), trial]})


def _kept(name: str, side: int) -> dict[str, Any]:
    kept: dict[str, Any] = read_json(CHOICES).get(name, {}).get(str(side), {})
    return kept


def _write(name: str, side: int, told: dict[str, Any]) -> None:
    kept = read_json(CHOICES)
    kept.setdefault(name, {})[str(side)] = told
    write_json(kept, CHOICES)
