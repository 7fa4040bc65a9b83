"""Settings as plain data that name their types, and back: all that a network or a sampler is built from."""

import importlib
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from snrise._errors import invalid

__all__ = ["GENERATION", "TYPES", "described", "rebuilt", "types_in"]

#: Types by what `described` calls them; those that are not here are looked for in snrise.
TYPES: dict[str, Any] = {}
#: The settings of a `Generation` that a pipeline is described by.
GENERATION = ("target", "schedule", "size", "codec", "sampling", "precision")


def described(thing: Any) -> Any:
    """Frozen dataclasses and enumerations -> dictionaries with their `type`; tuples -> lists; the rest as it is.

    >>> from snrise.schedules import Cosine, Shifted
    >>> described(Shifted(base=Cosine(logsnr_min=None), factor=2.0))["base"]["type"]
    'snrise.schedules.formulas:Cosine'
    >>> rebuilt(described(Shifted(base=Cosine(), factor=2.0)))
    Shifted(base=Cosine(offset=0.0, logsnr_min=-15.0, logsnr_max=15.0), factor=2.0)

    Raises:
        SnriseError: for what is none of these, such as a function.
    """
    if isinstance(thing, Enum):
        return {"type": _type_of(thing), "value": thing.value}
    if is_dataclass(thing) and not isinstance(thing, type):
        return {"type": _type_of(thing)} | {f.name: described(getattr(thing, f.name)) for f in fields(thing) if f.init}
    if isinstance(thing, list | tuple):
        return [described(part) for part in thing]
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    raise invalid("described", type(thing).__name__, "numbers, texts and frozen dataclasses of snrise")


def rebuilt(document: Any) -> Any:
    """What `described` was given, lists as tuples.

    Raises:
        SnriseError: for a type that is not one of snrise's settings.
    """
    if isinstance(document, list | tuple):
        return tuple(rebuilt(part) for part in document)
    if not isinstance(document, dict):
        return document
    kind = _type(document["type"])
    return kind(**{name: rebuilt(value) for name, value in document.items() if name != "type"})


def types_in(document: Any) -> set[str]:
    """The types that a description names."""
    if isinstance(document, list):
        return {text for part in document for text in types_in(part)}
    if isinstance(document, dict):
        own = {document["type"]} if "type" in document else set()
        return own | {text for part in document.values() for text in types_in(part)}
    return set()


def _type_of(thing: Any) -> str:
    return f"{type(thing).__module__}:{type(thing).__name__}"


def _type(text: str) -> Any:
    """A type by its description: only dataclasses and enumerations of snrise, as the text may be anybody's."""
    if text in TYPES:
        return TYPES[text]
    module, _, name = text.partition(":")
    found = getattr(importlib.import_module(module), name, None) if module.startswith("snrise.") else None
    if not (isinstance(found, type) and (is_dataclass(found) or issubclass(found, Enum))):
        raise invalid("rebuilt", text, "the type of a setting of snrise, as module:name")
    return found
