import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from snrise.networks.windows import Windows

FACTORS = st.sampled_from([1, 2, 4])


@st.composite
def within(draw, factor):
    """A size whose sides the factor divides, and what says where windows in two images of it are."""
    size = tuple(factor * draw(st.integers(3, 9)) for _ in range(2))
    rows, columns = (draw(st.integers(1, n)) for n in size)
    corner = st.tuples(st.integers(0, size[0] - rows), st.integers(0, size[1] - columns))
    return size, ((draw(corner), draw(corner)), rows, columns)


@given(st.data(), FACTORS)
def test_cells_around_a_part_enlarged_and_cut_are_those_of_the_whole(data, factor):
    size, where = data.draw(within(factor))
    windows = Windows(*where)
    cells = torch.randn(2, 3, *(n // factor for n in size))
    around = windows.reduced(factor, 0, cells.shape[2:])
    assert around.rows <= windows.rows // factor + 2
    near = F.interpolate(around.cut(cells), scale_factor=factor, mode="nearest")
    whole = F.interpolate(cells, scale_factor=factor, mode="nearest")
    assert torch.equal(windows.seen_from(around, factor).cut(near), windows.cut(whole))


@given(st.data())
def test_parts_go_back_to_their_places(data):
    size, where = data.draw(within(1))
    windows = Windows(*where)
    whole = torch.randn(2, 3, *size)
    part = torch.randn(2, 3, windows.rows, windows.columns)
    found = windows.put_onto(whole, part)
    assert torch.equal(windows.cut(found), part)
    assert torch.equal(windows.put_onto(found, windows.cut(whole)), whole)
    alone = windows.put_back(part, size)
    assert torch.equal(windows.cut(alone), part)
    assert alone.count_nonzero() == part.count_nonzero()


def test_the_gradient_of_a_part_is_that_of_its_place():
    windows = Windows(((0, 1), (2, 0)), rows=2, columns=3)
    whole, weight = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    part = torch.randn(2, 3, 2, 3, requires_grad=True)
    (weight * windows.put_onto(whole, part)).sum().backward()
    torch.testing.assert_close(part.grad, windows.cut(weight))


@given(st.data())
def test_windows_with_one_corner_are_one_slice(data):
    size, (corners, rows, columns) = data.draw(within(1))
    (top, left), windows = corners[0], Windows(corners[:1] * 2, rows, columns)
    whole, part = torch.randn(2, 3, *size), torch.randn(2, 3, rows, columns)
    pasted = whole.clone()
    pasted[..., top : top + rows, left : left + columns] = part
    assert torch.equal(windows.put_onto(whole, part), pasted)
    assert torch.equal(windows.cut(pasted), part)
    assert windows.cut(whole).is_contiguous()
