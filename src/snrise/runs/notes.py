"""Possible problems of a data set, before a long training."""

from collections.abc import Iterator

from snrise.data import Dataset, ImageFolder, order, suffix_counts

__all__ = ["notes"]

#: The size of so many images, spread over the data, is checked.
LOOKED_AT = 256


def notes(dataset: Dataset) -> Iterator[str]:
    """A line for each of: files that are not images, images smaller than the resolution, classes of a single image."""
    source = dataset.source
    if isinstance(source, ImageFolder) and source.ignored:
        yield f"{len(source.ignored)} files in {source.path} are not read as images: {suffix_counts(source.ignored)}"
    height, width = dataset.preprocess.size
    looked = order(0, 0, min(LOOKED_AT, len(dataset)), len(dataset))
    small = sum(_smaller(dataset, index) for index in looked)
    if small:
        follows = "enlarged; data.upscale=false leaves them out" if dataset.preprocess.upscale else "refused"
        yield f"of {len(looked)} images looked at, {small} are smaller than {height}x{width}: they are {follows}"
    if dataset.labels is not None and source.classes is not None:
        single = [name for name, n in zip(source.classes, dataset.labels.bincount().tolist(), strict=True) if n == 1]
        if single:
            more = ", …" if len(single) > 3 else ""
            yield f"{len(single)} of {len(source.classes)} classes have a single image: {', '.join(single[:3])}{more}"


def _smaller(dataset: Dataset, index: int) -> bool:
    """Whether an image is smaller than the resolution; one that cannot be read is reported when training gets to it."""
    height, width = dataset.preprocess.size
    try:
        with dataset.source.read(index) as image:
            return image.height < height or image.width < width
    except Exception:
        return False
