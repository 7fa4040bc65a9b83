"""`snrise train`: settings to a run's folder, with a progress bar on the way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from snrise import build, documents
from snrise._errors import SnriseError, require
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import parse_size
from snrise.config import RunConfig, parse, to_yaml
from snrise.construct import plain
from snrise.data import Dataset
from snrise.diagnostics import diagnose
from snrise.plots import sample_grid
from snrise.training import TrainState, draw_labels, generate, latest, load_state, save_state
from snrise.training import train as train_loop
from snrise.training.checkpoint import write_atomically
from snrise.training.logs import JsonLines, Meter, TensorBoard

__all__ = ["train"]

#: Settings that may differ between a run and the command that resumes it.
MAY_CHANGE = ("log.", "sampling.", "training.images", "training.learning_rate", "training.precision", "name")
console = Console()


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE|CONFIG.yaml] [KEY=VALUE]...",
                       help="A recipe's name or a YAML file, then settings to change, such as training.batch=16."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A folder of images, or `emoji`.", show_default=False)] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/NAME")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the settings, train nothing.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Train a recipe; the same command again goes on where the run stopped.

    Recipes: emoji-32 (the default), emoji-64, emoji-128, emoji-256, folder.
    """
    config = parse(_document(arguments or [], data, resolution))
    where = device_of(device)
    dataset = build.dataset(config)
    classes = dataset.source.classes
    state = build.state(config, None if classes is None else len(classes), where)
    recipe = build.recipe(config)
    _introduce(config, dataset, state)
    if dry_run:
        typer.echo(to_yaml(config), nl=False)
        return
    folder = out or Path("runs") / config.name
    _open(folder, config)
    checkpoint = latest(folder / "checkpoints")
    if checkpoint is not None:
        load_state(state, checkpoint)
        console.print(f"going on from {state.images_seen:,} images ({checkpoint})", markup=False, soft_wrap=True)
    batches = dataset.batches(config.training.batch, seed=config.seed, position=state.images_seen)
    watch = _Watch(config, dataset, state, folder)
    with _progress(state, config.training.images) as advance, _stop_signals() as stopped:
        for report in train_loop(state, batches, recipe):
            advance(report.batch, f"loss {report.loss:.4f}")
            watch.see(report)
            if stopped:
                break
    watch.save()
    if state.images_seen >= config.training.images:
        console.print(f"done: {watch.draw()}\nmore pictures: snrise sample {folder}", markup=False, soft_wrap=True)
    else:
        console.print(f"stopped at {state.images_seen:,} images and saved; the same command goes on")


def _document(arguments: list[str], data: str | None, resolution: str | None) -> dict[str, Any]:
    """The plain settings that the command line asks for."""
    names = [a for a in arguments if "=" not in a]
    require(len(names) <= 1, "train", names, "one recipe or config file, then key=value settings")
    default = "folder" if data not in (None, "emoji") else documents.DEFAULT_RECIPE
    document = documents.read_document(names[0] if names else default)
    section = document.setdefault("data", {})
    if not isinstance(section, dict):
        raise SnriseError("config.data: not settings; give each as `name: value`")
    if data == "emoji":
        section |= {"source": "emoji", "path": None}
    elif data is not None:
        if section.get("source", "emoji") == "emoji":
            section |= {"classes": None, "only": []}
        section |= {"source": "folder", "path": data}
    if resolution is not None:
        section["resolution"] = list(parse_size(resolution, "--resolution"))
    for assignment in arguments:
        if "=" in assignment:
            documents.override(document, assignment)
    documents.resolve(document)
    return document


def _introduce(config: RunConfig, dataset: Dataset, state: TrainState) -> None:
    """A few lines on what is about to be trained, and what is wrong with its schedule, if anything is."""
    height, width = config.data.resolution
    parameters = sum(p.numel() for p in state.network.parameters())
    classes = dataset.source.classes
    console.print(
        f"{config.name}: {len(dataset):,} images at {height}x{width}, {len(classes or ())} classes; "
        f"{parameters / 1e6:.1f} M parameters; {config.training.images:,} images in batches of {config.training.batch} "
        f"on {state.device}", highlight=False, markup=False, soft_wrap=True,
    )
    found = diagnose(build.schedule(config), config.data.resolution, config.schedule.reference or (64, 64))
    for problem in found.problems:
        console.print(f"[yellow]schedule:[/yellow] {problem}", highlight=False)


def _open(folder: Path, config: RunConfig) -> None:
    """Make the run's folder, or check that the one that is there is of the same settings."""
    file = folder / "config.yaml"
    if file.exists():
        old = documents.read_document(str(file))
        changed = [d for d in documents.differences(old, plain(config)) if not d[0].startswith(MAY_CHANGE)]
        if changed:
            told = ", ".join(f"{key} was {before!r}, now {now!r}" for key, before, now in changed)
            raise SnriseError(f"{folder}: holds a run with other settings: {told}; choose another --out")
    write_atomically(file, to_yaml(config).encode())


class _Watch:
    """Writes logs, sample grids and checkpoints when they are due."""

    def __init__(self, config: RunConfig, dataset: Dataset, state: TrainState, folder: Path) -> None:
        self.config, self.state, self.folder = config, state, folder
        self.how = build.generation(config)
        frequencies = dataset.label_frequencies
        self.extra = {
            "classes": None if dataset.source.classes is None else list(dataset.source.classes),
            "frequencies": None if frequencies is None else frequencies.tolist(),
        }
        self.labels = None if frequencies is None else draw_labels(frequencies.tolist(), config.log.grid, config.seed)
        self.meter = Meter()
        self.writers: list[JsonLines | TensorBoard] = [JsonLines(folder / "log.jsonl", state.images_seen)]
        if config.log.tensorboard:
            self.writers.append(TensorBoard(folder / "tensorboard", state.images_seen))

    def see(self, report: Any) -> None:
        self.meter.add(report)
        log, end = self.config.log, report.images_seen >= self.config.training.images
        if end or _due(report, log.every):
            values = self.meter.read()
            for writer in self.writers:
                writer.write(values)
        if not end and _due(report, log.samples):
            self.draw()
        if not end and _due(report, log.checkpoint):
            self.save()

    def draw(self) -> Path:
        """A grid of samples from the averaged weights, always of the same noise."""
        count = self.config.log.grid
        with self.state.ema.applied_to(self.state.network) as network:
            images = torch.cat(list(generate(network, self.how, self.labels, count, seed=self.config.seed)))
        self.state.network.train()
        path = self.folder / "samples" / f"{self.state.images_seen:012d}.png"
        path.parent.mkdir(exist_ok=True)
        sample_grid(images, scale=max(1, 64 // max(self.config.data.resolution))).save(path)
        return path

    def save(self) -> None:
        save_state(self.state, self.folder / "checkpoints", to_yaml(self.config), self.extra, self.config.log.keep)


def _due(report: Any, every: int) -> bool:
    """Whether this step crossed a multiple of `every` images."""
    return bool(report.images_seen // every > (report.images_seen - report.batch) // every)


@contextmanager
def _progress(state: TrainState, total: int) -> Iterator[Any]:
    """A progress bar over images: share, loss, images/s and time left."""
    columns = (
        BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:,.0f} images"), TextColumn("{task.description}"),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, completed=state.images_seen, rate="")

        def advance(images: int, description: str) -> None:
            progress.update(task, advance=images, description=description)
            speed = progress.tasks[0].speed
            progress.update(task, rate="" if speed is None else f"{speed:.0f} images/s")

        yield advance


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that fills when the process is asked to stop: once to save first, twice to stop at once."""
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
