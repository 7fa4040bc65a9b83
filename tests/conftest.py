import os
import tempfile

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("snrise", derandomize=True, max_examples=30, deadline=None)
settings.load_profile("snrise")
# Whatever keeps pixels on disk unless told where does not do so in the home of whoever runs the tests.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="snrise-tests-")
