"""λ(t) of every schedule at 40 digits, written again from the papers in mpmath: what the float code is held against."""

from functools import singledispatch

import mpmath as mp

from snrise.schedules import (
    Clipped,
    Cosine,
    FlowMatching,
    Interpolated,
    LinearBeta,
    LogNormal,
    Shifted,
    Tabulated,
    UniformLogSnr,
    UniformPower,
    ZeroTerminalSnr,
)

mp.mp.dps = 60  # 40, and 20 for the cancellation in 1 − α² and in difference quotients


def logsnr_of_angle(angle):
    return -2 * mp.log(mp.tan(angle)) if angle > 0 else mp.inf


def angle_of(logsnr):
    return mp.atan(mp.exp(-mp.mpf(logsnr) / 2))


@singledispatch
def logsnr(schedule, t):
    raise NotImplementedError(f"write the formula of {type(schedule).__name__} here")


@logsnr.register
def _(schedule: Cosine, t):
    offset = mp.mpf(schedule.offset)
    first, last = mp.pi / 2 * offset / (1 + offset), mp.pi / 2
    if schedule.logsnr_max is not None:
        first = max(first, angle_of(schedule.logsnr_max))
    if schedule.logsnr_min is not None:
        last = angle_of(schedule.logsnr_min)
    return logsnr_of_angle(first + t * (last - first))


@logsnr.register
def _(schedule: LinearBeta, t):
    low, high = mp.mpf(schedule.beta_min), mp.mpf(schedule.beta_max)
    alpha_squared = mp.exp(-(low * t + t**2 / 2 * (high - low)))
    return mp.log(alpha_squared / (1 - alpha_squared)) if t > 0 else mp.inf


@logsnr.register
def _(schedule: UniformLogSnr, t):
    return schedule.logsnr_max + t * (mp.mpf(schedule.logsnr_min) - schedule.logsnr_max)


@logsnr.register
def _(schedule: UniformPower, t):
    power = mp.mpf(schedule.power)
    clean, noisy = mp.exp(power * schedule.logsnr_max), mp.exp(power * schedule.logsnr_min)
    return mp.log(clean + t * (noisy - clean)) / power


@logsnr.register
def _(schedule: LogNormal, t):
    return -2 * (schedule.mean + schedule.std * mp.sqrt(2) * mp.erfinv(2 * t - 1))


@logsnr.register
def _(schedule: FlowMatching, t):
    return mp.log(((1 - t) / t) ** 2)


@logsnr.register
def _(schedule: Tabulated, t):
    position = t * (len(schedule.logsnrs) - 1)
    n = min(int(mp.floor(position)), len(schedule.logsnrs) - 2)
    a, b = (angle_of(schedule.logsnrs[i]) for i in (n, n + 1))
    return logsnr_of_angle(a + (position - n) * (b - a))


@logsnr.register
def _(schedule: Shifted, t):
    return logsnr(schedule.base, t) - 2 * mp.log(schedule.factor)


@logsnr.register
def _(schedule: Clipped, t):
    return min(max(logsnr(schedule.base, t), schedule.logsnr_min), schedule.logsnr_max)


@logsnr.register
def _(schedule: Interpolated, t):
    return (1 - t) * logsnr(schedule.clean, t) + t * logsnr(schedule.noisy, t)


@logsnr.register
def _(schedule: ZeroTerminalSnr, t):
    def alpha(at):
        value = logsnr(schedule.base, mp.mpf(at))
        return mp.mpf(1) if value == mp.inf else mp.sqrt(1 / (1 + mp.exp(-value)))

    first = alpha(0)
    # At t = 1 an unlimited cosine is 0 but for the rounding of π/2.
    last = alpha(1)
    stretched = (alpha(t) - last) * first / (first - last)
    return mp.log(stretched**2 / (1 - stretched**2))
