"""What the pictures show is what the schedules and images are."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Generator
from torch.testing import assert_close

from snrise import plots
from snrise._errors import SnriseError
from snrise.diagnostics import time_per_octave
from snrise.generation import State
from snrise.networks import PRESETS
from snrise.plots.pictures import animated, frames, grid_size, noise_cells, strip
from snrise.pooling import pooled_logsnr, signal_power
from snrise.schedules import Cosine, FlowMatching, LogNormal, ZeroTerminalSnr, for_resolution

BASE = Cosine()
SHIFTED = for_resolution(BASE, (512, 512))


def seeded(seed=0):
    return Generator().manual_seed(seed)


def line(axes, label):
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == label]
    return tuple(torch.tensor(values, dtype=torch.float64) for values in (found.get_xdata(), found.get_ydata()))


def test_curves_are_the_schedules_values():
    figure = plots.schedule_curves({"before": BASE, "after": SHIFTED}, (512, 512))
    left, right = figure.axes
    for name, schedule in (("before", BASE), ("after", SHIFTED)):
        t, logsnr = line(left, name)
        assert len(t) == 513
        assert_close(logsnr, schedule(t))
    outlines = [patch for patch in right.patches if not patch.get_fill()]
    for patch, schedule in zip(outlines, (BASE, SHIFTED), strict=True):
        octaves = time_per_octave(schedule, 8.0)
        shares, edges, _ = patch.get_data()
        assert edges[0] == octaves[0].exponent
        assert edges[-1] == octaves[-1].exponent + 1
        drawn = {int(edge): share for edge, share in zip(edges, shares, strict=False) if share > 0}
        assert drawn == {octave.exponent: octave.share for octave in octaves}
    assert "512×512" in figure.get_suptitle()
    assert any("−2 log 8 = −4.16" in text.get_text() for text in left.texts)


@pytest.mark.parametrize("schedule", [FlowMatching(), LogNormal(), Cosine(logsnr_min=None, logsnr_max=None),
                                      ZeroTerminalSnr(base=Cosine())])
def test_infinite_ends_are_left_out(schedule, tmp_path):
    figure = plots.schedule_curves({"only": schedule}, (64, 64))
    t, logsnr = line(figure.axes[0], "only")
    assert len(t) in (511, 512, 513)
    assert logsnr.isfinite().all()
    assert_close(logsnr, schedule(t))
    assert plots.save(figure, tmp_path / "a" / "curve.png").stat().st_size > 10_000


def test_far_limits_do_not_flatten_the_curve():
    figure = plots.schedule_curves({"only": Cosine(logsnr_min=-500.0)}, (64, 64))
    low, high = figure.axes[0].get_ylim()
    assert low == -25.5
    assert high == 16.5


def test_no_schedule_is_an_error():
    with pytest.raises(SnriseError, match=r"schedule_curves\.schedules"):
        plots.schedule_curves({}, (64, 64))


def test_power_is_as_measured():
    images = torch.rand(6, 3, 16, 16, generator=seeded()) * 2 - 1
    power = signal_power([images], (1, 2, 4))
    left, right = plots.signal_power(power).axes
    for name, ratios in (("power", power.power_ratio), ("variation (about the mean colour)", power.variance_ratio)):
        assert_close(line(left, name)[1], torch.tensor(ratios, dtype=torch.float64))
        assert_close(line(right, name)[1], torch.tensor(ratios, dtype=torch.float64).log())
    assert [label.get_text() for label in right.get_xticklabels()] == ["1\n+0.00", "2\n+1.39", "4\n+2.77"]


def test_power_of_a_pattern_that_pooling_removes():
    checkers = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4).expand(1, 3, 8, 8)
    left, right = plots.signal_power(signal_power([checkers], (1, 2))).axes
    assert line(left, "power")[1].tolist() == [1.0, 0.0]
    assert line(right, "power")[1].tolist() == [0.0]


def test_loss_by_logsnr_bins():
    logsnrs = torch.tensor([-4.0, -3.9, 0.1, 3.9, 4.0, math.inf, -math.inf])
    losses = torch.tensor([1.0, 3.0, 5.0, 2.0, 2.0, 8.0, 5.0])
    (axes,) = plots.loss_by_logsnr(logsnrs, losses, bins=4).axes
    centres, means = line(axes, "mean")
    assert_close(centres, torch.tensor([-3.0, 1.0, 3.0], dtype=torch.float64))  # the empty interval is left out
    assert_close(means, torch.tensor([3.0, 5.0, 4.0], dtype=torch.float64))
    assert axes.get_yscale() == "log"


def test_loss_by_logsnr_at_one_level_and_of_zero():
    (axes,) = plots.loss_by_logsnr(torch.zeros(4), torch.tensor([0.0, 0.0, 0.0, 4.0])).axes
    assert line(axes, "mean")[1].tolist() == [1.0]
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize(("logsnrs", "losses", "bins", "where"), [
    ([0.0], [math.nan], 4, "loss_by_logsnr.losses"), ([math.inf], [1.0], 4, "loss_by_logsnr.logsnrs"),
    ([0.0], [1.0], 0, "loss_by_logsnr.bins"),
])
def test_loss_by_logsnr_errors(logsnrs, losses, bins, where):
    with pytest.raises(SnriseError, match=where):
        plots.loss_by_logsnr(torch.tensor(logsnrs), torch.tensor(losses), bins)


FACTORS, TIMES = (1, 2, 4, 8), torch.tensor([0.3, 0.5, 0.8])


@pytest.mark.parametrize("height_width", [(256, 256), (128, 512)])
@pytest.mark.parametrize("shifted", [False, True], ids=["one schedule", "shifted"])
def test_noise_in_the_cells(shifted, height_width):
    """Residual variance σ²/s², as a share of α² + σ²/s²; and, shifted, the same in every row."""
    height, width = height_width
    x = torch.rand(3, height, width, generator=seeded(1)) * 2 - 1
    sizes = [(height // s, width // s) for s in FACTORS]
    smallest = sizes[-1]
    levels = torch.stack([(for_resolution(BASE, size, smallest) if shifted else BASE)(TIMES) for size in sizes])
    cells = noise_cells(x, levels, FACTORS, seeded(2))
    assert cells.shape == (4, 3, 3, *smallest)
    clean = x.reshape(3, smallest[0], 8, smallest[1], 8).mean(dim=(2, 4))
    for row, factor in enumerate(FACTORS):
        s = 8 / factor
        snr = levels[row].exp()
        alpha, sigma = (snr / (1 + snr)).sqrt(), (1 / (1 + snr)).sqrt()
        total = (alpha**2 + sigma**2 / s**2).sqrt()
        residual = cells[row] - (alpha / total)[:, None, None, None] * clean
        measured = residual.var(dim=(1, 2, 3))
        expected = sigma**2 / s**2 / total**2
        # A variance of n values has a relative deviation of √(2/n): 2.6% here; four of them.
        assert_close(measured, expected, rtol=4 * math.sqrt(2 / residual[0].numel()), atol=0)
        assert_close(expected, torch.sigmoid(-pooled_logsnr(levels[row], s)))
        if shifted:
            assert_close(expected, torch.sigmoid(-BASE(TIMES)))


def test_noise_cells_at_the_ends():
    levels = torch.tensor([[math.inf, -math.inf]])
    cells = noise_cells(torch.full((3, 64, 64), 0.5), levels, (1,), seeded())
    assert_close(cells[0, 0], torch.full((3, 64, 64), 0.5))
    assert_close(cells[0, 1].var(), torch.tensor(1.0), rtol=0.06, atol=0)


def test_noise_picture():
    image = torch.randint(0, 256, (3, 128, 256), dtype=torch.uint8, generator=seeded())
    clean = Cosine(logsnr_min=-60.0, logsnr_max=60.0)
    asked = []

    def schedule_for(size):
        asked.append(size)
        return clean

    picture = plots.noise_at_resolutions(image, schedule_for, (1, 2), seeded(), times=(0.0, 1.0))
    assert asked == [(128, 256), (64, 128)]
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    # Both cells at t = 0 hold the image pooled by 2, unscaled: 64×128 is shown as 64×128 in columns of 170.
    pooled = image.float().reshape(3, 64, 2, 128, 2).mean(dim=(2, 4))
    left = picture.width - 24 - 2 * 170 - 10
    for top in (52, 52 + 64 + 36):
        cell = pixels[:, top : top + 64, left : left + 128].float()
        assert (cell - pooled).abs().max() <= 1
    again = plots.noise_at_resolutions(image.float() / 127.5 - 1, schedule_for, (1, 2), seeded(), times=(0.0, 1.0))
    assert again.tobytes() == picture.tobytes()


def test_factors_must_nest():
    with pytest.raises(SnriseError, match="divisors of the largest"):
        plots.noise_at_resolutions(torch.zeros(3, 12, 12), lambda _: BASE, (2, 3), seeded())


def test_side_by_side_and_below():
    red, blue = Image.new("RGB", (10, 10), "red"), Image.new("RGB", (12, 8), "blue")
    beside = plots.side_by_side(red, blue)
    assert (beside.size, beside.getpixel((10, 0)), beside.getpixel((10, 9))) == ((22, 10), (0, 0, 255), (255, 255, 255))
    below = plots.side_by_side(Image.new("RGB", (30, 10), "red"), blue)
    assert (below.size, below.getpixel((0, 10))) == ((30, 18), (0, 0, 255))


@pytest.mark.parametrize(("n", "shape", "columns", "expected"), [
    (1, (4, 4), None, (1, 1)), (4, (4, 4), None, (2, 2)), (5, (4, 4), None, (3, 2)), (16, (4, 4), None, (4, 4)),
    (8, (4, 8), None, (2, 4)), (8, (8, 4), None, (4, 2)), (3, (4, 4), 8, (3, 1)), (5, (4, 4), 1, (1, 5)),
])
def test_grid_geometry(n, shape, columns, expected):
    images = torch.zeros(n, 3, *shape, dtype=torch.uint8)
    across, down = expected
    picture = plots.sample_grid(images, columns, scale=3, padding=2)
    assert picture.size == (across * (3 * shape[1] + 2) + 2, down * (3 * shape[0] + 2) + 2)


def test_grid_pixels():
    images = torch.randint(0, 256, (3, 3, 2, 3), dtype=torch.uint8, generator=seeded())
    picture = plots.sample_grid(images, columns=2, scale=2, padding=1, background="#102030")
    assert picture.size == (15, 11)
    for y in range(11):
        for x in range(15):
            (row, v), (column, u) = divmod(y - 1, 5), divmod(x - 1, 7)
            i = row * 2 + column
            inside = y > 0 and x > 0 and v < 4 and u < 6 and i < 3
            expected = tuple(images[i, :, v // 2, u // 2].tolist()) if inside else (16, 32, 48)
            assert picture.getpixel((x, y)) == expected


@pytest.mark.parametrize(("arguments", "where"), [
    ({"columns": 0}, "sample_grid.columns"), ({"scale": 0}, "sample_grid.scale"),
    ({"padding": -1}, "sample_grid.padding"),
    ({"background": "wihte"}, "sample_grid.background: got 'wihte'"),
])
def test_grid_errors(arguments, where):
    with pytest.raises(SnriseError, match=where):
        plots.sample_grid(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), **arguments)
    with pytest.raises(SnriseError, match="no images"):
        plots.sample_grid(torch.zeros(0, 3, 2, 2, dtype=torch.uint8))


@given(count=st.integers(1, 40), height=st.integers(1, 90), width=st.integers(1, 90))
def test_the_size_of_a_grid_is_known_before(count, height, width):
    assert grid_size(count, (height, width)) == plots.sample_grid(
        torch.zeros(count, 3, height, width, dtype=torch.uint8)).size


def states(logsnrs=(-math.inf, 0.5, 8.0), n=2, height=16, width=32):
    shape = (len(logsnrs), 2, n, 3, height, width)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded())
    return [State(logsnr, z, x) for logsnr, (z, x) in zip(logsnrs, pixels, strict=True)]


def test_strip():
    shown = states()
    picture = strip(shown)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    # 16×32 is shown as 32×64; 48 pixels left and above, 2 between, 10 between images.
    assert picture.size == (48 + 3 * 66 + 24, 48 + 4 * 34 + 10 + 24)
    for column, state in enumerate(shown):
        for i in range(2):
            for k, images in enumerate((state.z, state.x)):
                top, left = 48 + i * (68 + 10) + k * 34, 48 + column * 66
                assert torch.equal(pixels[:, top : top + 32 : 2, left : left + 64 : 2], images[i])
    assert (pixels[:, 20:44, 48:] < 128).any()  # λ


def test_frames():
    shown = states(n=3, height=128, width=128)
    for state, frame in zip(shown, frames(shown), strict=True):
        grids = [plots.sample_grid(images) for images in (state.z, state.x)]
        assert frame.size == (2 * 262 + 10, 262 + 28)
        assert frame.crop((0, 28, 262, 290)).tobytes() == grids[0].tobytes()
        assert frame.crop((272, 28, 534, 290)).tobytes() == grids[1].tobytes()


@pytest.mark.parametrize(("suffix", "form"), [(".gif", "GIF"), (".webp", "WEBP")])
def test_animated(suffix, form):
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    with Image.open(io.BytesIO(animated(pictures, suffix, step=0.05, rest=1.0))) as written:
        assert (written.format, written.n_frames, written.info["loop"]) == (form, 3, 0)
        durations, colours = [], []
        for i in range(3):
            written.seek(i)
            written.load()
            durations.append(written.info["duration"])
            colours.append(np.array(written.convert("RGB")).astype(int)[8, 8])
    assert durations == [50, 50, 1000]
    assert np.abs(np.array(colours) - 255 * np.eye(3)).max() < 32


def test_states_errors():
    with pytest.raises(SnriseError, match=r"strip\.states: got 0; allowed: one state or more"):
        strip([])
    with pytest.raises(SnriseError, match=r"no such animation format '\.gfi'; did you mean '\.gif'\?"):
        animated([Image.new("RGB", (2, 2))], ".gfi")


def test_save(tmp_path):
    figure, picture = plots.schedule_curves({"only": BASE}, (64, 64)), Image.new("RGB", (3, 4), "red")
    with Image.open(plots.save(figure, tmp_path / "new" / "a.png")) as written:
        assert written.size == (1664, 704)
    assert plots.save(figure, tmp_path / "a.svg").read_text().startswith("<?xml")
    with Image.open(plots.save(picture, str(tmp_path / "b.PNG"))) as written:
        assert written.size == (3, 4)
    with pytest.raises(SnriseError, match=r"no such picture format '\.pgn'; did you mean '\.png'\?"):
        plots.save(figure, tmp_path / "a.pgn")
    with pytest.raises(SnriseError, match="cannot be written"):
        plots.save(picture, tmp_path / "b.PNG" / "c.png")


def test_nothing_is_kept_by_pyplot():
    from matplotlib import pyplot

    assert isinstance(plots.schedule_curves({"only": BASE}, (64, 64)), Figure)
    assert pyplot.get_fignums() == []


def test_logsnr_text():
    assert [plots.logsnr_text(v) for v in (1.0, -4.1589, math.inf, -math.inf)] == ["+1.00", "−4.16", "+∞", "−∞"]


def test_hourglass_draws_a_box_a_stage():
    shown = {name: (PRESETS[name], (256, 256)) for name in ("unet-256", "jit-b-256")}
    figure = plots.hourglass(shown)
    boxes = [[p for p in axes.patches if isinstance(p, Rectangle)] for axes in figure.axes]
    assert [len(b) for b in boxes] == [13, 1]
    assert boxes[0][0].get_height() == boxes[0][-1].get_height() == 9  # 256 px: 2^8
    assert boxes[1][0].get_height() == 5  # 16 patches a side
    assert boxes[0][4].get_width() > 4 * boxes[0][0].get_width()  # 12 blocks, and 1


def test_hourglass_of_nothing_is_refused():
    with pytest.raises(SnriseError, match=r"hourglass\.networks: got 0; allowed: one network or more"):
        plots.hourglass({})


def lines_of_a_log():
    values = {"loss": 0.2, "eps_loss": 0.1, "grad_norm": 1.0, "learning_rate": 1e-3, "images_per_second": 100.0}
    return [values | {"images_seen": n, "update_ratio": None if n == 1 else 1e-3, "loss_by_logsnr": [None, 0.5 / n]}
            for n in (1, 2, 3)]


def test_training_curves():
    figure = plots.training_curves(lines_of_a_log(), [-1.0, 1.0])
    loss, by_logsnr, sizes, speed = figure.axes
    assert [line.get_label() for line in loss.lines] == ["loss", "eps_loss"]
    assert [line.get_label() for line in by_logsnr.lines] == ["−1.00", "+1.00"]
    assert by_logsnr.lines[1].get_ydata().tolist() == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert np.isnan(by_logsnr.lines[0].get_ydata()).all()
    assert np.isnan(sizes.lines[1].get_ydata()).tolist() == [True, False, False]
    assert speed.lines[0].get_xdata().tolist() == [1, 2, 3]


def test_training_curves_of_nothing_are_refused():
    with pytest.raises(SnriseError, match=r"training_curves\.lines: got 0; allowed: one line of the log or more"):
        plots.training_curves([], [])
