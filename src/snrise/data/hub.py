"""Data sets of the library `datasets`: from its hub, its cache, or saved on disk. Needs the extra `hub`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from PIL import Image

from snrise._errors import SnriseError, unknown
from snrise.data.sources import SourceConfig, digest, fill, index_classes, open_image

__all__ = ["Hub", "HubConfig"]


@final
@dataclass(frozen=True, kw_only=True)
class HubConfig(SourceConfig):
    """The settings of `Hub`."""

    path: str = field(metadata={"missing": "say which data set: data.path=NAME"})
    classes: str | None = None
    split: str = "train"
    column: str = "image"

    def open(self) -> "Hub":
        """The split, loaded by `datasets`."""
        return Hub(self.path, self.classes, split=self.split, column=self.column)


@dataclass(frozen=True, init=False, repr=False)
class Hub:
    """One split of a data set, by its name on the hub or by the folder that `save_to_disk` wrote.

    `column` holds the images; `classes` names the column of labels, or None. What comes over the network comes with
    `datasets`, which keeps it.

    Raises:
        SnriseError: if `datasets` is not installed, or has no such data set, split or column.
    """

    path: str
    split: str
    column: str
    by: str | None
    labels: tuple[int, ...] | None
    classes: tuple[str, ...] | None
    rows: Any

    def __init__(
        self, path: str | Path, classes: str | None = None, *, split: str = "train", column: str = "image"
    ) -> None:
        rows = _load(str(path), split)
        for name in (column, *([] if classes is None else [classes])):
            if name not in rows.column_names:
                raise unknown(f"Hub({str(path)!r})", name, rows.column_names, "column")
        labelled = None if classes is None else _labels(rows, classes)
        rows = _undecoded(rows, column)
        fill(
            self, path=str(path), split=split, column=column, by=classes, rows=rows,
            labels=labelled and labelled[0], classes=labelled and labelled[1],
        )

    def __repr__(self) -> str:
        return f"Hub({self.path!r}, classes={self.by!r}, split={self.split!r}, column={self.column!r})"

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> Image.Image:
        """The image as it is stored."""
        cell = self.rows[index][self.column]
        if isinstance(cell, Image.Image):
            return cell
        if not cell:
            raise OSError("no image in this row")
        return open_image(Path(cell["path"]).read_bytes() if cell["bytes"] is None else cell["bytes"])

    def name(self, index: int) -> str:
        """The data set, split and row."""
        return f"{self.path}/{self.split}[{index}]"

    def fingerprint(self) -> str:
        """A hash of what `datasets` knows the rows by, and of the labels."""
        return digest([(self.rows._fingerprint, len(self.rows)), (self.labels, self.classes)])


def _load(path: str, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise SnriseError("data.source=hub: needs the library datasets: pip install 'snrise[hub]'") from None
    try:
        saved = (Path(path) / "state.json").exists() or (Path(path) / "dataset_dict.json").exists()
        loaded = datasets.load_from_disk(path) if saved else datasets.load_dataset(path)
    except Exception as error:  # it raises whatever its many readers do
        raise SnriseError(f"data.path: datasets cannot load {path!r}: {' '.join(str(error).split())}") from error
    if isinstance(loaded, dict):
        if split not in loaded:
            raise unknown("data.split", split, loaded, "split")
        return loaded[split]
    return loaded


def _undecoded(rows: Any, column: str) -> Any:
    """The rows with their images as bytes, which this package decodes as it does any other."""
    import datasets

    kind = rows.features[column]
    return rows.cast_column(column, datasets.Image(decode=False)) if isinstance(kind, datasets.Image) else rows


def _labels(rows: Any, column: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """A class index per row, and the names: the column's own if it has them."""
    names = getattr(rows.features[column], "names", None)
    values = rows[column]
    if names is not None:
        return tuple(values), tuple(names)
    return index_classes([str(value) for value in values])
