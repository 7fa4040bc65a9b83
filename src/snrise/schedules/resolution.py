"""The one idea: a schedule follows the resolution."""

import math
from dataclasses import dataclass, replace
from typing import Any, final

from snrise._errors import invalid, require, unknown
from snrise._typing import Size, StrEnum
from snrise.schedules.base import Schedule
from snrise.schedules.formulas import Cosine, UniformLogSnr, UniformPower
from snrise.schedules.wrappers import Interpolated, Shifted


class Ends(StrEnum):
    """What a shift does to a schedule's limits: they move with it, or they stay and only what lies between shifts."""

    MOVE = "move"
    STAY = "stay"


def shift_factor(image: Size, reference: Size = (64, 64)) -> float:
    """s = √(HW / H₀W₀), also for images that are not square; Su 2024, §10.3.

    >>> shift_factor((256, 1024))
    8.0
    """
    for name, size in (("image", image), ("reference", reference)):
        require(len(size) == 2 and min(size) >= 1, f"shift_factor.{name}", size, "(height, width), both 1 or more")
    return math.sqrt(image[0] * image[1] / (reference[0] * reference[1]))


def for_resolution(
    base: Schedule, image: Size, reference: Size = (64, 64), *, ends: Ends | str = Ends.MOVE
) -> Shifted:
    """The schedule for images of one size that has, pooled to the reference size, the SNR of `base` there.

    With `ends="stay"` the base's own limits are un-shifted first, so that the result ends at them.

    >>> from snrise.schedules import Cosine
    >>> for_resolution(Cosine(), image=(512, 512)).shift == 2 * math.log(8)
    True
    """
    factor = shift_factor(image, reference)
    if ends not in tuple(Ends):
        raise unknown("for_resolution.ends", ends, Ends)
    if ends == Ends.STAY:
        base = _with_moved_limits(base, 2 * math.log(factor))
    return Shifted(base=base, factor=factor)


def interpolated_for_resolution(
    base: Schedule, image: Size, clean: Size, noisy: Size, *, ends: Ends | str = Ends.MOVE
) -> Shifted | Interpolated:
    """As `for_resolution`, with one reference size for the clean end and another for the noisy one.

    λ goes linearly over t from the first shift to the second; Hoogeboom et al. 2023, sec. 3.1.
    """
    shifted = for_resolution(base, image, clean, ends=ends)
    if noisy == clean:
        return shifted
    return Interpolated(clean=shifted, noisy=for_resolution(base, image, noisy, ends=ends))


@final
@dataclass(frozen=True, kw_only=True)
class ByResolution:
    """A schedule at any resolution: `base`, stated for images of the `reference` size, is shifted to that asked for.

    `reference` None leaves it as it is. `noisy_reference` interpolates to a second shift at the noisy end.

    >>> ByResolution(base=Cosine(), reference=(64, 64))((128, 128)).factor
    2.0
    """

    base: Schedule = Cosine()
    reference: Size | None = (64, 64)
    noisy_reference: Size | None = None
    ends: Ends = Ends.MOVE

    def __post_init__(self) -> None:
        good = self.reference is not None or self.noisy_reference is None
        require(good, "noisy_reference", self.noisy_reference, "null while reference is null")

    def __call__(self, image: Size) -> Schedule:
        if self.reference is None:
            return self.base
        noisy = self.reference if self.noisy_reference is None else self.noisy_reference
        return interpolated_for_resolution(self.base, image, self.reference, noisy, ends=self.ends)

    def stated_for(self, image: Size) -> "ByResolution":
        """The same, a schedule that is stated for no resolution being that of this one."""
        return replace(self, reference=self.reference or image)


def _with_moved_limits(base: Schedule, by: float) -> Schedule:
    if not isinstance(base, Cosine | UniformLogSnr | UniformPower):
        allowed = "a schedule with limits of its own: Cosine, UniformLogSnr, UniformPower"
        raise invalid("for_resolution.base", type(base).__name__, f"with ends='stay', {allowed}", "use ends='move'")
    limits: dict[str, Any] = {
        name: None if getattr(base, name) is None else getattr(base, name) + by for name in ("logsnr_min", "logsnr_max")
    }
    return replace(base, **limits)
