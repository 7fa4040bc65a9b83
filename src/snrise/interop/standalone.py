"""One file of source that needs no snrise: some names of it, and all that these are made of, gathered from its modules.

Annotations are left as text (`from __future__ import annotations`), so that types alone bring nothing with them.
"""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import final

from snrise._errors import invalid

__all__ = ["Name", "standalone"]

PACKAGE = "snrise"


@final
@dataclass(frozen=True, order=True)
class Name:
    """A name at the top of a module, as `snrise.schedules.formulas:Cosine`.

    >>> Name.parse("snrise.schedules:Cosine")
    Name(module='snrise.schedules', name='Cosine')
    """

    module: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "Name":
        """From `module:name`."""
        module, _, name = text.partition(":")
        return cls(module, name)

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def standalone(names: Mapping[str, Name], heading: str) -> str:
    """The source of a module with these names, under these keys, which imports no snrise.

    What is defined in two modules under one name gets the module's name as an ending.

    Raises:
        SnriseError: for a name that is not defined at the top of a module of snrise, or needs a module as an object.

    >>> source = standalone({"Cosine": Name.parse("snrise.schedules:Cosine")}, "Alone.")
    >>> module = {}
    >>> exec(source, module)
    >>> module["Cosine"]()
    Cosine(offset=0.0, logsnr_min=-15.0, logsnr_max=15.0)
    """
    found = _Gathered()
    wanted = {key: found.add(_home(name)) for key, name in names.items()}
    lines = [f'"""{heading}"""', "", "from __future__ import annotations", "", *sorted(found.imports), ""]
    lines += [text for name in found.order for text in (found.source(name), "")]
    lines += [f"{key} = {found.title(name)}" for key, name in wanted.items() if key != found.title(name)]
    return "\n".join(lines) + "\n"


@final
@dataclass
class _Gathered:
    """Definitions in an order in which each comes after those that it needs to be made, and imports of other packages.

    Functions may call what comes after them; classes, defaults and constants need theirs first.
    """

    order: list[Name] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    known: set[Name] = field(default_factory=set)

    def add(self, name: Name) -> Name:
        """The name, gathered with all that it needs."""
        if name in self.known:
            return name
        self.known.add(name)
        module = _module(name.module)
        now, later = _needs(module, name.name)
        for needed in now:
            self._reference(module, needed)
        self.order.append(name)
        for needed in later - now:
            self._reference(module, needed)
        return name

    def _reference(self, module: "_Module", name: str) -> None:
        if name in module.foreign:
            self.imports.add(module.foreign[name])
        elif name in module.own or name in module.inner:
            self.add(_home(Name(module.name, name)))

    def title(self, name: Name) -> str:
        """What a definition is called in the file: its own name, unless an earlier one has it."""
        first = min(other for other in self.known if other.name == name.name)
        return name.name if first == name else f"{name.name}_{name.module.rpartition('.')[2].strip('_')}"

    def source(self, name: Name) -> str:
        """The text of a definition, its references under the names that they have here."""
        module = _module(name.module)
        node = module.own[name.name]
        titles = {text: self.title(_home(Name(module.name, text))) for text in _referred(node)
                  if text in module.own or text in module.inner}
        return _renamed(module, node, {old: new for old, new in titles.items() if old != new}, name.name,
                        self.title(name))


@final
@dataclass(frozen=True)
class _Module:
    """A module's definitions, what it imports from snrise, and what from elsewhere, each by name."""

    name: str
    lines: tuple[str, ...]
    own: dict[str, ast.stmt]
    inner: dict[str, Name]
    foreign: dict[str, str]


@lru_cache(maxsize=256)
def _module(name: str) -> _Module:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise invalid("standalone", name, "a module of snrise")
    text = Path(spec.origin).read_text(encoding="utf-8")
    own: dict[str, ast.stmt] = {}
    inner: dict[str, Name] = {}
    foreign: dict[str, str] = {}
    for node in ast.parse(text).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                own[node.name] = node
            case ast.Assign(targets=targets):
                own |= {t.id: node for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=target)):
                own[target] = node
            case ast.If(body=body, orelse=orelse):  # one of several definitions, such as by Python's version
                own |= {text: node for part in (*body, *orelse) for text in _bound(part)}
            case ast.ImportFrom(module=str(source), names=names) if source.partition(".")[0] == PACKAGE:
                inner |= {alias.asname or alias.name: Name(source, alias.name) for alias in names}
            case ast.ImportFrom(module=source, names=names):
                for alias in names:
                    foreign[alias.asname or alias.name] = f"from {source} import {_said(alias)}"
            case ast.Import(names=names):
                for alias in names:
                    foreign[alias.asname or alias.name.partition(".")[0]] = f"import {_said(alias)}"
    return _Module(name, tuple(text.splitlines()), own, inner, foreign)


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement defines or imports."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.ImportFrom(names=names) | ast.Import(names=names):
            return [alias.asname or alias.name for alias in names]
    return []


def _said(alias: ast.alias) -> str:
    return alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"


@lru_cache(maxsize=4096)
def _home(name: Name) -> Name:
    """Where a name is defined, through the modules that pass it on."""
    module = _module(name.module)
    if name.name in module.own:
        return name
    if name.name not in module.inner:
        raise invalid("standalone", str(name), "a name at the top of a module of snrise, none of a whole module")
    return _home(module.inner[name.name])


def _needs(module: _Module, name: str) -> tuple[set[str], set[str]]:
    """What a definition refers to when it is made, and all that it refers to."""
    node = module.own[name]
    return {text for part in _at_once(node) for text in _referred(part)}, set(_referred(node))


def _at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a definition that are evaluated where it stands: of functions the decorators and defaults."""
    match node:
        case ast.FunctionDef() | ast.Lambda():
            yield from getattr(node, "decorator_list", [])
            yield from (default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None)
        case ast.ClassDef():
            yield from (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords))
            for part in node.body:
                yield from _at_once(part)
        case _:
            yield node


def _referred(node: ast.AST) -> Iterator[str]:
    """Names that code refers to; those of annotations do not count, but for ClassVar, which dataclasses look for."""
    yield from (name.id for name in _names(node))
    if any(isinstance(part, ast.AnnAssign) and "ClassVar" in ast.unparse(part.annotation) for part in ast.walk(node)):
        yield "ClassVar"


def _names(node: ast.AST) -> Iterator[ast.Name]:
    if isinstance(node, ast.Name):
        yield node
    for label, value in ast.iter_fields(node):
        if label in ("annotation", "returns"):
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                yield from _names(part)


def _renamed(module: _Module, node: ast.stmt, titles: Mapping[str, str], name: str, title: str) -> str:
    """The text of a definition with other names."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    assert node.end_lineno is not None
    lines = [line.encode() for line in module.lines[first - 1 : node.end_lineno]]
    places = [(n.lineno, n.col_offset, n.id, titles[n.id]) for n in _names(node) if n.id in titles]
    if name != title:
        places += [(n.lineno, n.col_offset, n.id, title) for n in ast.walk(node) if isinstance(n, ast.Name)
                   and n.id == name and isinstance(n.ctx, ast.Store)]
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            line = lines[node.lineno - first]
            places.append((node.lineno, line.index(name.encode(), line.index(b" ")), name, title))
    for row, column, old, new in sorted(set(places), reverse=True):
        line = lines[row - first]
        lines[row - first] = line[:column] + new.encode() + line[column + len(old.encode()) :]
    return b"\n".join(lines).decode()
