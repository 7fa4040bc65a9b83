"""Recipes and YAML files: plain documents of settings, overridden by `key=value`, then validated."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from snrise._errors import SnriseError, invalid, require, unknown
from snrise._typing import Size
from snrise.codecs import CODECS, Codec, autoencoders
from snrise.config import EXPONENT, RunConfig, parse
from snrise.construct import construct
from snrise.networks.stems import factor_for

__all__ = [
    "DEFAULT_RECIPE", "differences", "document_of", "load", "override", "read_document", "recipes", "resolve", "value",
]

DEFAULT_RECIPE = "emoji-32"


def recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files("snrise"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_document(recipe: str, known: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """The plain settings of a recipe's name or of a YAML file; by default of `recipes`."""
    known = recipes() if known is None else known
    path = known.get(recipe, Path(recipe))
    try:
        if not path.is_file():
            raise unknown("recipe", recipe, known, "recipe or file")
        return document_of(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SnriseError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SnriseError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def document_of(text: str, where: str) -> dict[str, Any]:
    """The plain settings in a YAML text; errors begin with `where`."""
    try:
        document = _plain(text)
    except yaml.YAMLError as error:
        raise SnriseError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise invalid(where, type(document).__name__, "settings, each `name: value`")
    return document


def override(document: dict[str, Any], assignment: str) -> None:
    """Change one setting of a plain document by `key=value`; keys are joined by dots, list items are numbers.

    >>> document = {"training": {"batch": 32}}
    >>> override(document, "training.batch=8")
    >>> document
    {'training': {'batch': 8}}
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise invalid("override", assignment, "key=value, such as training.batch=16")
    content = value(text, f"config.{key}")
    *path, name = key.split(".")
    place: Any = document
    for i, part in enumerate(path):
        if isinstance(place, list):
            place = place[_index(place, part, f"config.{'.'.join(path[: i + 1])}")]
        elif isinstance(place, dict):
            if not isinstance(place.get(part), dict | list):
                place[part] = {"kind": place[part]} if isinstance(place.get(part), str) else {}
            place = place[part]
    if isinstance(place, list):
        place[_index(place, name, f"config.{key}")] = content
    elif isinstance(place, dict):
        place[name] = content
    else:
        raise invalid(f"config.{'.'.join(path)}", place, f"settings, to have {name!r} among them")


def value(text: str, where: str) -> Any:
    """Parse a YAML value.

    >>> value("{kind: cosine, logsnr_max: 1e1}", "--schedule")
    {'kind': 'cosine', 'logsnr_max': 10.0}
    """
    try:
        return _plain(text)
    except yaml.YAMLError:
        raise invalid(where, text, "a YAML value") from None


def _plain(text: str) -> Any:
    """YAML as plain data. PyYAML lets other errors escape from malformed values, such as a 13th month."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise
    except Exception as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None


def _index(items: list[Any], text: str, where: str) -> int:
    if text not in map(str, range(len(items))):
        raise invalid(where, text, f"a number from 0 to {len(items) - 1}")
    return int(text)


def resolve(document: dict[str, Any]) -> None:
    """Replace what stands for something longer, so that a saved config says it.

    A `codec` that is a path, or the name of a built-in one, is the autoencoder there, and `network.image_channels` are
    those of its codes.
    `network.stem: auto` is the smallest factor by which the last level has a short side of 8 cells or fewer.
    """
    codec = document.get("codec")
    if isinstance(codec, str) and codec not in CODECS and _names_a_codec(codec):
        codec = document["codec"] = {"kind": "diffusers", "path": codec}
    network, data = document.get("network"), document.get("data")
    if not isinstance(network, dict) or not isinstance(data, dict):
        return
    coded = isinstance(codec, dict) and codec.get("kind") == "diffusers"
    if not coded and network.get("stem") != "auto":
        return
    sides: Size = construct(Size, data.get("resolution"), "config.data.resolution")
    if coded:
        fix = "take a network without a nest: emoji-128-stem network.stem=1"
        require(network.get("kind") != "nested", "config.codec", codec, "pixels, whose octaves a nest adds", fix)
        made: Codec = construct(Codec, codec, "config.codec")
        channels, *rest = made.shape(sides)
        sides = rest[0], rest[1]
        network.setdefault("image_channels", channels)
    if network.get("stem") == "auto":
        levels = network.get("levels")
        network["stem"] = factor_for(sides, 4 * 2 ** (len(levels) if isinstance(levels, list) else 1))


def _names_a_codec(text: str) -> bool:
    """Whether it is a built-in autoencoder, a path, or a name at the Hub."""
    return text in autoencoders() or "/" in text or Path(text).exists()


def load(recipe: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The settings of a recipe or YAML file, with overrides.

    >>> load("emoji-32", ["training.batch=8"]).training.batch
    8
    """
    document = read_document(recipe)
    for assignment in overrides:
        override(document, assignment)
    resolve(document)
    return parse(document)


def differences(a: Any, b: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    """The settings in which two plain documents differ: path, value in a, value in b."""
    if _holds_settings(a) and _holds_settings(b) and len(a) == len(b):
        a, b = ({str(i): item for i, item in enumerate(items)} for items in (a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            difference
            for key in sorted(a.keys() | b.keys())
            for difference in differences(a.get(key), b.get(key), f"{where}.{key}" if where else key)
        ]
    return [] if a == b else [(where, a, b)]


def _holds_settings(value: Any) -> bool:
    """Whether it is a list of settings, such as a network's levels."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which reads 1e-3 as a number, and refuses duplicate keys and aliases.

    An alias would share its target: overriding one would override all; and it could be recursive.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            text = f"alias *{event.anchor} is not allowed; write the value out"
            raise yaml.composer.ComposerError(None, None, text, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                text = f"the name of a setting is text, not {key!r}"
                raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"setting {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(*EXPONENT)
