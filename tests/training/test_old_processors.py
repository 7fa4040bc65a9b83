"""On a processor that does not multiply bfloat16, emulated here, nothing of the default recipe is multiplied in it."""

import json
import os
import subprocess
import sys

import pytest
import torch

from snrise.precision import bf16_is_native

#: What holds PyTorch's libraries back, as on a processor with AVX2 alone.
OLD = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
#: Two steps of the default recipe and a picture: the dtypes of every product and convolution on the way.
PROGRAM = """
import json, torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from snrise import Experiment, documents
from snrise.generation import Generation, generate
from snrise.training import TrainState, train

class Dtypes(TorchDispatchMode):
    found = set()
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._overloadpacket in flop_registry:
            self.found |= {str(a.dtype) for a in args if isinstance(a, torch.Tensor)}
        return func(*args, **(kwargs or {}))

torch.set_num_threads(1)
config = documents.load("emoji-32", ["training.batch=4", "data.only=[flags]", "sampling.steps=2"])
how = Experiment.of(config)
with Dtypes() as dtypes:
    list(train(TrainState.of(how), how.dataset.batches(4, seed=0), how, images=8))
    list(generate(Generation.of(config, how.network), torch.tensor([0]), 1))
print(json.dumps(sorted(dtypes.found)))
"""


@pytest.mark.slow
@pytest.mark.precision
@pytest.mark.parametrize("old", [True, False], ids=["old", "as it is"])
def test_the_default_recipe_multiplies_in_what_the_processor_has(old):
    environment = os.environ | OLD if old else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    native = bf16_is_native(torch.device("cpu")) and not old
    assert json.loads(done.stdout) == ["torch.bfloat16" if native else "torch.float32"]
