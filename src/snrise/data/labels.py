"""Class names of the files in a folder, from subfolders or a CSV; a file without one is an error."""

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from snrise._errors import SnriseError, invalid

_COLUMNS = ("file", "class")


def from_folders(folder: Path, files: Sequence[str]) -> list[str]:
    """The first folder of each relative path.

    Raises:
        SnriseError: if a file lies in no subfolder.

    >>> from_folders(Path("pets"), ["cat/1.png", "dog/big/2.png"])
    ['cat', 'dog']
    """
    parts = [PurePosixPath(file).parts for file in files]
    loose = [file for file, part in zip(files, parts, strict=True) if len(part) == 1]
    if loose:
        fix = f"move {_some(loose)} into a subfolder named after the class, or use classes=None"
        raise invalid("ImageFolder.classes", str(folder / loose[0]), "images in subfolders of the folder", fix)
    return [part[0] for part in parts]


def from_csv(folder: Path, files: Sequence[str], path: Path) -> list[str]:
    """The class of each file in a CSV with the header `file,class` (UTF-8, more columns are ignored).

    Raises:
        SnriseError: if the CSV cannot be read, lacks a column, or does not name every file exactly once.
    """
    where = f"ImageFolder.classes: {path}"
    table = _table(where, path)
    ghosts = sorted(set(table) - set(files))
    if ghosts:
        fix = f"remove {_some(ghosts)} from the CSV, or add the image"
        raise invalid(where, ghosts[0], f"images in {folder}", fix)
    bare = [file for file in files if file not in table]
    if bare:
        raise invalid(where, f"no row for {bare[0]}", "a row for every image", f"add rows for {_some(bare)}")
    return [table[file] for file in files]


def _table(where: str, path: Path) -> dict[str, str]:
    """File -> class."""
    table: dict[str, str] = {}
    for line, row in _rows(where, path):
        file, name = PurePosixPath(row["file"] or "").as_posix(), (row["class"] or "").strip()
        if not row["file"] or not name:
            raise invalid(where, dict(row), "a file and a class in each row", f"fill in line {line}")
        if file in table:
            raise invalid(where, file, "one row for each file", f"remove the second row, line {line}")
        table[file] = name
    return table


def _rows(where: str, path: Path) -> list[tuple[int, dict[str, str | None]]]:
    """The rows as (line number, the two columns)."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            missing = [column for column in _COLUMNS if column not in header]
            if missing:
                fix = f"missing: {', '.join(missing)}"
                raise invalid(where, ",".join(header), "a header line with the columns file,class", fix)
            return [(reader.line_num, {column: row[column] for column in _COLUMNS}) for row in reader]
    except OSError as error:
        raise invalid(where, error.strerror, "'folders', None, or a CSV that can be read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SnriseError(f"{where}: not a CSV in UTF-8: {error}; save it as one") from error


def _some(files: Sequence[str]) -> str:
    """One file by name, the rest by number.

    >>> _some(["a.png"]), _some(["a.png", "b.png", "c.png"])
    ("'a.png'", "'a.png' and 2 more")
    """
    return repr(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
