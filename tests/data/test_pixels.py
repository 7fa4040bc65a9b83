import pytest
import torch
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.data import to_float, to_uint8

ALL = torch.arange(256, dtype=torch.uint8)


def test_round_trip_is_exact():
    assert torch.equal(to_uint8(to_float(ALL)), ALL)


def test_to_float_is_the_line_through_minus_one_and_one():
    assert to_float(ALL).dtype == torch.float32
    assert_close(to_float(ALL), torch.linspace(-1, 1, 256), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_to_uint8_rounds_to_nearest_and_clamps(dtype):
    images = torch.tensor([-9.0, -1.0, 0.75, 1.0, 9.0], dtype=dtype)
    assert to_uint8(images).tolist() == [0, 0, 223, 255, 255]  # 1.75 · 127.5 = 223.125


def test_to_uint8_is_nearest():
    exact = (ALL.double() + 0.4).clamp(max=255) / 127.5 - 1
    assert torch.equal(to_uint8(exact), ALL)


def test_nan_is_an_error():
    with pytest.raises(SnriseError, match=r"data\.to_uint8: got 'an image with NaN'.*did the network diverge"):
        to_uint8(torch.tensor([0.0, float("nan")]))
