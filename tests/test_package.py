"""The package as others see it: names, types, a version, a module that runs."""

import importlib.metadata
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import snrise


def test_it_has_names_and_a_version():
    assert snrise.__version__ == importlib.metadata.version("snrise")
    for name in snrise.__all__:
        assert getattr(snrise, name) is not None
    assert set(snrise.__all__) <= set(dir(snrise))
    with pytest.raises(AttributeError, match="module 'snrise' has no attribute 'nothing'"):
        snrise.nothing  # noqa: B018


#: What users call, of whatever room.
NAMES = {"Experiment", "Run", "SnriseError", "Trained", "evaluate", "load", "train"}


def test_every_public_module_has_its_name():
    """Rooms for users; the command line and what builds settings are reached through these."""
    rooms = {path.stem for path in Path(snrise.__file__).parent.iterdir()
             if path.suffix == ".py" or (path / "__init__.py").is_file()}
    inner = {"cli", "construct", "cpu", "files", "hub", "quantities", "sharding", "store", "tensorfile"}
    private = {name for name in rooms if name.startswith("_")} | inner
    assert rooms - private == set(snrise.__all__) - {"__version__", *NAMES}


def test_one_error_for_all():
    with pytest.raises(snrise.SnriseError) as error:
        snrise.schedules.Shifted(base=snrise.schedules.Cosine(), factor=0)
    assert isinstance(error.value, ValueError)
    assert pickle.loads(pickle.dumps(error.value)).args == error.value.args


def test_it_is_typed():
    assert (Path(snrise.__file__).parent / "py.typed").is_file()


def test_importing_it_imports_nothing_large():
    code = "import sys, snrise; print([n for n in ('torch', 'numpy', 'matplotlib', 'typer') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "snrise", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == snrise.__version__
