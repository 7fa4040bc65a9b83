"""`snrise schedule`: a noise schedule as a table, a verdict and pictures, before any training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, final

import torch
import typer
from jaxtyping import UInt8
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor

from snrise import plots
from snrise._errors import SnriseError, invalid, require, unknown
from snrise._typing import Images, Size
from snrise.cli.options import check_chart
from snrise.codecs import Autoencoder
from snrise.data import Cache, Dataset, Emoji, ImageFolder, Preprocess, Source, open_image, order, to_float
from snrise.diagnostics import Report, diagnose
from snrise.explorer import page
from snrise.files import write_atomically
from snrise.pooling import factors_for, pooled_logsnr, signal_power
from snrise.process import VariancePreserving
from snrise.quantities import parse_size
from snrise.schedules import SCHEDULES, Ends, Schedule, ZeroTerminalSnr, interpolated_for_resolution, shift_factor

__all__ = ["schedule"]

#: The schedules that need no other schedule and no table.
KINDS = ("cosine", "linear_beta", "uniform_logsnr", "uniform_power", "log_normal", "flow_matching")
#: Images that the power left after pooling is measured on, and how many are in memory.
MOST_IMAGES, AT_A_TIME = 256, 8

BASE, SHIFT, IMAGES = "The schedule at the reference resolution", "The shift", "Your images"
PAGE = "A page to explore it"


def schedule(
    resolution: Annotated[
        str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.", show_default="512; 256 with --data emoji")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The chart: .png, .svg or .pdf; other pictures go beside it.")
    ] = Path("schedule.png"),
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.", rich_help_panel=BASE)] = "cosine",
    offset: Annotated[
        float | None, typer.Option(help="The cosine's offset at the clean end.", show_default="0", rich_help_panel=BASE)
    ] = None,
    logsnr_min: Annotated[
        float | None,
        typer.Option(help="λ at the noisy end; -inf is no limit.", show_default="the kind's", rich_help_panel=BASE),
    ] = None,
    logsnr_max: Annotated[
        float | None,
        typer.Option(help="λ at the clean end; inf is no limit.", show_default="the kind's", rich_help_panel=BASE),
    ] = None,
    reference: Annotated[
        str, typer.Option(help="The size the schedule is stated for: side or HEIGHTxWIDTH.", rich_help_panel=SHIFT)
    ] = "64",
    ends: Annotated[
        str, typer.Option(help="Whether the shift moves the limits: move or stay.", rich_help_panel=SHIFT)
    ] = "move",
    clean_reference: Annotated[
        str | None,
        typer.Option(help="Another reference for the clean end, usually the larger; λ is interpolated over t.",
                     show_default="REFERENCE", rich_help_panel=SHIFT),
    ] = None,
    noisy_reference: Annotated[
        str | None,
        typer.Option(help="Another reference for the noisy end.", show_default="REFERENCE", rich_help_panel=SHIFT),
    ] = None,
    zero_terminal_snr: Annotated[
        bool,
        typer.Option("--zero-terminal-snr", help="Stretch it so that t = 1 is pure noise.", rich_help_panel=SHIFT),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="A folder of images, or `emoji`: measure what pooling leaves of their power.",
                     show_default=False, rich_help_panel=IMAGES),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="With --data: an autoencoder; measure what pooling leaves of its codes, "
                     "too.", show_default=False, rich_help_panel=IMAGES),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="The image file to show noise on.", show_default="one of --data", rich_help_panel=IMAGES),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page to explore the schedule in a browser, ….html.", show_default=False,
                     rich_help_panel=PAGE),
    ] = None,
    show: Annotated[
        bool, typer.Option("--open", help="Open it, as schedule.html unless --html says.", rich_help_panel=PAGE)
    ] = False,
) -> None:
    """Show what a resolution does to a noise schedule: λ over t, a verdict, and pictures.

    With images (--data, --image) also how noisy they look at every resolution, and how much power pooling leaves.
    """
    check_chart(out)
    size = parse_size(resolution or ("256" if data == "emoji" else "512"), "--resolution")
    seen_at = parse_size(reference, "--reference")
    base = _base(kind, offset=offset, logsnr_min=logsnr_min, logsnr_max=logsnr_max)
    shifted = _Shift(
        base=base, ends=_ends(ends), zero_terminal_snr=zero_terminal_snr,
        clean=seen_at if clean_reference is None else parse_size(clean_reference, "--clean-reference"),
        noisy=seen_at if noisy_reference is None else parse_size(noisy_reference, "--noisy-reference"),
    )
    require(codec is None or data is not None, "--codec", codec, "with --data, whose codes are measured")
    if html is None and not show:
        return _show(shifted, size, seen_at, out, data, codec, image)
    file = html or Path("schedule.html")
    require(file.suffix == ".html", "--html", str(file), "a file ….html")
    picture: UInt8[Tensor, "3 h w"] | None = None
    if image is not None:
        picture = _read(image, size)
    elif data is not None:
        picture = _first(_source(data), size)
    text = page(base, size, shifted.clean, noisy_reference=shifted.noisy, ends=shifted.ends,
                zero_terminal_snr=zero_terminal_snr, picture=picture)
    write_atomically(file, text.encode())
    typer.echo(f"written: {file}, a page that needs no network")
    if show:
        typer.launch(file.resolve().as_uri())
    return None


def _source(data: str) -> Source:
    return Emoji() if data == "emoji" else ImageFolder(data)


def _first(source: Source, size: Size) -> UInt8[Tensor, "3 h w"]:
    """An image of the data, cropped to the size."""
    dataset = Dataset(source, Preprocess(size), cache=Cache.NONE)
    return dataset.images(order(0, 0, 1, len(source)))[0]


def _show(
    shift: "_Shift", size: Size, reference: Size, out: Path, data: str | None, codec: str | None, image: Path | None
) -> None:
    """The table and the pictures."""
    console = Console(soft_wrap=True, highlight=False)
    before, after = shift.base, shift(size)
    _print(console, before, after, size, reference)
    curves = plots.schedule_curves({"before the shift": before, "after the shift": after}, size, reference)
    written = [plots.save(curves, out)]
    images = _Images(out=out, size=size, reference=reference)
    if data is not None:
        source = _source(data)
        written += images.measured(console, source)
        if codec is not None:
            written.append(images.encoded(console, source, codec))
    shown = _read(image, size) if image is not None else images.first
    if shown is not None:
        written.append(images.noise(shown, before, shift))
    console.print("written: " + ", ".join(str(path) for path in written), markup=False)


def _base(kind: str, **settings: float | None) -> Schedule:
    """The schedule of the options; an option that its kind lacks is an error."""
    if kind not in KINDS:
        raise unknown("--kind", kind, KINDS, "schedule")
    given = {name: value for name, value in settings.items() if value is not None}
    known = [field.name for field in fields(SCHEDULES[kind])]  # type: ignore[arg-type]
    for name, value in given.items():
        if name not in known:
            having = [k for k in KINDS if name in {field.name for field in fields(SCHEDULES[k])}]  # type: ignore[arg-type]
            raise invalid(_option(name), value, f"only with --kind {', '.join(having)}", f"{kind} has no such setting")
    return SCHEDULES[kind](**given)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _ends(name: str) -> Ends:
    if name not in list(Ends):
        raise unknown("--ends", name, list(Ends), "treatment of the limits")
    return Ends(name)


@final
@dataclass(frozen=True, kw_only=True)
class _Shift:
    """The shift as its options say: image size -> schedule."""

    base: Schedule
    ends: Ends
    clean: Size
    noisy: Size
    zero_terminal_snr: bool

    def __call__(self, image: Size) -> Schedule:
        shifted: Schedule = interpolated_for_resolution(self.base, image, self.clean, self.noisy, ends=self.ends)
        return ZeroTerminalSnr(base=shifted) if self.zero_terminal_snr else shifted


def _print(console: Console, before: Schedule, after: Schedule, size: Size, reference: Size) -> None:
    """The table, the report and its verdict."""
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    levels = after(t)
    pooled = pooled_logsnr(levels, shift_factor(size, reference))
    table = Table("t", "λ before", "λ after", "pooled λ", "α", "σ", box=None, padding=(0, 2), header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for row in zip(t, before(t), levels, pooled, *VariancePreserving().alpha_sigma(levels), strict=True):
        time, *logsnrs, alpha, sigma = (float(value) for value in row)
        table.add_row(f"{time:.1f}", *(plots.logsnr_text(value) for value in logsnrs), f"{alpha:.4f}", f"{sigma:.4f}")
    console.print(table)
    console.print()
    report = diagnose(after, size, reference)
    for line in str(report).splitlines():
        judging = line.startswith(("verdict:", "  - "))
        console.print(line, style=_style(report) if judging else None, markup=False)
    unshifted = diagnose(before, size, reference)
    if unshifted != report:
        verdict = "fit" if unshifted.ok else f"not fit: {'; '.join(unshifted.problems)}"
        console.print(f"without the shift: {verdict}", style=_style(unshifted), markup=False)


def _style(report: Report) -> str:
    return "green" if report.ok else "red"


@dataclass
class _Images:
    """Measurements and pictures of the user's images; `first` is one of them, once measured."""

    out: Path
    size: Size
    reference: Size
    first: UInt8[Tensor, "3 h w"] | None = None

    def measured(self, console: Console, source: Source) -> list[Path]:
        """Print how much power pooling leaves, and draw it."""
        dataset = Dataset(source, Preprocess(self.size), cache=Cache.NONE)
        indices = order(0, 0, min(MOST_IMAGES, len(source)), len(source))
        self.first = dataset.images(indices[:1])[0]
        power = signal_power(_batches(dataset, indices), factors_for(self.size))
        console.print(f"\n{power}", markup=False)
        sample = f"measured on {len(indices)} of {len(source)} images, at {self.size[0]}x{self.size[1]}"
        console.print(sample, markup=False)
        small = sum(_enlarged(source, index, self.size) for index in indices)
        if small:
            note = f"{small} of them were smaller and have been enlarged: pooling takes less from them than it should"
            console.print(note, style="yellow", markup=False)
        return [plots.save(plots.signal_power(power), self._beside("power", self.out.suffix))]

    def encoded(self, console: Console, source: Source, codec: str) -> Path:
        """Print how much power pooling leaves of codes, and by what it changes their SNR; draw it."""
        dataset, autoencoder = Dataset(source, Preprocess(self.size), cache=Cache.NONE), Autoencoder(path=codec)
        indices = order(0, 0, min(MOST_IMAGES, len(source)), len(source))
        codes = torch.cat([autoencoder.raw(images) for images in _batches(dataset, indices)]).double()
        spread, centre = torch.std_mean(codes, dim=(0, 2, 3), keepdim=True, correction=0)
        channels, *sides = autoencoder.shape(self.size)
        power = signal_power([(codes - centre) / spread], factors_for((sides[0], sides[1]), smallest=2))
        console.print(f"\ncodes of {channels}x{sides[0]}x{sides[1]}: {power}", markup=False)
        left = zip(power.factors[1:], power.variance_ratio[1:], strict=True)
        acts = ", ".join(f"{factor} acts as {factor * share**0.5:.2f}" for factor, share in left)
        console.print(f"pooling by {acts}: with that factor, not the first, a schedule of codes is to be shifted")
        chart = plots.signal_power(power, title="Power of codes after pooling")
        return plots.save(chart, self._beside("codes", self.out.suffix))

    def noise(self, image: UInt8[Tensor, "3 h w"], base: Schedule, shifted: Callable[[Size], Schedule]) -> Path:
        """Draw the image with noise at every resolution, without the shift and with it."""
        factors = factors_for(self.size, smallest=min(self.reference))
        blocks = [
            plots.noise_at_resolutions(image, schedule_for, factors, Generator().manual_seed(0), title=title)
            for title, schedule_for in (("One schedule for every resolution", lambda _: base),
                                        ("Shifted for each resolution", shifted))
        ]
        return plots.save(plots.side_by_side(*blocks), self._beside("noise", ".png"))

    def _beside(self, what: str, suffix: str) -> Path:
        return self.out.with_name(f"{self.out.stem}-{what}{suffix}")


def _batches(dataset: Dataset, indices: list[int]) -> Iterator[Images]:
    for start in range(0, len(indices), AT_A_TIME):
        yield to_float(dataset.images(indices[start : start + AT_A_TIME]))


def _enlarged(source: Source, index: int, size: Size) -> bool:
    """Whether an image is smaller than the size in height or width."""
    with source.read(index) as image:
        return image.height < size[0] or image.width < size[1]


def _read(path: Path, size: Size) -> UInt8[Tensor, "3 h w"]:
    """The pixels of an image file, cropped to the size."""
    try:
        return Preprocess(size)(open_image(path.read_bytes()), str(path))
    except SnriseError:
        raise
    except Exception as error:  # decoders raise anything on broken data
        cause = getattr(error, "strerror", None) or "not an intact image in a format that Pillow knows"
        raise SnriseError(f"--image: cannot read {str(path)!r}: {cause}; allowed: an image file") from error
