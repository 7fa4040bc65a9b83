import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pixel_shuffle
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.networks.wavelet import Wavelet

LOW = torch.tensor([-1.0, 2, 6, 2, -1], dtype=torch.float64) / 8
HIGH = torch.tensor([-1.0, 2, -1], dtype=torch.float64) / 2


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def planes(bands, levels):
    """The low band, and for each level, the finest first, its details [b 3 c h w], high across w, h, both."""
    c = bands.shape[1] // 4**levels
    low, *details = bands.split([c, *(3 * c * 4**k for k in range(levels))], dim=1)
    return low, [pixel_shuffle(d, 2**k).unflatten(1, (3, c)) for k, d in enumerate(details)][::-1]


def interior(plane, margin):
    return plane[..., margin:-margin, margin:-margin]


@given(levels=st.integers(1, 3), rows=st.integers(1, 9), columns=st.integers(1, 9), channels=st.integers(1, 4),
       seed=st.integers(0, 99))
def test_synthesis_undoes_analysis(levels, rows, columns, channels, seed):
    wavelet = Wavelet(levels)
    for dtype, error in ((torch.float32, 4e-6), (torch.float64, 1e-14)):
        x = random(2, channels, rows * wavelet.divisor, columns * wavelet.divisor, seed=seed, dtype=dtype)
        bands = wavelet.analysis(x)
        assert bands.shape == (2, wavelet.channels(channels), rows, columns)
        assert bands.dtype == dtype
        assert_close(wavelet.synthesis(bands), x, rtol=0, atol=error)
        other = random(*bands.shape, seed=seed, dtype=dtype)
        assert_close(wavelet.analysis(wavelet.synthesis(other)), other, rtol=0, atol=error)


def bank(x, across_h, across_w):
    """One level by definition: the mirrored image, correlated with the normalised filters, every other value kept."""
    for dim, high in ((2, across_h), (3, across_w)):
        taps = HIGH / (3 / 2)**0.5 if high else LOW / (46 / 64)**0.5
        n, reach = x.shape[dim], len(taps) // 2
        centres = torch.arange(int(high), n, 2)
        total = torch.zeros(())
        for tap, offset in zip(taps, range(-reach, reach + 1), strict=True):
            at = (centres + offset).abs()
            total = total + tap * x.index_select(dim, torch.where(at > n - 1, 2 * (n - 1) - at, at))
        x = total
    return x


@pytest.mark.parametrize("size", [(16, 12), (4, 22), (4, 4)])
def test_one_level_is_the_filter_bank_to_the_very_border(size):
    x = random(2, 3, *size)
    low, [details] = planes(Wavelet(1).analysis(x), 1)
    assert_close(low, bank(x, False, False))
    for k, (across_h, across_w) in enumerate([(False, True), (True, False), (True, True)]):
        assert_close(details[:, k], bank(x, across_h, across_w))


@pytest.mark.parametrize("levels", [2, 3])
def test_each_level_is_the_transform_of_the_low_band_above(levels):
    x = random(2, 3, 48, 32)
    low, details = planes(Wavelet(levels).analysis(x), levels)
    for level in range(levels):
        above, [expected] = planes(Wavelet(1).analysis(x), 1)
        for k in range(3):
            ratio = details[level][:, k] / expected[:, k]
            assert_close(ratio, ratio[0, 0, 0, 0].expand_as(ratio), rtol=1e-8, atol=0)
        x = above
    ratio = low / x
    assert_close(ratio, ratio[0, 0, 0, 0].expand_as(ratio), rtol=1e-8, atol=0)


@pytest.mark.parametrize(("levels", "growth"), [(1, 1.39), (2, 2.30), (3, 4.17)])
def test_a_constant_has_no_details(levels, growth):
    bands = Wavelet(levels).analysis(torch.full((1, 2, 16, 24), 0.7, dtype=torch.float64))
    low, details = bands[:, :2], bands[:, 2:]
    assert details.abs().max() < 1e-15
    assert_close(low / 0.7, torch.full_like(low, growth), rtol=0, atol=0.005)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_ramp_has_no_details_but_at_the_border(levels):
    ramp = torch.arange(64.0).double()
    x = (ramp[:, None] - 3 * ramp)[None, None]
    _, details = planes(Wavelet(levels).analysis(x), levels)
    for plane in details:
        assert interior(plane, 2).abs().max() < 1e-12
        assert plane[:, :2].abs().max() > 0.1


def test_vertical_edges_are_in_the_first_details_and_horizontal_ones_in_the_second():
    x = torch.zeros(1, 1, 16, 16)
    x[..., 7:] = 1
    _, [details] = planes(Wavelet(1).analysis(x), 1)
    assert details.abs().amax(dim=(0, 2, 3, 4)).gt(0).tolist() == [True, False, False]
    _, [details] = planes(Wavelet(1).analysis(x.mT), 1)
    assert details.abs().amax(dim=(0, 2, 3, 4)).gt(0).tolist() == [False, True, False]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_white_noise_stays_of_variance_one_in_every_band(levels):
    low, details = planes(Wavelet(levels).analysis(random(6, 3, 512, 512, dtype=torch.float32)), levels)
    bands = [low, *(plane[:, k] for plane in details for k in range(3))]
    for band in bands:
        assert interior(band, 4).var().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_every_coefficient_inside_is_a_filter_of_norm_one(levels):
    x = torch.zeros(1, 2, 64, 64, dtype=torch.float64, requires_grad=True)
    bands = Wavelet(levels).analysis(x)
    for coefficient in bands[0, :, bands.shape[2] // 2, bands.shape[3] // 2]:
        [taps] = torch.autograd.grad(coefficient, x, retain_graph=True)
        assert taps.square().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_order_of_the_channels(levels):
    wavelet = Wavelet(levels)
    x = torch.zeros(1, 3, 64, 64)
    x[0, 1, 33, 33] = 1
    bands = wavelet.analysis(x)
    for level in range(levels, 0, -1):
        r = 2**(levels - level)
        start = 3 * 4**(levels - level)
        for k in range(3):
            for i in range(3):
                block = bands[0, start + (k * 3 + i) * r * r:][:r * r]
                assert bool(block.any()) == (i == 1)
    # The pixel lies in the middle of one filter of level 1 that is high across both.
    r = 2**(levels - 1)
    cell, place = divmod(16, r)
    channel = wavelet.channels(3) - 3 * r * r + (1 * r + place) * r + place
    assert bands[0, channel, cell, cell].item() == pytest.approx(1 / 1.5)
    assert bands.abs().max() == bands[0, channel, cell, cell]


def test_places_in_a_cell_are_rows_before_columns():
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 9, 11] = 1  # row 4, column 5 of level 1: place (0, 1) of cell (2, 2)
    assert Wavelet(2).analysis(x)[0, 4 + 2 * 4 + 1, 2, 2].item() == pytest.approx(1 / 1.5)


@pytest.mark.parametrize(("levels", "shape"), [(1, (12, 256, 256)), (2, (48, 128, 128)), (3, (192, 64, 64))])
def test_shapes_cost_no_memory_on_the_meta_device(levels, shape):
    wavelet = Wavelet(levels)
    bands = wavelet.analysis(torch.empty(1, 3, 512, 512, device="meta"))
    assert bands.shape == (1, *shape)
    assert wavelet.channels(3) == shape[0]
    assert wavelet.divisor == 512 // shape[1]
    assert wavelet.synthesis(bands).shape == (1, 3, 512, 512)


def test_gradients_flow_both_ways():
    wavelet = Wavelet(2)
    assert torch.autograd.gradcheck(wavelet.analysis, random(1, 1, 4, 8).requires_grad_())
    assert torch.autograd.gradcheck(wavelet.synthesis, random(1, 16, 1, 2).requires_grad_())


def test_precision_is_the_input_s_under_autocast():
    wavelet = Wavelet(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for dtype in (torch.bfloat16, torch.float32):
            x = random(1, 3, 16, 16).to(dtype)
            bands = wavelet.analysis(x)
            assert bands.dtype == wavelet.synthesis(bands).dtype == dtype
    assert_close(wavelet.synthesis(wavelet.analysis(x)), x)


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")  # PyTorch's, and not of this test
def test_it_is_traced_as_one_graph():
    wavelet = Wavelet(2)
    traced = torch.compile(lambda x: wavelet.synthesis(2 * wavelet.analysis(x)), backend="eager", fullgraph=True)
    x = random(1, 3, 8, 12)
    assert_close(traced(x), 2 * x)


@pytest.mark.parametrize(("levels", "size", "message"), [
    (1, (5, 8), "Wavelet.image: got '5x8'; allowed: sides that are multiples of 2; nearest: 4x8 or 6x8"),
    (3, (30, 4), "Wavelet.image: got '30x4'; allowed: sides that are multiples of 8; nearest: 24x8 or 32x8"),
])
def test_a_wrong_size_is_told_the_nearest_ones(levels, size, message):
    with pytest.raises(SnriseError) as error:
        Wavelet(levels).analysis(torch.zeros(1, 3, *size))
    assert str(error.value) == message


def test_bands_that_are_of_no_image_are_refused():
    with pytest.raises(SnriseError, match=r"Wavelet\.bands: got '24 channels'; allowed: a multiple of 16"):
        Wavelet(2).synthesis(torch.zeros(1, 24, 4, 4))


@pytest.mark.parametrize("levels", [0, 4, -1])
def test_only_one_to_three_levels(levels):
    with pytest.raises(SnriseError, match=rf"Wavelet\.levels: got {levels}; allowed: 1, 2 or 3"):
        Wavelet(levels)


def test_it_is_a_frozen_value():
    assert Wavelet(2) == Wavelet(levels=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Wavelet(2).levels = 3
