import os
import tempfile

# Read when the library is imported: no test waits for a connection.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from hypothesis import settings

from tiny import DOCUMENT

torch.set_num_threads(1)
settings.register_profile("snrise", derandomize=True, max_examples=30, deadline=None)
settings.load_profile("snrise")
# Whatever keeps pixels on disk unless told where does not do so in the home of whoever runs the tests.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="snrise-tests-")


@pytest.fixture
def beside_tiny_yaml(tmp_path, monkeypatch):
    """In a folder with a config, on a terminal 80 wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
