"""Advice: where a network should compute, and what makes a training step fit into memory."""

from collections.abc import Callable, Iterator, Sequence

from snrise.config import RunConfig
from snrise.networks import NestedConfig, ViTConfig
from snrise.networks.leveled import LeveledConfig
from snrise.networks.stems import factor_for
from snrise.planning.rehearsal import Rehearsal, Steps
from snrise.planning.table import Row

__all__ = ["about_resolution", "largest_batch", "to_fit"]

#: A network with more than MOST_HIGH of its operations above HIGH² cells is warned of; those of simple diffusion have
#: at most 51 % there.
HIGH, MOST_HIGH = 32, 0.6
#: The side of the first level in the presets for large images, and of the level where most blocks belong.
FIRST, LOW = 64, 16
#: The largest batch that is tried.
MOST = 65_536


def about_resolution(config: RunConfig, rows: Sequence[Row]) -> list[str]:
    """A warning if the network computes mostly at high resolutions, with what simple diffusion does instead.

    Hoogeboom et al. 2023, sec. 3: downsample in the first layer, and put the blocks at 16×16, where memory is cheap
    and nothing is lost. The rule here: at most 60 % of a forward pass above 32×32 cells.
    """
    high = sum(row.flops for row in rows if row.cells is not None and row.cells[0] * row.cells[1] > HIGH**2)
    share = high / max(1, sum(row.flops for row in rows))
    if share <= MOST_HIGH:
        return []
    return [
        f"{share:.0%} of the operations are at more than {HIGH}x{HIGH} cells, and {MOST_HIGH:.0%} is the most that is "
        f"wise: simple diffusion (Hoogeboom et al. 2023, sec. 3) down-samples at once in the first layer and puts most "
        f"blocks at {LOW}x{LOW}; here: {_wiser(config)}"
    ]


def _wiser(config: RunConfig) -> str:
    """What that means for this network, as settings to change."""
    network, (height, width) = config.network, config.data.resolution
    if isinstance(network, NestedConfig):
        return "fewer network.level.blocks, or fewer network.level.channels"
    if isinstance(network, ViTConfig):
        return f"network.patch={factor_for((height, width), HIGH)}"
    if not isinstance(network, LeveledConfig):
        return "a first layer that down-samples more, or fewer blocks behind it"
    stem = max(network.stem, factor_for((height, width), FIRST))
    first = f"network.stem={stem}, so that the first level has {height // stem}x{width // stem} cells, "
    sides = [min(height, width) // (stem * 2**i) for i in range(len(network.levels))]
    low = next((i for i, side in enumerate(sides) if side <= LOW), None)
    blocks = f"levels down to {LOW}x{LOW} with most blocks there" if low is None else f"most blocks in levels.{low}"
    return (first if stem > network.stem else "") + blocks


def largest_batch(peak: Callable[[int], int], limit: int, first: int = 8) -> int:
    """The largest batch whose peak is within the limit; 0 if even one image exceeds it. `peak` must not decrease.

    Peaks grow nearly linearly, so secant steps from the `first` that is tried find the answer in few evaluations.

    >>> asked = []
    >>> largest_batch(lambda batch: asked.append(batch) or max(500, 100 + 30 * batch), limit=10_000)
    330
    >>> asked
    [8, 16, 958, 330]
    """
    known: dict[int, int] = {}
    low, high, guess = 0, MOST + 1, min(first, MOST)
    while low < guess < high:
        known[guess] = peak(guess)
        if known[guess] <= limit:
            low = guess
        else:
            high = guess
        guess = _next(known, low, high, limit)
    return low


def _next(known: dict[int, int], low: int, high: int, limit: int) -> int:
    """The batch to try next: where the line through the two nearest meets the limit; `low` if that is the answer.

    Peaks are convex, if not linear: extrapolation does not overestimate a larger batch.
    """
    if low == 0:
        return high // 2
    below = max((batch for batch in known if batch < low), default=None)
    rise = 0.0 if below is None else (known[low] - known[below]) / (low - below)
    if known[low] + rise > limit:
        return low
    if high in known:
        rise = (known[high] - known[low]) / (high - low)
    guess = low + int((limit - known[low]) / rise) if rise > 0 else 2 * low
    return max(low + 1, min(guess, high - 1))


def to_fit(steps: Steps, usable: int, largest: int) -> Iterator[str]:
    """Changes that make a step fit into `usable` bytes, a line each; `largest` is the largest batch that fits now."""
    batch, accumulate = steps.experiment.batch, steps.experiment.accumulate
    if steps(steps.settings, 1).peak > usable:
        smaller = "a smaller network" if not steps.settings else "fewer channels or blocks, or a larger network.stem,"
        yield f"not even one image fits: {smaller} would make it fit"
        return
    now = steps(steps.chosen, batch, accumulate)
    if largest and (parts := _parts(steps, steps.chosen, usable, largest)):
        yield f"training.accumulate={parts} fits: the same result in {parts} parts"
    gains, chosen, saved = _gains(steps), list(steps.chosen), 0
    for setting in sorted(gains, key=lambda s: -gains[s]):
        chosen.append(setting)
        saved += gains[setting]
        # Only what may be enough is worth a rehearsal: an allocator holds somewhat more than is saved.
        if now.peak - 1.5 * saved <= usable and (after := steps(chosen, batch, accumulate)).peak <= usable:
            yield f"{_assignments(chosen)} fits: the same result{_more(after, now)}"
            return
    if not gains:
        return
    most = largest_batch(lambda size: steps(steps.settings, size).peak, usable)
    if parts := _parts(steps, steps.settings, usable, most):
        after = steps(steps.settings, batch, parts)
        yield f"{_assignments(steps.settings)} training.accumulate={parts} fits: the same result{_more(after, now)}"


def _gains(steps: Steps) -> dict[str, int]:
    """The bytes that each checkpoint setting that is off would save, from the highest resolution to the lowest."""
    batch, accumulate = steps.experiment.batch, steps.experiment.accumulate
    gains = {s: 0 for s in steps.settings if s not in steps.chosen}
    without, everywhere = (steps(chosen, batch, accumulate).kept for chosen in ((), steps.settings))
    for stage in steps.network.stages():
        if stage.checkpoint in gains:
            gains[stage.checkpoint] += sum(without.get(part, 0) - everywhere.get(part, 0) for part in stage.parts)
    return gains


def _parts(steps: Steps, checkpoints: Sequence[str], usable: int, largest: int) -> int | None:
    """The fewest parts of the batch that fit, if any do; beside accumulated gradients they may have to be smaller."""
    batch = steps.experiment.batch
    for size in (largest, largest - 1, 3 * largest // 4, largest // 2, 1):
        parts = -(-batch // max(1, size))
        if steps(checkpoints, batch, parts).peak <= usable:
            return parts
    return None


def _assignments(settings: Sequence[str]) -> str:
    return " ".join(f"network.{setting}=true" for setting in settings)


def _more(after: Rehearsal, now: Rehearsal) -> str:
    more = after.flops / max(1, now.flops) - 1
    return f" for {more:.0%} more operations" if more > 0 else ""
