"""Trained networks, from a run, a file or a built-in model, with all that is needed to make images.

>>> import snrise
>>> model = snrise.load("emoji-32")
>>> model.sample(2, seed=1, classes=["heart"], steps=2).shape
torch.Size([2, 3, 32, 32])
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from snrise import documents, experiment
from snrise._errors import SnriseError, require
from snrise._typing import Labels, Size
from snrise.config import RunConfig, Sampling, parse
from snrise.construct import construct, plain
from snrise.data import Dataset
from snrise.denoisers import Denoiser
from snrise.generation import Generation, class_numbers, generate, labels_for
from snrise.models import located, no_checkpoint, pinned
from snrise.networks import External
from snrise.networks.base import check_sides
from snrise.parallel import ALONE, World
from snrise.training import WIDEST, Checkpoint, average, checkpoints, load_network, newest_whole, read_header

__all__ = ["Trained", "averaged", "beginning", "is_run", "load", "newest", "saved", "transferred"]


@final
@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network from a checkpoint, the settings that it was trained with, its classes and their frequencies.

    `fingerprint` identifies the weights; `broken` holds the errors of newer checkpoints, which were passed over;
    `hub` is the name at the Hub that they came from, with its commit.
    """

    config: RunConfig
    network: nn.Module
    images_seen: int
    fingerprint: str
    classes: tuple[str, ...] | None
    frequencies: tuple[float, ...] | None
    broken: tuple[str, ...] = ()
    hub: str | None = None

    def generation(self, weak: nn.Module | None = None) -> Generation:
        """How images are sampled; `weak` is a weaker network to guide away from (autoguidance)."""
        return Generation.of(self.config, self.network, weak)

    def denoiser(self, labels: Labels | None = None, context: Tensor | None = None) -> Denoiser:
        """z [b c h w], λ [b] -> x̂, with the guidance and clipping of the sampling settings: for a custom sampler."""
        return self.generation().denoiser(labels, context)

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """The class numbers of names."""
        return class_numbers(names, self.classes)

    def labels(self, numbers: range, seed: int = 0, classes: Sequence[str] = ()) -> Labels | None:
        """The class numbers of some images of a seed; None for a network without classes.

        They cycle through the named classes; without any, classes are drawn in the data's proportions.
        """
        return labels_for(numbers, seed, classes, self.classes, self.frequencies)

    def sample(
        self, count: int, *, seed: int = 0, classes: Sequence[str] = (), guidance: float | None = None,
        steps: int | None = None, context: Tensor | None = None, batch: int = 64,
    ) -> UInt8[Tensor, "k 3 h w"]:
        """Images number 0 … count − 1 of a seed: uint8 [count 3 h w] on the CPU.

        Args:
            count: the number of images.
            seed: image i depends on the seed, i, its class and its context only.
            classes: names that the images cycle through; without any, drawn in the data's proportions.
            guidance: the guidance scale; by default that of the settings.
            steps: sampling steps; by default those of the settings.
            context: vectors [count m d], for a network that attends to some.
            batch: images per batch.

        Raises:
            SnriseError: for an unknown class.
        """
        own = self.config.sampling
        sampling = replace(
            own, guidance=own.guidance if guidance is None else guidance, steps=own.steps if steps is None else steps
        )
        generation = replace(self.generation(), sampling=sampling)
        labels = self.labels(range(count), seed, classes)
        made = list(generate(generation, labels, count, context=context, seed=seed, batch=batch))
        return torch.cat(made) if made else torch.empty(0, 3, *generation.whole_size, dtype=torch.uint8)

    def samples(
        self, count: int, *, context: Tensor | None = None, seed: int = 0, batch: int = 64,
        watch: Callable[[float], None] | None = None, world: World = ALONE,
    ) -> Iterator[UInt8[Tensor, "k 3 h w"]]:
        """Yield images number 0 … count − 1 of a seed with the run's settings, classes in the data's proportions.

        Of several processes, each yields its own, as `generate` says.
        """
        labels, how = self.labels(range(count), seed), self.generation()
        return generate(how, labels, count, context=context, seed=seed, batch=batch, watch=watch, world=world)

    def with_sampling(self, settings: Sequence[str]) -> "Trained":
        """The same network with some sampling settings changed, each a `sampling.key=value`."""
        document = {"sampling": plain(self.config.sampling)}
        for setting in settings:
            where = "sampling.key=value, such as sampling.steps=16"
            require(setting.startswith("sampling."), "settings", setting, where, "a trained run fixes the others")
            documents.override(document, setting)
        sampling: Sampling = construct(Sampling, document["sampling"], "config.sampling")
        return replace(self, config=replace(self.config, sampling=sampling))

    def at(self, size: Size, where: str = "Trained.at") -> "Trained":
        """At another resolution, the schedule shifted to it from the one that it is stated for, or the run's own."""
        config = self.config
        check_sides(config.codec.shape(size)[1:], config.network.divisor, where)
        schedule = config.schedule.stated_for(config.shape[1:])
        at = replace(config, data=replace(config.data, resolution=size), schedule=schedule)
        return self if size == config.data.resolution else replace(self, config=at)

    def data(self) -> Dataset:
        """The images that it was trained on, at the size of its samples.

        Raises:
            SnriseError: for a run on data given as Python objects.
        """
        return experiment.compared(self.config)


def newest(path: Path) -> Path:
    """The newest whole checkpoint of a run's folder, the file itself, or that of a name: built-in, or at the Hub."""
    header, broken = newest_whole(_files(path), read_header)
    if header is None:
        raise SnriseError("; ".join(broken))
    return header.path


def saved(file: Path) -> tuple[Checkpoint, RunConfig]:
    """The header of a file of weights, and the settings of their run."""
    header = read_header(file)
    return header, parse(documents.document_of(header.config, str(file)))


def beginning(path: Path) -> str:
    """How settings refer to weights to initialise from: the newest checkpoint, or a name, with its commit."""
    return pinned(path) or (str(path) if located(path) != path else str(newest(path)))


def transferred(path: Path) -> dict[str, Any]:
    """The settings of a new run that is initialised from another: at any resolution, the schedule is shifted to it.

    A schedule that is stated for no resolution is stated for that of the other run.
    """
    start = beginning(path)
    _, config = saved(located(Path(start)))
    begun = replace(
        config, name=f"{config.name}-on", schedule=config.schedule.stated_for(config.shape[1:]), made_with={},
        training=replace(config.training, start=start),
    )
    return dict(plain(begun))


def _files(path: Path) -> list[Path]:
    place = located(path)
    files = [place] if place.is_file() else checkpoints(place / "checkpoints")
    if not files:
        raise no_checkpoint(path)
    return files


def is_run(path: Path) -> bool:
    """Whether `load` accepts it: a run's folder, a file, or a name, built-in or at the Hub."""
    place = located(path)
    return place.is_file() or (place / "checkpoints").is_dir()


def load(
    path: str | Path, *, network: nn.Module | None = None, ema: bool = True, width: float | None = None,
    device: torch.device | str | None = None,
) -> Trained:
    """The network of a run's folder (its newest whole checkpoint), a checkpoint, exported weights, or a name.

    Args:
        path: of the weights, the name of a built-in model (see `models`), or `hub:USER/NAME[@REVISION]`, which needs
            the extra `hub`; an existing path takes precedence.
        network: the network to load them into; required for a run of a custom network.
        ema: the averaged weights, or the last ones.
        width: of the average, for a run with `training.averages`.
        device: where the network is built; a given one is not moved.

    Raises:
        SnriseError: if there are no weights, or no whole ones; if they do not fit the network; without `ema`, for
            exported weights, which are averaged; or with a width, where no averages were kept.
    """
    trained, broken = newest_whole(_files(Path(path)), lambda file: _open(file, network, ema, width, device))
    if trained is None:
        raise SnriseError("; ".join(broken))
    return replace(trained, broken=tuple(broken), hub=pinned(Path(path)))


def averaged(file: Path, width: float | None) -> dict[str, Tensor]:
    """The average of a width at a checkpoint, by parameter; empty without a width."""
    if width is None:
        return {}
    require(0 < width < WIDEST, "--ema", width, f"a width above 0, below {WIDEST:.3f}")
    return average(file.parent.parent / "averages", width, read_header(file).images_seen)


def _open(
    file: Path, network: nn.Module | None, ema: bool, width: float | None, device: torch.device | str | None
) -> Trained:
    header, config = saved(file)
    names, frequencies = header.extra.get("classes"), header.extra.get("frequencies")
    if network is None and isinstance(config.network, External):
        raise SnriseError(
            f"{file}: holds weights of a network of its own, {config.network.type}; give one to put them into: "
            "snrise.load(path, network=…)"
        )
    model = experiment.network(config, None if names is None else len(names), device) if network is None else network
    load_network(model, file, ema=ema)
    model.load_state_dict(averaged(file, width), strict=False)
    kept = header.checksums["ema" if ema else "network"]
    return Trained(
        config=config, network=model, images_seen=header.images_seen,
        fingerprint=kept if width is None else f"{kept}, ema {width}", classes=None if names is None else tuple(names),
        frequencies=None if frequencies is None else tuple(frequencies),
    )
