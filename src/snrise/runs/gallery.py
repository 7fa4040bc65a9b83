"""Generated pictures by number, each with its settings embedded, in a folder that can be filled in several runs.

>>> gallery = Gallery(trained=snrise.load("runs/emoji-32"), seed=1)  # doctest: +SKIP
>>> for done in gallery.fill(Path("pictures"), range(10_000)):  # doctest: +SKIP
...     print(f"{done} pictures are there")
"""

import io
import json
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from snrise import documents
from snrise._errors import SnriseError, invalid
from snrise._typing import Labels
from snrise.construct import construct, plain
from snrise.files import held, write_atomically
from snrise.generation import Generation, State, generate, trajectory
from snrise.parallel import ALONE, World
from snrise.samplers import Grid
from snrise.trained import Trained

__all__ = ["KEY", "SETTINGS", "Gallery", "as_png", "command_of", "origin_of"]

#: The keyword of a PNG's text chunk with the settings that it was generated with.
KEY = "snrise"
#: The file of a folder of pictures with the settings that they are generated with.
SETTINGS = "sampling.json"
#: How every PNG begins and ends; PNG specification, 5.2 and 11.2.5.
PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"


@final
@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures of a network and a seed. Each depends on its number, the seed and its class only.

    `classes` are names that the pictures cycle through; without any, classes are drawn in the data's proportions.
    `weak` is a weaker run to guide away from (autoguidance).
    """

    trained: Trained
    seed: int = 0
    classes: tuple[str, ...] = ()
    weak: Trained | None = None

    @cached_property
    def generation(self) -> Generation:
        """How pictures are sampled."""
        return self.trained.generation(None if self.weak is None else self.weak.network)

    def labels(self, numbers: range) -> Labels | None:
        """The class numbers of some pictures; None for a network without classes."""
        return self.trained.labels(numbers, self.seed, self.classes)

    def draw(
        self, numbers: range, batch: int = 64, watch: Callable[[float], None] | None = None, world: World = ALONE
    ) -> Iterator[UInt8[Tensor, "k 3 h w"]]:
        """Yield the pictures of some numbers in batches, as `generate` does; of several processes, all to each."""
        for images in self._draw(numbers, self.labels(numbers), batch, watch, world):
            for part in world.parts({"images": images}):
                yield part["images"]

    def _draw(
        self, numbers: range, labels: Labels | None, batch: int, watch: Callable[[float], None] | None,
        world: World = ALONE,
    ) -> Iterator[Tensor]:
        return generate(
            self.generation, labels, len(numbers), seed=self.seed, batch=batch, first=numbers.start, watch=watch,
            world=world,
        )

    def states(self, numbers: range) -> Iterator[State]:
        """Yield the states of sampling some pictures, as `trajectory` does."""
        return trajectory(self.generation, self.labels(numbers), len(numbers), seed=self.seed, first=numbers.start)

    def settings(self) -> dict[str, Any]:
        """The settings that all of the pictures share, as JSON can hold them."""
        config = self.trained.config
        return {
            "run": _identity(self.trained), "weak": None if self.weak is None else _identity(self.weak),
            "seed": self.seed, "classes": list(self.classes) or None, "resolution": list(config.data.resolution),
            "schedule": plain(config.schedule), "sampling": plain(config.sampling),
        }

    def identities(self) -> dict[str, str]:
        """What identifies the weights of the run, and of the weaker one if there is one."""
        weak = {} if self.weak is None else {"weak weights": self.weak.fingerprint}
        return {"weights": self.trained.fingerprint, **weak}

    def origin(self) -> dict[str, Any]:
        """The settings, the versions and device used, and where at the Hub the weights came from."""
        device, hub = self.generation.device.type, self.trained.hub
        made = {"snrise": version("snrise"), "torch": str(torch.__version__), "device": device}
        return self.settings() | ({} if hub is None else {"hub": hub}) | {"made_with": made}

    def fill(
        self, folder: Path, numbers: range, batch: int = 64, watch: Callable[[float], None] | None = None,
        world: World = ALONE,
    ) -> Iterator[int]:
        """Write the missing ones of `folder/000000.png` …; yield how many exist, at the start and after each batch.

        Several processes take batches in turn, and get the numbers after each round.

        A batch with a missing picture is computed whole, so that a picture is the same to the last bit after any
        interruption. `watch` is called more often, with pictures in progress counted by the fraction of their steps.

        Raises:
            SnriseError: if the folder holds pictures of other settings, or another process is filling it.
        """
        with ExitStack() as stack:
            world.first(lambda: stack.enter_context(held(folder)))
            done = set(world.first(lambda: self._existing(folder, numbers)))
            yield len(done)
            labels = self.labels(numbers)
            parts = [numbers[begin : begin + batch] for begin in range(0, len(numbers), batch)]
            for mine, dealt in world.rounds([part for part in parts if not done.issuperset(part)]):
                new = {i for part in dealt for i in part} - done
                if mine is not None:
                    own = None if labels is None else labels[mine.start - numbers.start :][: len(mine)]
                    (images,) = self._draw(mine, own, batch, _from(len(done), len(new) / len(mine), watch))
                    self._write(folder, {i: k for k, i in enumerate(mine) if i in new}, images, own)
                world.largest(0)  # all of them have written theirs
                done |= new
                yield len(done)

    def _existing(self, folder: Path, numbers: range) -> list[int]:
        """The numbers of the pictures that are there, made as these are."""
        self._settle(folder, numbers)
        return [i for i in numbers if _is_whole(folder / _name(i))]

    def _write(self, folder: Path, places: dict[int, int], images: Tensor, labels: Labels | None) -> None:
        """Write pictures, given by their numbers and positions in the batch."""
        shared = {name: value for name, value in self.origin().items() if name != "classes"}
        names = self.trained.classes or ()

        def write(number: int, k: int) -> None:
            origin = {"number": number, "class": None if labels is None else names[int(labels[k])]} | shared
            write_atomically(folder / _name(number), as_png(images[k], origin))

        # In threads, or compression and the disk would keep a GPU waiting.
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(write, places.keys(), places.values()):
                pass

    def _settle(self, folder: Path, numbers: range) -> None:
        """Write the settings of the folder's pictures, or raise if they have others."""
        path, mine = folder / SETTINGS, self.settings()
        if path.exists():
            changes = ", ".join(f"{key} was {was!r}, now {now!r}" for key, was, now in _differences(path, mine))
            if changes:
                raise SnriseError(f"{folder}: holds pictures that were made otherwise: {changes}; choose another --out")
            return
        stray = next((_name(i) for i in numbers if (folder / _name(i)).exists()), None)
        if stray:
            raise SnriseError(f"{folder}: holds {stray}, and no {SETTINGS} says how it was made; choose another --out")
        write_atomically(path, (json.dumps(mine, indent=2, ensure_ascii=False) + "\n").encode())


def _from(done: int, share: float, watch: Callable[[float], None] | None) -> Callable[[float], None] | None:
    """Maps the pictures done of a batch, of which a share is new, to the total, where `done` existed before."""
    return None if watch is None else lambda made: watch(done + share * made)


def _identity(trained: Trained) -> dict[str, Any]:
    """What identifies a run's weights."""
    return {"name": trained.config.name, "images_seen": trained.images_seen, "weights": trained.fingerprint}


def _differences(path: Path, mine: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(theirs.get("sampling", {}).get("grid"), str):  # earlier versions wrote the name alone
            theirs["sampling"]["grid"] = plain(construct(Grid, theirs["sampling"]["grid"], "grid"))
        return documents.differences(theirs, mine)
    except ValueError as error:
        raise SnriseError(f"{path}: not JSON: {error}; choose another --out") from None


def _name(number: int) -> str:
    return f"{number:06d}.png"


def _is_whole(path: Path) -> bool:
    """Whether a file begins and ends as a PNG does."""
    try:
        with path.open("rb") as file:
            if file.read(len(PNG_BEGIN)) != PNG_BEGIN:
                return False
            file.seek(-len(PNG_END), io.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False


def as_png(picture: UInt8[Tensor, "3 h w"] | Image.Image, origin: dict[str, Any]) -> bytes:
    """A PNG file with `origin` as JSON in its text chunk `snrise`.

    >>> picture = as_png(torch.zeros(3, 2, 2, dtype=torch.uint8), {"seed": 1})
    >>> Image.open(io.BytesIO(picture)).text["snrise"]
    '{"seed": 1}'
    """
    if isinstance(picture, Tensor):
        picture = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    text = PngInfo()
    text.add_itxt("Software", f"snrise {version('snrise')}")
    text.add_itxt(KEY, json.dumps(origin, ensure_ascii=False))
    file = io.BytesIO()
    picture.save(file, "PNG", pnginfo=text)
    return file.getvalue()


def origin_of(path: Path) -> dict[str, Any]:
    """The settings embedded in a picture.

    Raises:
        SnriseError: if it is not a PNG of snrise's.
    """
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            origin: dict[str, Any] = json.loads(picture.text[KEY])  # type: ignore[attr-defined]
    except FileNotFoundError:
        raise invalid(str(path), "no such file", "a picture of snrise sample") from None
    except (OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError) as error:
        raise SnriseError(
            f"{path}: says nothing of how it was made ({type(error).__name__}); is it a PNG of snrise sample?"
        ) from None
    return origin


def command_of(origin: dict[str, Any]) -> str:
    """The command that reproduces a picture; `RUN` stands for a run that is not from the Hub.

    >>> command_of({"number": 7, "class": "cat", "seed": 1, "resolution": [64, 96], "sampling": {"steps": 16}})
    'snrise sample RUN -n 1 --first 7 --seed 1 --class cat --resolution 64x96 sampling.steps=16'
    """
    first, last = origin.get("numbers") or (origin["number"], origin["number"])
    classes = [origin["class"]] if origin.get("class") else origin.get("classes") or []
    height, width = origin["resolution"]
    schedule = origin.get("schedule", {})
    words = [
        "snrise", "sample", origin.get("hub", "RUN"), "-n", str(last - first + 1), "--first", str(first),
        "--seed", str(origin["seed"]),
        *(word for name in classes for word in ("--class", name)), "--resolution", f"{height}x{width}",
        *(["--weak", "WEAK"] if origin.get("weak") else []),
        *(["--states", "states.png"] if origin.get("states") else []),
        *(["--schedule", json.dumps(schedule["base"])] if schedule and schedule["reference"] is None else []),
        *(f"sampling.{name}={json.dumps(value)}" for name, value in origin["sampling"].items()),
    ]
    return shlex.join(words)
