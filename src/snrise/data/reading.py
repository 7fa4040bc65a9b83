"""Reading an image file, with every failure reported in one line that names the file."""

from jaxtyping import UInt8
from PIL import UnidentifiedImageError
from torch import Tensor

from snrise._errors import SnriseError
from snrise.data.preprocess import Preprocess
from snrise.data.sources import Source


def read_image(source: Source, index: int, preprocess: Preprocess) -> UInt8[Tensor, "3 h w"]:
    """The pixels of one image, uint8 [3 H W].

    The only place where files are decoded; `Dataset.unreadable` says what follows from a failure.

    Raises:
        SnriseError: naming the file and the cause, if it is missing, empty, truncated, no image, or refused by
            `preprocess`.

    >>> from snrise.data import Emoji
    >>> read_image(Emoji(), 0, Preprocess((64, 64))).shape
    torch.Size([3, 64, 64])
    """
    name = source.name(index)
    try:
        image = source.read(index)
    except Exception as error:  # decoders raise whatever they like on broken data
        raise _unreadable(name, error) from error
    preprocess.check(image, name)
    try:
        preprocess.draft(image)
        image.load()
    except Exception as error:
        raise _unreadable(name, error) from error
    return preprocess(image, name)


def _unreadable(name: str, error: Exception) -> SnriseError:
    """One line for the error: `NAME: cannot be read: CAUSE; …`."""
    match error:
        case UnidentifiedImageError():
            cause = "not an image in a format that Pillow knows"
        case OSError(strerror=str(text)):
            cause = text
        case _:
            cause = " ".join(str(error).split()) or type(error).__name__
    return SnriseError(f"{name}: cannot be read: {cause}; allowed: an intact image file; replace or remove it")
