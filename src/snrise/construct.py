"""Plain data (what YAML holds) to frozen dataclasses and back, strictly.

A dataclass is its own config: its fields are the settings. Where a field takes one of several members of a table (a
schedule, a weighting …) the data name it by `kind`; the settings of an `INLINED` member stand beside its name instead.
Every mistake is one line that begins with the setting's path.

>>> from snrise.schedules import Schedule
>>> construct(Schedule, {"kind": "cosine", "logsnr_max": 12}, "config.schedule")
Cosine(offset=0.0, logsnr_min=-15.0, logsnr_max=12.0)
"""

import dataclasses
import json
import math
import re
import types
import typing
from collections import ChainMap
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from snrise._errors import SnriseError, invalid, unknown
from snrise.codecs import ARCHITECTURES, CODECS, Architecture, Codec
from snrise.data import SOURCES, SourceConfig
from snrise.denoisers import WRAPPERS, Wrapper
from snrise.networks import NETWORKS, External, NetworkConfig
from snrise.optimizers import OPTIMIZERS, Optimizer
from snrise.process import PROCESSES, Process
from snrise.rates import DECAYS, Decay
from snrise.samplers import GRIDS, SAMPLERS, Grid, Sampler
from snrise.schedules import SCHEDULES, Schedule
from snrise.weightings import WEIGHTINGS, Weighting

__all__ = ["INLINED", "TABLES", "check_named", "construct", "kind_of", "plain"]

#: Open choices: the interface, and its members by name.
TABLES: dict[Any, Mapping[str, type]] = {
    Schedule: SCHEDULES, Weighting: WEIGHTINGS, Process: PROCESSES, Sampler: SAMPLERS, Grid: GRIDS,
    Optimizer: OPTIMIZERS, Decay: DECAYS, SourceConfig: SOURCES, Codec: CODECS, Wrapper: WRAPPERS,
    Architecture: ARCHITECTURES,
    NetworkConfig: ChainMap({"external": External}, NETWORKS),
}

#: Metadata of a field that takes a member of a table: `source: folder, path: photos` instead of a section of its own.
INLINED = {"inlined": True}

T = TypeVar("T")


def construct(kind: type[T] | Any, data: Any, where: str) -> T:
    """Build a `kind` from plain data; `where` is the path that errors begin with."""
    try:
        result: T = _value(kind, data, where)
    except RecursionError:
        raise SnriseError(f"{where}: nested too deeply") from None
    return result


def _value(hint: Any, data: Any, where: str) -> Any:
    if hint in TABLES:
        return _member(hint, data, where)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, data, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType) and any(_is_structure(a) for a in arguments):
        if data is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if _is_structure(a)), data, where)
    if origin is tuple and arguments and _is_structure(arguments[0]):
        if not isinstance(data, list | tuple):
            raise invalid(where, data, "a list")
        return tuple(_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    return _leaf(hint, data, where)


def _is_structure(hint: Any) -> bool:
    return hint in TABLES or dataclasses.is_dataclass(hint)


def _member(interface: Any, data: Any, where: str) -> Any:
    """A member of a table, named by `kind`; a bare name is a member with its defaults."""
    table = TABLES[interface]
    data = {"kind": data} if isinstance(data, str) else data
    if not isinstance(data, Mapping) or "kind" not in data:
        raise invalid(where, data, f"settings with a kind: {', '.join(sorted(table))}")
    kind = data["kind"]
    if not isinstance(kind, str) or kind not in table:
        raise unknown(f"{where}.kind", kind, table, "kind")
    return _dataclass(table[kind], {k: v for k, v in data.items() if k != "kind"}, where)


def _dataclass(kind: Any, data: Any, where: str) -> Any:
    data = {} if data is None else data
    if not isinstance(data, Mapping):
        raise invalid(where, data, "settings, each `name: value`")
    hints = typing.get_type_hints(kind)
    names = _names(kind)
    values: dict[str, Any] = {}
    for f in dataclasses.fields(kind):
        if f.metadata.get("inlined"):
            values[f.name], data = _inlined(f, TABLES[hints[f.name]], names, data, where)
    for key in data:
        if key not in names:
            raise unknown(f"{where}.{key}", key, names, "setting")
    for f in dataclasses.fields(kind):
        if f.name in values:
            continue
        if f.name not in data:
            if f.default is f.default_factory is dataclasses.MISSING:
                raise SnriseError(f"{where}.{f.name}: missing; {f.metadata.get('missing', 'give it a value')}")
        elif data[f.name] in (math.inf, -math.inf) and data[f.name] == f.default:
            values[f.name] = f.default  # no limit, where that is what a setting says by itself
        else:
            values[f.name] = _value(hints[f.name], _with_kind(data[f.name], f.default), f"{where}.{f.name}")
    try:
        return kind(**values)
    except SnriseError as error:
        # The constructor says "Level.dropout: …" or "dropout: …"; here the whole path to it is known.
        message = str(error).removeprefix(f"{kind.__name__}.")
        joint = "." if re.split(r"[:.\[]", message, maxsplit=1)[0] in names else ": "
        raise SnriseError(f"{where}{joint}{message}") from None


def _names(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def _inlined(
    f: Any, table: Mapping[str, type], beside: list[str], data: Mapping[Any, Any], where: str
) -> tuple[Any, dict[Any, Any]]:
    """An inlined member, and the remaining settings.

    Settings of other members of the table are ignored at their defaults: configs of earlier versions listed all.
    """
    name = data.get(f.name, kind_of(f.default))
    if not isinstance(name, str) or name not in table:
        raise unknown(f"{where}.{f.name}", name, table, f.name)
    own = _names(table[name])
    others = [(kind, field) for kind, member in table.items() for field in dataclasses.fields(member)]
    for key in data:
        if key not in (*beside, *own, *(field.name for _, field in others)):
            raise unknown(f"{where}.{key}", key, [*beside, *own], "setting")
    member = _dataclass(table[name], {key: value for key, value in data.items() if key in own}, where)
    left = {key: value for key, value in data.items() if key not in own and key != f.name}
    for key, value in left.items():
        theirs = {kind: field.default for kind, field in others if field.name == key and key not in beside}
        if theirs and value not in (None, [], *theirs.values()):
            raise invalid(f"{where}.{key}", value, f"a setting of {f.name}={', '.join(theirs)} alone", "leave it out")
    return member, {key: value for key, value in left.items() if key in beside}


def _with_kind(data: Any, default: Any) -> Any:
    """Settings without a kind are of the default's kind."""
    name = kind_of(default)
    return {"kind": name, **data} if isinstance(data, Mapping) and "kind" not in data and name else data


def kind_of(member: Any) -> str | None:
    """The name of a member in its table, or None for anything else."""
    return next((name for table in TABLES.values() for name, kind in table.items() if type(member) is kind), None)


def check_named(interface: Any, member: Any, where: str) -> None:
    """Raise for an object without a name in its table, at any depth: it could not be written as settings."""
    table = TABLES[interface]
    if kind_of(member) is None:
        got, fix = type(member).__name__, "give it a name there first: a frozen dataclass is its own settings"
        raise invalid(where, got, f"a type in the table of {', '.join(sorted(table))}", fix)
    hints = typing.get_type_hints(type(member))
    for f in dataclasses.fields(member):
        value = getattr(member, f.name)
        for hint in (hints[f.name], *typing.get_args(hints[f.name])):
            if hint in TABLES and value is not None:
                check_named(hint, value, f"{where}.{f.name}")


def _leaf(hint: Any, data: Any, where: str) -> Any:
    """A number, text, choice or list of them, checked by pydantic without any coercion beyond JSON's."""
    try:
        value = TypeAdapter(hint).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = where + "".join(f"[{part}]" if isinstance(part, int) else "" for part in first["loc"])
        options = _options(hint)
        if options and isinstance(data, str):
            raise unknown(path, data, options, "choice") from None
        allowed = f"one of {', '.join(options)}" if options else first["msg"].removeprefix("Input should be ")
        raise invalid(path, data, allowed) from None
    except (TypeError, ValueError):  # no JSON: a date, bytes, a list that holds itself
        raise invalid(where, data, "a number, text, true or false, or a list of them") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(where, data, "a finite number")
    return value


def _options(hint: Any) -> list[str]:
    """The names that a choice allows, if the hint is one (or one or nothing)."""
    for part in typing.get_args(hint) or (hint,):
        if isinstance(part, type) and issubclass(part, Enum):
            return [str(member.value) for member in part]
    return []


def plain(value: Any) -> Any:
    """The inverse of `construct`: only dicts, lists, text, numbers, true, false and null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = kind_of(value)
        settings: dict[str, Any] = {"kind": name} if name else {}
        for f in dataclasses.fields(value):
            inner = plain(getattr(value, f.name))
            settings |= {f.name: inner.pop("kind"), **inner} if f.metadata.get("inlined") else {f.name: inner}
        return settings
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return dict(value) if isinstance(value, dict) else value
