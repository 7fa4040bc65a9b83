"""What a run was made with: versions, commit and data, kept to trace results to their origin."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from snrise.data import Data

__all__ = ["made_with"]

PACKAGES = ("snrise", "numpy", "pillow")


def made_with(data: Data) -> dict[str, str]:
    """Versions, the commits of snrise and of the working directory, and the data's fingerprint and size.

    Without version control there is no commit; with uncommitted changes it ends in `+changes`.
    """
    package = Path(__file__).parents[1] / "__init__.py"
    tracked = _git(package.parent, "ls-files", "--error-unmatch", package.name) is not None
    commits = {"snrise_commit": _commit(package.parent) if tracked else None, "commit": _commit(Path.cwd())}
    return {
        **{name: version(name) for name in PACKAGES},
        "torch": str(torch.__version__), "python": platform.python_version(),
        **{name: commit for name, commit in commits.items() if commit},
        "data": data.fingerprint, **({} if data.length is None else {"images": str(data.length)}),
    }


def _commit(folder: Path) -> str | None:
    """The commit of a folder's repository, if it has one."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
