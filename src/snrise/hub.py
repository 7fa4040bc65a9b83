"""Weights at the Hugging Face Hub: what a name `hub:USER/NAME` means, fetched once, and how a folder gets there.

It needs the extra `hub`; the connection, the cache and the credentials are those of `huggingface_hub`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

from snrise._errors import SnriseError, invalid

__all__ = ["WEIGHTS", "Fetched", "HubName", "fetch", "is_hub_name", "publish"]

#: The file of a run's weights, settings and classes in its repository.
WEIGHTS = "snrise.safetensors"
PREFIX = "hub:"
#: Where fetching fails too, and what helps there.
UNCACHED, FOLDER = ", and it is not in the cache", ", or give a folder"
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"hub:(?P<repository>{_WORD}/{_WORD})(?:@(?P<revision>[^/@\s]+))?(?:/(?P<folder>[\w./-]+))?")


@final
@dataclass(frozen=True, kw_only=True)
class HubName:
    """A repository at the Hub, perhaps at a revision (a branch, a tag or a commit) and a folder in it.

    >>> name = HubName.parse("hub:somebody/flags@v1/codec")
    >>> name.repository, name.revision, name.folder, str(name)
    ('somebody/flags', 'v1', 'codec', 'hub:somebody/flags@v1/codec')
    """

    repository: str
    revision: str | None = None
    folder: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Read `hub:USER/NAME[@REVISION][/FOLDER]`.

        Raises:
            SnriseError: for anything else.
        """
        match = _NAME.fullmatch(text)
        parts = [] if match is None else (match["folder"] or "").split("/")
        if match is None or ".." in parts:
            raise invalid("hub", text, "hub:USER/NAME, hub:USER/NAME@REVISION", "such as hub:somebody/flags@main")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        at = "" if self.revision is None else f"@{self.revision}"
        return f"{PREFIX}{self.repository}{at}" + ("" if self.folder is None else f"/{self.folder}")


@final
@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Files of a repository on this disk: their folder, and the name with the commit that they are of."""

    folder: Path
    name: HubName


def is_hub_name(path: str | Path) -> bool:
    """Whether a path is meant as a name at the Hub."""
    return str(path).startswith(PREFIX)


def fetch(text: str, files: Sequence[str]) -> Fetched:
    """The files of a repository, in the folder that the name says; from the cache where they are there already.

    A revision that is a commit is not asked for again. Of a branch the newest commit is taken, and without a connection
    the last one that was fetched.

    Raises:
        SnriseError: for a name that is none, no connection and nothing in the cache, or files that are not there.
    """
    name = HubName.parse(text)
    return _fetched(name, tuple(files))


@lru_cache(maxsize=32)
def _fetched(name: HubName, files: tuple[str, ...]) -> Fetched:
    hub = _library()
    wanted = [file if name.folder is None else f"{name.folder}/{file}" for file in files]
    try:
        folder = Path(hub.snapshot_download(name.repository, revision=name.revision, allow_patterns=wanted))
    except Exception as error:
        raise SnriseError(f"{name}: {_reason(error, UNCACHED)}") from error
    place = folder if name.folder is None else folder / name.folder
    if not any((place / file).is_file() for file in files):
        raise invalid(str(name), f"a repository without {wanted[0]}", "one that snrise push wrote")
    return Fetched(folder=place, name=HubName(repository=name.repository, revision=folder.name, folder=name.folder))


def publish(folder: Path, repository: str, *, private: bool, message: str) -> HubName:
    """Upload a folder as one commit, into a repository that is made if it is not there; its name with that commit.

    Raises:
        SnriseError: without a connection or credentials, or if the Hub refuses.
    """
    name, hub = HubName.parse(f"{PREFIX}{repository}"), _library()
    try:
        api = hub.HfApi()
        api.create_repo(name.repository, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=name.repository, folder_path=folder, commit_message=message)
    except Exception as error:
        raise SnriseError(f"{name}: {_reason(error)}") from error
    return HubName(repository=name.repository, revision=commit.oid)


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise SnriseError("hub: needs the library huggingface_hub: pip install 'snrise[hub]'") from None
    return huggingface_hub


def _reason(error: Exception, also: str = "") -> str:
    """What an error of the library means, in one line; `also` is what has failed beside the connection."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    missing: Any = getattr(errors, "LocalEntryNotFoundError", ())
    offline: Any = getattr(errors, "OfflineModeIsEnabled", ())
    if isinstance(error, offline) or "OFFLINE" in str(error):
        return f"the Hub is switched off (HF_HUB_OFFLINE){also}; switch it on{FOLDER if also else ''}"
    unreached = any(kind.__name__ == "TransportError" for kind in type(error).__mro__)  # of whichever httpx it has
    if isinstance(error, missing) or unreached or (status is None and isinstance(error, OSError)):
        return f"the Hub cannot be reached{also}; try again with a connection{FOLDER if also else ''}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision; see the repository's history for its branches, tags and commits"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return "no such repository, or none that you may read or write; log in with: hf auth login"
    return f"the Hub says: {type(error).__name__} {' '.join(str(error).split())[:200]}"
