"""One kind of error for everything a user can get wrong: where, what was got, what is allowed, the nearest fix."""

import difflib
from collections.abc import Iterable
from typing import Any


class SnriseError(ValueError):
    """A mistake in the input, told in one line; the command line prints it and exits with status 2."""


def invalid(where: str, got: Any, allowed: str, fix: str = "") -> SnriseError:
    """The one shape of an error message.

    >>> print(invalid("Shifted.factor", -1, "a number above 0", "use 2 for a doubled side"))
    Shifted.factor: got -1; allowed: a number above 0; use 2 for a doubled side
    """
    return SnriseError(f"{where}: got {got!r}; allowed: {allowed}" + (f"; {fix}" if fix else ""))


def unknown(where: str, name: Any, options: Iterable[str], noun: str = "name") -> SnriseError:
    """A name that is in no table, with its nearest neighbour if there is one.

    >>> print(unknown("config.schedule", "cosin", ["cosine", "linear_beta"], "schedule"))
    config.schedule: no such schedule 'cosin'; did you mean 'cosine'? allowed: cosine, linear_beta
    """
    options = sorted(map(str, options))
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return SnriseError(f"{where}: no such {noun} {name!r};{hint} allowed: {', '.join(options)}")


def require(condition: bool, where: str, got: Any, allowed: str, fix: str = "") -> None:
    """Raise `invalid(…)` unless the condition holds."""
    if not condition:
        raise invalid(where, got, allowed, fix)
