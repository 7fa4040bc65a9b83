"""A schedule's report for a resolution, before any training: falling, smooth, covering, and where its time goes.

>>> from snrise.schedules import Cosine, for_resolution
>>> diagnose(Cosine(), image=(512, 512)).ok
False
>>> diagnose(for_resolution(Cosine(), image=(512, 512)), image=(512, 512)).ok
True
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snrise._typing import Size
from snrise.schedules import Schedule, shift_factor

__all__ = ["Octave", "Report", "diagnose", "time_per_octave"]

#: At t = 0, λ must be at least this: σ/α < 1/55, noise of about two grey levels of 255.
CLEAN_END = 8.0
#: At t = 1 the mean colour of the whole image, which is pooled furthest, must have an SNR below e^−6 = 0.0025.
NOISY_END = -6.0
#: Share of training time that must lie on each side of SNR 1 at the reference resolution.
BALANCE = 0.25
OCTAVE = math.log(2)


@final
@dataclass(frozen=True)
class Octave:
    """SNR at the reference resolution between 2^exponent and twice that, and the share of training time spent there."""

    exponent: int
    share: float


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of `diagnose`. `problems` is empty if and only if the schedule is fit for the resolution."""

    image: Size
    reference: Size
    factor: float
    decreasing: bool
    smooth: bool
    logsnr_clean: float
    logsnr_noisy: float
    pooled_clean: float
    pooled_noisy: float
    whole_image_noisy: float
    time_below: float
    time_above: float
    octaves: tuple[Octave, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def __str__(self) -> str:
        sizes = f"{self.image[0]}x{self.image[1]} seen at {self.reference[0]}x{self.reference[1]}"
        rows = [
            f"schedule for {sizes} (factor {self.factor:g}, SNR x {self.factor**2:g})",
            f"  decreasing {_yes(self.decreasing)}   smooth {_yes(self.smooth)}",
            f"  log-SNR       t = 0 {self.logsnr_clean:+8.2f}   t = 1 {self.logsnr_noisy:+8.2f}",
            f"  pooled        t = 0 {self.pooled_clean:+8.2f}   t = 1 {self.pooled_noisy:+8.2f}",
            f"  mean colour                    t = 1 {self.whole_image_noisy:+8.2f}",
            f"  training time: {self.time_above:.0%} with pooled SNR above 1, {self.time_below:.0%} below",
            "  share of training time per octave of pooled SNR:",
            *_bars(self.octaves),
            "verdict: " + ("fit for this resolution" if self.ok else "not fit for this resolution"),
            *(f"  - {problem}" for problem in self.problems),
        ]
        return "\n".join(rows)


def diagnose(schedule: Schedule, image: Size, reference: Size = (64, 64)) -> Report:
    """Check a schedule for images of one size (height, width), as seen after pooling to the reference size.

    Su 2024, §10.4. Four checks: λ decreases strictly; dλ/dt has no jump; the ends cover, from noise of two grey levels
    to a mean colour lost in noise; and at least a quarter of the training time lies on each side of pooled SNR 1.
    """
    factor = shift_factor(image, reference)
    shift = 2 * math.log(factor)
    ends = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    pooled = _fine_grid(schedule) + shift
    below = float((pooled < 0).double().mean())
    whole = ends[1] + math.log(image[0] * image[1])
    decreasing, smooth = _decreases(schedule), _is_smooth(schedule)
    return Report(
        image=image, reference=reference, factor=factor, decreasing=decreasing, smooth=smooth,
        logsnr_clean=ends[0], logsnr_noisy=ends[1], pooled_clean=ends[0] + shift, pooled_noisy=ends[1] + shift,
        whole_image_noisy=whole, time_below=below, time_above=1 - below, octaves=time_per_octave(schedule, factor),
        problems=tuple(_problems(decreasing, smooth, min(ends[0], ends[0] + shift), whole, below, shift)),
    )


def _problems(decreasing: bool, smooth: bool, clean: float, whole: float, below: float, shift: float) -> list[str]:
    problems = []
    if not decreasing:
        problems.append(
            "log-SNR does not decrease everywhere: "
            "some noise levels are visited twice, or training stands still on them"
        )
    if not smooth:
        problems.append("dλ/dt jumps: training time per noise level changes abruptly")
    if clean < CLEAN_END:
        problems.append(
            f"t = 0 is still noisy: log-SNR {clean:.1f}, and {CLEAN_END:.0f} is the least; raise logsnr_max"
        )
    if whole > NOISY_END:
        problems.append(
            f"t = 1 is not yet noise: the mean colour has log-SNR {whole:.1f}, and should be below {NOISY_END:.0f}; "
            "shift the schedule, lower logsnr_min, or use zero terminal SNR"
        )
    if below < BALANCE:
        problems.append(
            f"too easy: {below:.0%} of training has pooled SNR below 1, and {BALANCE:.0%} is the least; "
            + ("shift the schedule with the resolution" if shift > 0 else "shift the schedule down")
        )
    if 1 - below < BALANCE:
        problems.append(
            f"too noisy: {1 - below:.0%} of training has pooled SNR above 1, and {BALANCE:.0%} is the least; "
            "shift the schedule by less"
        )
    return problems


def time_per_octave(schedule: Schedule, factor: float = 1.0) -> tuple[Octave, ...]:
    """Share of t in [0, 1] in each octave of SNR after pooling by `factor`, from the noisiest up; they sum to 1."""
    exponents = torch.floor((_fine_grid(schedule) + 2 * math.log(factor)) / OCTAVE)
    values, counts = torch.unique(exponents, return_counts=True)
    shares = counts / counts.sum()
    return tuple(Octave(int(v), float(s)) for v, s in zip(values, shares, strict=True))


def _fine_grid(schedule: Schedule, points: int = 20_000) -> Tensor:
    """λ at the middles of many equal steps of t."""
    return schedule((torch.arange(points, dtype=torch.float64) + 0.5) / points)


def _decreases(schedule: Schedule) -> bool:
    logsnr = schedule(torch.linspace(0, 1, 4097, dtype=torch.float64))
    return bool((logsnr[1:] < logsnr[:-1]).all())


def _is_smooth(schedule: Schedule) -> bool:
    """Whether the largest change of log|dλ/dt| between neighbours fades as the grid is refined, away from the ends."""

    def largest(points: int) -> float:
        slope = schedule.derivative(torch.linspace(0.01, 0.99, points, dtype=torch.float64))
        change = slope.abs().clamp(min=1e-12).log().diff().abs()
        signs = torch.sign(slope).diff().abs()
        return float((change + signs).max())

    coarse, fine = largest(1001), largest(8001)
    return fine < 0.1 or fine < 0.5 * coarse


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _bars(octaves: tuple[Octave, ...], low: int = -14, high: int = 14, width: int = 40) -> list[str]:
    """A bar for each octave; those beyond either end are summed into one row."""
    rows: dict[int, float] = {}
    for octave in octaves:
        key = min(max(octave.exponent, low - 1), high)
        rows[key] = rows.get(key, 0.0) + octave.share
    most = max(rows.values())
    lines = []
    for exponent in range(high, low - 2, -1):
        share = rows.get(exponent, 0.0)
        label = f">= 2^{high}" if exponent == high else f"< 2^{low}" if exponent < low else f"2^{exponent}"
        lines.append(f"    {label:>8} {share:6.1%} {'#' * round(width * share / most)}".rstrip())
    return lines
