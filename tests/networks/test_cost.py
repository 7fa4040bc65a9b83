"""Counted operations are those that PyTorch's counter finds in a real forward pass."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from snrise.networks import PRESETS, cost
from tiny import CROPPED, NETWORKS, built

TINY = [pytest.param(config, (32, 48), id=name) for table in NETWORKS.values() for name, config in table.items()]
#: Of which training sees a part alone.
TINY.append(pytest.param(CROPPED, (32, 48), id="crop"))
#: Those that run in a moment; the rest is the same code.
SMALL = [pytest.param(PRESETS[name], (int(name[2:]),) * 2, id=name) for name in PRESETS if name.startswith("s-")]
#: PyTorch leaves fused attention on a CPU out. The function gets shapes.
FUSED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}


@pytest.mark.parametrize(("config", "image"), [*TINY, *SMALL])
@pytest.mark.parametrize("classes", [None, 5])
def test_parameters_and_operations_are_those_of_a_real_pass(config, image, classes):
    network = built(config, classes).eval()  # in training a nest may see a part of the image alone
    labels = None if classes is None else torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter, torch.no_grad():
        network(torch.zeros(1, 3, *image), torch.zeros(1), labels)
    found = cost(built(config, classes, "meta"), image)
    assert found.flops == counter.get_total_flops()
    assert found.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("config", [config for table in NETWORKS.values() for config in table.values()])
def test_every_part_stands_at_one_stage_or_at_none(config):
    """The parts that stages name are the network's; no blocks are left over."""
    found = cost(built(config, 3, "meta"), (32, 32))
    named = [part for stage in config.stages() for part in stage.parts]
    assert len(named) == len(set(named))
    left = {part.name.rpartition("inner.")[2].split(".")[0] for part in found.parts if part.name not in named}
    assert left <= {"conditioning", "stem", "norm", "enter", "leave", "modulation", "positions", "bridge"}
