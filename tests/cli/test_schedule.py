"""`snrise schedule`: what it prints, what it writes, and each of its errors."""

from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from snrise._errors import SnriseError
from snrise.cli.schedule import schedule

app = typer.Typer()


@app.callback()
def root():
    """More than one command, as in snrise itself."""


app.command("schedule")(schedule)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def run(*arguments):
    result = CliRunner().invoke(app, ["schedule", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def rows(text):
    """The table, a list of cells a row."""
    return [line.split() for line in text.splitlines() if line.strip()[:3] in [f"{n / 10:.1f}" for n in range(11)]]


def written():
    return sorted(path.relative_to(".").as_posix() for path in Path().rglob("*.png") if "photos" not in path.parts)


def photos(folder, count=3, side=(64, 96)):
    for i in range(count):
        path = folder / "photos" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.effect_noise((side[1], side[0]), 40 + i).convert("RGB").save(path)
    return folder / "photos"


def test_table_verdict_and_file():
    text = run()
    table = rows(text)
    assert len(table) == 11
    assert table[0][:4] == ["0.0", "+15.00", "+10.84", "+15.00"]
    assert table[5] == ["0.5", "+0.00", "−4.16", "+0.00", "0.1240", "0.9923"]
    assert "512x512 seen at 64x64" in text
    assert "verdict: fit for this resolution" in text
    assert "without the shift: not fit: t = 1 is not yet noise" in text
    assert text.splitlines()[-1] == "written: schedule.png"
    assert written() == ["schedule.png"]


def test_not_fit_is_a_report_not_a_failure():
    text = run("--reference", "512", "--logsnr-max", "6")
    assert "verdict: not fit for this resolution" in text
    assert "raise logsnr_max" in text
    assert "without the shift" not in text  # there is none


def test_verdict_is_coloured(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = run()
    assert "\x1b[32mverdict: fit" in text
    assert "\x1b[31mwithout the shift: not fit" in text


def test_sizes_are_height_first():
    text = run("--resolution", "256x1024", "--reference", "64X64", "--out", "wide/w.svg")
    assert "256x1024 seen at 64x64 (factor 8, SNR x 64)" in text
    assert "written: wide/w.svg" in text


def test_ends_stay():
    table = rows(run("--ends", "stay"))
    assert (table[0][2], table[10][2]) == ("+15.00", "−15.00")


def test_limits_and_offset_reach_the_schedule():
    table = rows(run("--logsnr-min", "-20", "--logsnr-max", "inf", "--resolution", "64"))
    assert (table[0][1], table[10][1]) == ("+∞", "−20.00")
    offset = rows(run("--offset", "0.1", "--resolution", "64"))
    assert offset[0][1] == "+3.88"  # −2 log tan(½π·0.1/1.1)


def test_interpolated_between_two_references():
    table = rows(run("--kind", "uniform_logsnr", "--clean-reference", "256", "--noisy-reference", "32"))
    assert table[0][2] == "+13.61"  # 15 − 2 log 2
    assert table[10][2] == "−20.55"  # −15 − 2 log 16


def test_zero_terminal_snr():
    table = rows(run("--kind", "linear_beta", "--zero-terminal-snr"))
    assert table[10][2:] == ["−∞", "−∞", "0.0000", "1.0000"]


def test_a_folder_of_images(tmp_path):
    text = run("--data", str(photos(tmp_path)), "--resolution", "64x96", "--reference", "32", "--out", "out/s.png")
    assert "signal power of 3 images" in text
    assert "measured on 3 of 3 images, at 64x96" in text
    assert "enlarged" not in text
    assert written() == ["out/s-noise.png", "out/s-power.png", "out/s.png"]
    assert text.splitlines()[-1] == "written: out/s.png, out/s-power.png, out/s-noise.png"


def test_small_images_are_told(tmp_path):
    text = run("--data", str(photos(tmp_path)), "--resolution", "128", "--reference", "64")
    assert "3 of them were smaller and have been enlarged" in text


def test_emoji_come_at_their_own_size():
    text = run("--data", "emoji")
    assert "schedule for 256x256" in text
    assert "measured on 256 of 1852 images, at 256x256" in text
    assert written() == ["schedule-noise.png", "schedule-power.png", "schedule.png"]


def test_one_image_without_data(tmp_path):
    image = photos(tmp_path, 1) / "0.png"
    assert "signal power" not in run("--image", str(image), "--resolution", "128")
    assert written() == ["schedule-noise.png", "schedule.png"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--resolution", "5x"], "--resolution: got '5x'; allowed: a side in pixels, or HEIGHTxWIDTH"),
    (["--reference", "0"], "--reference: got '0'"),
    (["--clean-reference", "a"], "--clean-reference: got 'a'"),
    (["--noisy-reference", "a"], "--noisy-reference: got 'a'"),
    (["--kind", "cosin"], "--kind: no such schedule 'cosin'; did you mean 'cosine'?"),
    (["--kind", "shifted"], "--kind: no such schedule 'shifted'"),
    (["--ends", "sty"], "--ends: no such treatment of the limits 'sty'; did you mean 'stay'?"),
    (["--kind", "linear_beta", "--offset", "1"], "--offset: got 1.0; allowed: only with --kind cosine; linear_beta"),
    (["--kind", "log_normal", "--logsnr-min", "-9"],
     "--logsnr-min: got -9.0; allowed: only with --kind cosine, uniform_logsnr, uniform_power; log_normal has"),
    (["--kind", "linear_beta", "--ends", "stay"], "use ends='move'"),
    (["--logsnr-min", "20"], "Cosine.logsnr_min: got 20.0"),
    (["--data", "nowhere"], "ImageFolder.path: got 'nowhere'; allowed: an existing folder"),
    (["--image", "nothing.png"], "--image: cannot read 'nothing.png': No such file or directory"),
    (["--image", "text.png"], "--image: cannot read 'text.png': not an intact image"),
    (["--out", "a.pgn"], "--out a.pgn: no such picture format '.pgn'; did you mean '.png'?"),
])
def test_errors_are_one_line(arguments, message, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    result = CliRunner().invoke(app, ["schedule", *arguments])
    assert isinstance(result.exception, SnriseError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_help_names_every_option():
    text = run("--help")
    for option in ("resolution", "reference", "kind", "ends", "zero-terminal-snr", "data", "image", "out"):
        assert f"--{option}" in text
