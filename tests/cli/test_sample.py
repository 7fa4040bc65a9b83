"""`snrise sample`: pictures from a run, and each of its errors."""

import math
import re
import shlex
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import snrise
from snrise import cli
from snrise.config import to_yaml
from snrise.generation import draw_labels
from snrise.parallel import ALONE
from snrise.runs import gallery
from snrise.runs.gallery import command_of, origin_of
from snrise.samplers import GRIDS, SAMPLERS, Ancestral
from snrise.schedules import shift_factor
from snrise.training import save_state
from tiny import command, config, fails, generation_of, perturbed, pixels, saved_run, size_of, state_of

FLAGS = ["activities", "flags", "symbols"]
SETTINGS = ("sampling.sampler={kind: ancestral, eta: 0.7, gamma: 0.3}", "sampling.guidance=1.5", "schedule.ends=stay",
            "process=straight", "loss.prediction=x")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with and one without classes, with weights that say something."""
    folder = tmp_path_factory.mktemp("runs")
    saved_run(folder / "classes", config(*SETTINGS), FLAGS)
    saved_run(folder / "plain", config(*SETTINGS, "data.classes=null"))
    return folder


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sample(*arguments):
    return command("sample", *arguments)


class Calls(list):
    def generate(self, how, labels, count, **options):
        self.append((how, None if labels is None else labels.tolist(), count, options))
        yield torch.zeros(count, 3, *how.whole_size, dtype=torch.uint8)


@pytest.fixture
def calls(monkeypatch):
    """What the command asks `generate` for; nothing is computed."""
    recorded = Calls()
    monkeypatch.setattr(gallery, "generate", recorded.generate)
    return recorded


def test_a_grid(trained, tmp_path):
    assert "5 pictures in grid.png" in sample(trained / "classes", "-n", 5, "--out", "grid.png")
    assert size_of(tmp_path / "grid.png") == (3 * 66 + 2, 2 * 66 + 2)
    assert pixels("grid.png")[2:66, 2:66].std() > 5


def test_the_grid_lies_in_the_runs_folder(trained):
    sample(trained / "plain", "-n", 2, "--seed", 7)
    assert (trained / "plain" / "samples-7.png").exists()


def test_a_folder_of_pictures_does_not_depend_on_the_batch(trained, tmp_path):
    assert "7 pictures in a/" in sample(trained / "classes", "-n", 7, "--out", "a", "--batch", 3)
    sample(trained / "classes", "-n", 7, "--out", "deep/b", "--batch", 7)
    names = sorted(p.name for p in (tmp_path / "a").glob("*.png"))
    assert names == [f"{i:06d}.png" for i in range(7)]
    for name in names:
        assert pixels(f"a/{name}").shape == (16, 16, 3)
        assert np.abs(pixels(f"a/{name}") - pixels(f"deep/b/{name}")).max() <= 1
    assert np.abs(pixels("a/000000.png") - pixels("a/000001.png")).mean() > 5


def test_the_seed_decides(trained):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        sample(trained / "plain", "-n", 1, "--seed", seed, "--out", name)
    assert (pixels("a.png") == pixels("b.png")).all()
    assert (pixels("a.png") != pixels("c.png")).any()


def test_everything_is_the_checkpoints(trained, calls):
    sample(trained / "classes", "-n", 8, "--out", "a.png", "--seed", 3, "--batch", 5)
    ((how, labels, count, options),) = calls
    expected = generation_of(config(*SETTINGS))
    assert torch.equal(how.logsnrs, expected.logsnrs)
    assert (how.target, how.sampling, how.size) == (expected.target, config(*SETTINGS).sampling, (16, 16))
    assert labels == draw_labels([0.5, 0.25, 0.25], 8, 3).tolist()
    assert options.pop("watch") is not None
    assert (count, options) == (8, {"seed": 3, "batch": 5, "first": 0, "world": ALONE})


def test_one_checkpoint_file(trained, calls):
    (file,) = (trained / "plain" / "checkpoints").iterdir()
    sample(file, "-n", 2, "--out", "a.png")
    assert calls[0][1] is None


def test_steps_and_guidance(trained, calls):
    sample(trained / "classes", "-n", 2, "--out", "a.png", "--steps", 5, "--guidance", 3)
    how = calls[0][0]
    assert (len(how.logsnrs), how.sampling.guidance) == (6, 3.0)
    assert torch.equal(how.logsnrs, generation_of(config(*SETTINGS, "sampling.steps=5")).logsnrs)


@pytest.mark.parametrize(("arguments", "eta", "gamma"), [
    ((), 0.7, 0.3), (("--eta", 0), 0.0, 0.3), (("--gamma", 0), 0.7, 0.0), (("--eta", 1, "--gamma", 1), 1.0, 1.0),
])
def test_what_is_not_given_of_the_sampler_is_the_runs(trained, calls, arguments, eta, gamma):
    sample(trained / "classes", "-n", 1, "--out", "a.png", *arguments)
    assert calls[0][0].sampling.sampler == Ancestral(eta=eta, gamma=gamma)


def test_another_schedule_needs_a_flag_and_is_warned_of(trained, calls):
    command = ["sample", str(trained / "classes"), "-n", "1", "--out", "a.png", "--steps", "4",
               "--schedule", "{kind: uniform_logsnr, logsnr_min: -3, logsnr_max: 20}"]
    result = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert calls[0][0].logsnrs.tolist() == pytest.approx([-3.0, 2.75, 8.5, 14.25, 20.0])
    assert result.stderr.startswith(
        "sampling on another schedule than the model was trained with: λ -3.0 … 20.0 instead of -15.0 … 15.0; ")


@pytest.mark.parametrize(("text", "told"), [
    ("{kind: cosin}", "--schedule.kind: no such kind 'cosin'; did you mean 'cosine'?"),
    ("{kind: cosine, ofset: 1}", "--schedule.ofset: no such setting 'ofset'; did you mean 'offset'?"),
    ("[1", "--schedule: got '[1'; allowed: a YAML value"),
])
def test_another_schedule_must_be_one(trained, monkeypatch, capsys, text, told):
    assert fails(monkeypatch, capsys, "sample", trained / "plain", "--schedule", text).startswith(told)


def test_a_broken_checkpoint_is_passed_over_and_told(trained, calls, tmp_path):
    shutil.copytree(trained / "plain", tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "000000000099.safetensors").write_bytes(b"torn")
    result = CliRunner().invoke(cli.app, ["sample", "run", "-n", "1", "--out", "a.png"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stderr.startswith("passed over a broken checkpoint: run/checkpoints/000000000099.safetensors: not a ")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.write_bytes(b"torn")
    result = CliRunner().invoke(cli.app, ["sample", "run"])
    assert re.fullmatch(r"run/\S+99.safetensors: not a whole .*; run/\S+08.safetensors: not .*", str(result.exception))


def test_classes_by_name(trained, calls):
    sample(trained / "classes", "-n", 5, "--out", "a.png", "--class", "symbols", "--class", "flags")
    assert calls[0][1] == [2, 1, 2, 1, 2]


def test_a_class_changes_the_picture(trained):
    for name in ("flags", "symbols"):
        sample(trained / "classes", "-n", 1, "--out", f"{name}.png", "--class", name)
    assert (pixels("flags.png") != pixels("symbols.png")).any()


def test_the_averaged_or_the_last_weights(trained, tmp_path):
    settings = config("data.classes=null")
    state = state_of(settings, None)
    state.step = 1
    perturbed(state.network)
    save_state(state, tmp_path / "run" / "checkpoints", to_yaml(settings), {"classes": None, "frequencies": None})
    for name, flag in (("a.png", "--ema"), ("b.png", "--last"), ("c.png", "--ema")):
        sample("run", "-n", 1, flag, "--out", name)
    assert (pixels("a.png") != pixels("b.png")).any()
    assert (pixels("a.png") == pixels("c.png")).all()


def test_pictures_from_a_number_on(trained, calls):
    sample(trained / "classes", "-n", 3, "--first", 5, "--out", "a.png")
    ((_, labels, count, options),) = calls
    assert labels == draw_labels([0.5, 0.25, 0.25], 8, 0).tolist()[5:]
    assert (count, options["first"]) == (3, 5)


def test_a_folder_is_gone_on_with(trained, tmp_path):
    sample(trained / "classes", "-n", 3, "--out", "a")
    assert sample(trained / "classes", "-n", 5, "--out", "a") == "5 pictures in a/, 3 of them from before\n"
    assert len(list((tmp_path / "a").glob("*.png"))) == 5


def test_ctrl_c_stops_after_the_batch_and_the_same_command_goes_on(trained, tmp_path, monkeypatch):
    def draws(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        return own(self, *arguments)

    command = ["sample", str(trained / "classes"), "-n", "6", "--out", "a", "--batch", "2"]
    own = gallery.Gallery._draw
    with monkeypatch.context() as patch:
        patch.setattr(gallery.Gallery, "_draw", draws)
        result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 128 + signal.SIGINT
    assert result.stdout == "stopped: 2 of 6 pictures in a/; the same command goes on\n"
    assert sample(*command[1:]) == "6 pictures in a/, 2 of them from before\n"


def test_a_picture_says_what_makes_it_again(trained, tmp_path):
    sample(trained / "classes", "-n", 6, "--seed", 4, "--out", "a", "--batch", 1, "--sampler", "ddim", "--steps", 3)
    origin = origin_of(tmp_path / "a" / "000004.png")
    _, command, _, *arguments = shlex.split(command_of(origin))
    assert (command, origin["number"]) == ("sample", 4)
    sample(trained / "classes", *arguments, "--out", "b")
    assert (pixels("a/000004.png") == pixels("b/000004.png")).all()
    sample(trained / "classes", "-n", 2, "--first", 1, "--out", "grid.png")
    _, _, _, *arguments = shlex.split(command_of(origin_of(tmp_path / "grid.png")))
    sample(trained / "classes", *arguments, "--out", "again.png")
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "again.png").read_bytes()


@pytest.mark.parametrize("name", ["way.png", "way.gif", "way.webp"])
def test_states(trained, tmp_path, name):
    told = sample(trained / "classes", "--steps", 15, "-n", 2, "--states", name)
    shown = 10 if name.endswith("png") else 16
    assert told == f"{shown} of 16 states of 2 pictures in {name}\n"
    with Image.open(tmp_path / name) as picture:
        assert getattr(picture, "n_frames", 1) == (1 if name.endswith("png") else 16)
        if name.endswith("png"):
            sample(trained / "classes", "--steps", 15, "-n", 2, "--out", "a.png")
            ours, grid = np.asarray(picture).astype(int), pixels("a.png")
            last = 48 + 9 * 66
            assert np.abs(ours[48:112, last : last + 64] - grid[2:66, 2:66]).max() <= 1
            assert origin_of(tmp_path / name)["states"] == 10


def test_every_state_is_shown_if_there_are_few(trained):
    assert sample(trained / "plain", "--steps", 2, "--states", "a.png") == "3 of 3 states of 4 pictures in a.png\n"


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_by_name(trained, calls, name):
    sample(trained / "classes", "-n", 1, "--out", "a.png", "--sampler", name)
    how = calls[0][0]
    assert type(how.sampling.sampler) is SAMPLERS[name]
    assert how.target.process == config(*SETTINGS).process
    if name == "ancestral":
        assert (how.sampling.sampler.eta, how.sampling.sampler.gamma) == (0.7, 0.3)


def test_settings_beside_options(trained, calls):
    sample(trained / "classes", "sampling.sampler=ancestral", "sampling.steps=7", "-n", 1, "--gamma", 0.5, "--out", "a")
    how = calls[0][0]
    assert (how.sampling.sampler.eta, how.sampling.sampler.gamma, len(how.logsnrs)) == (1.0, 0.5, 8)


def test_guidance_in_an_interval(trained, calls):
    sample(trained / "classes", "-n", 1, "--out", "a.png", "--guidance-interval", "-3,5.5")
    assert calls[0][0].sampling.guidance_interval == (-3.0, 5.5)


@pytest.mark.parametrize("name", GRIDS)
def test_grids_by_name(trained, calls, name):
    sample(trained / "classes", "-n", 1, "--out", "a.png", "--grid", name)
    assert torch.equal(calls[0][0].logsnrs, generation_of(config(*SETTINGS, f"sampling.grid={name}")).logsnrs)


@pytest.mark.parametrize(("arguments", "expected"), [
    ((), (True, None)), (("--clip", "none"), (False, None)), (("--clip", "static"), (True, None)),
    (("--clip", "dynamic"), (True, 0.995)), (("sampling.dynamic_clip=0.9", "--clip", "dynamic"), (True, 0.9)),
    (("sampling.dynamic_clip=0.9", "--clip", "static"), (True, None)),
    (("sampling.dynamic_clip=0.9", "--clip", "none"), (False, None)),
])
def test_clipping(trained, calls, arguments, expected):
    sample(trained / "classes", *arguments, "-n", 1, "--out", "a.png")
    assert (calls[0][0].sampling.clip, calls[0][0].sampling.dynamic_clip) == expected


def test_rescaling_and_upsampling(trained, calls):
    sample(trained / "classes", "-n", 1, "--out", "a.png", "--rescale", 0.7, "--upsample", 2)
    how = calls[0][0]
    assert (how.sampling.rescale, how.sampling.upsample, how.whole_size) == (0.7, 2, (32, 32))
    assert torch.equal(how.logsnrs, generation_of(config(*SETTINGS)).logsnrs)


def test_a_weaker_run_to_guide_away_from(trained, tmp_path):
    weak = tmp_path / "weak"
    settings = config(*SETTINGS)
    state = state_of(settings, 3)
    save_state(state, weak / "checkpoints", to_yaml(settings), {"classes": FLAGS, "frequencies": [0.5, 0.25, 0.25]})
    for name, options in (("a", ()), ("b", ("--weak", weak)), ("c", ("--weak", trained / "classes"))):
        sample(trained / "classes", "-n", 1, "--guidance", 3, "--out", name, *options)
    assert (pixels("a/000000.png") != pixels("b/000000.png")).any()
    sample(trained / "classes", "-n", 1, "--guidance", 1, "--out", "d")
    # A run is led away from itself by nothing.
    assert np.abs(pixels("c/000000.png") - pixels("d/000000.png")).max() <= 1
    told = origin_of(tmp_path / "b" / "000000.png")
    assert told["weak"]["weights"] == snrise.load(weak).fingerprint != told["run"]["weights"]
    assert "--weak WEAK" in command_of(told)


def test_a_weak_run_must_be_of_the_same_kind(trained, tmp_path, monkeypatch, capsys):
    settings = config(*SETTINGS, "loss.prediction=eps", "data.classes=null")
    save_state(state_of(settings, None), tmp_path / "eps" / "checkpoints", to_yaml(settings),
               {"classes": None, "frequencies": None})
    for name, weak, options, told in (
        ("plain", "eps", ("--guidance", 2),
         "--weak: got ('eps', 'straight'); allowed: the run's prediction and process, ('x', 'straight')"),
        ("classes", trained / "plain", (), "--weak: got 'a run on other classes'; allowed: one on the run's"),
        ("plain", trained / "plain", (), "--weak: got 'tiny'; allowed: with a guidance other than 1; add --guidance 2"),
        ("plain", None, ("--guidance", 2),
         "--guidance: got 2.0; allowed: 1: this run was trained without classes; or guide with --weak RUN"),
    ):
        other = () if weak is None else ("--weak", weak)
        given = ("sampling.guidance=1",) if not options and name == "plain" else ()
        assert fails(monkeypatch, capsys, "sample", trained / name, *given, "-n", 1, *other, *options) == told


def test_another_resolution_shifts_the_schedule(trained, calls, tmp_path):
    sample(trained / "plain", "-n", 1, "--out", "a.png", "--resolution", "32x64")
    how = calls[0][0]
    assert how.size == (32, 64)
    assert torch.equal(how.logsnrs, generation_of(config(*SETTINGS, "data.resolution=[32, 64]")).logsnrs)
    settings = config("schedule.reference=null", "data.classes=null")
    state = state_of(settings, None)
    save_state(state, tmp_path / "run" / "checkpoints", to_yaml(settings), {"classes": None, "frequencies": None})
    for size in ("32x64", "16"):
        sample("run", "-n", 1, "--out", "b.png", "--resolution", size)
    # Stated for no resolution, it is right at the run's own, 16 px.
    shift = 2 * math.log(shift_factor((32, 64), (16, 16)))
    torch.testing.assert_close(calls[1][0].logsnrs, calls[2][0].logsnrs - shift)
    assert torch.equal(calls[2][0].logsnrs, generation_of(settings).logsnrs)


def test_a_picture_at_another_resolution(trained, tmp_path):
    sample(trained / "classes", "-n", 1, "--out", "a", "--resolution", "32x16")
    assert size_of(tmp_path / "a" / "000000.png") == (16, 32)


def test_nothing_but_the_result_is_told_without_a_terminal(trained):
    command = ["sample", str(trained / "plain"), "-n", "2", "--out", "a"]
    assert CliRunner().invoke(cli.app, command).output == "2 pictures in a/\n"


@pytest.mark.parametrize(("arguments", "message"), [
    (["{runs}/classes", "--class", "flag"], "classes: no such class 'flag'; did you mean 'flags'? allowed: "),
    (["{runs}/plain", "--class", "flags"], "classes: got ['flags']; allowed: none: this run was trained without"),
    (["nowhere"], "nowhere: got 'no checkpoint'; allowed: a run's folder, a checkpoint, exported weights"),
    (["{runs}"], "{runs}: got 'no checkpoint'"),
    (["text"], "text: not a whole checkpoint of snrise"),
    (["{runs}/plain", "--steps", "0"], "config.sampling.steps: got 0; allowed: a whole number above 0"),
    (["{runs}/plain", "--eta", "2"], "config.sampling.sampler.eta: got 2.0; allowed: a number in [0, 1]"),
    (["{runs}/plain", "--gamma", "-1"], "config.sampling.sampler.gamma: got -1.0"),
    (["{runs}/plain", "--guidance", "-1"], "config.sampling.guidance: got -1.0"),
    (["{runs}/plain", "--sampler", "ddim", "--eta", "0"],
     "--eta: got 0.0; allowed: nothing: the sampler ddim has no eta; add --sampler ancestral"),
    (["{runs}/plain", "--sampler", "dim"], "--sampler: no such sampler 'dim'; did you mean 'ddim'? allowed: ancestral"),
    (["{runs}/plain", "--guidance-interval", "3"],
     "--guidance-interval: got '3'; allowed: two values of λ, such as -3,5"),
    (["{runs}/plain", "--guidance-interval", "3,2"], "config.sampling.guidance_interval: got (3.0, 2.0); allowed: "),
    (["{runs}/plain", "--grid", "karas"], "config.sampling.grid.kind: no such kind 'karas'; did you mean 'karras'?"),
    (["{runs}/plain", "--rescale", "2"], "config.sampling.rescale: got 2.0; allowed: a number from 0 to 1"),
    (["{runs}/plain", "--upsample", "0"], "config.sampling.upsample: got 0; allowed: a whole number"),
    (["{runs}/plain", "--weak", "nowhere"], "nowhere: got 'no checkpoint'"),
    (["{runs}/plain", "training.batch=2"], "settings: got 'training.batch=2'; allowed: sampling.key=value"),
    (["{runs}/plain", "--resolution", "33"], "--resolution: got '33x33'; allowed: sides that are multiples of 2; near"),
    (["{runs}/plain", "--resolution", "big"], "--resolution: got 'big'; allowed: a side in pixels"),
    (["{runs}/plain", "--number", "30000"], "--number: got 'a picture of 11486x11420'; allowed: up to 89,478,485 "),
    (["{runs}/plain", "--states", "a.png", "--out", "b"], "--out: got 'b'; allowed: either --out or --states"),
    (["{runs}/plain", "--states", "a.gfi"], "--states: no such picture format '.gfi'; did you mean '.gif'?"),
    (["{runs}/plain", "--states", "a.gif", "--number", "17"], "--number: got 17; allowed: up to 16 with --states"),
    (["{runs}/plain", "--states", "a.png", "--resolution", "4096"],
     "--number: got 'a picture of 8192x40960'; allowed: up to 89,478,485 pixels; fewer: -n 1"),
    (["{runs}/plain", "--device", "tpu"], "--device: got 'tpu'; not usable here"),
    (["{runs}/plain", "--out", "a.jpeg"], "--out: got 'a.jpeg'; allowed: a grid (….png) or a folder"),
    (["{runs}/plain", "--out", "text"], "--out: got 'text'; allowed: a grid (….png) or a folder; this is a file"),
    (["{runs}/plain", "--out", "text/a.png"], "text/a.png: cannot be written: "),
])
def test_a_mistake_is_one_line(trained, tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "text").write_text("hello")
    arguments = [a.format(runs=trained) for a in arguments]
    arguments += [] if "--number" in arguments else ["-n", "1"]
    assert fails(monkeypatch, capsys, "sample", *arguments).startswith(message.format(runs=trained))
