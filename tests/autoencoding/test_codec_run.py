"""A run of an autoencoder: it resumes exactly, survives faults, and leaves what diffusers can read."""

import itertools
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from coded import config
from snrise._errors import SnriseError
from snrise.autoencoding import CodecRun, of_run
from snrise.autoencoding.loop import reconstructed
from snrise.codecs import Autoencoder
from snrise.data import as_float
from snrise.training import latest
from tiny import scramble

QUIET = lambda line: None  # noqa: E731


def weights(folder):
    return load_file(latest(folder / "checkpoints"))


def logged(folder):
    times = ("images_per_second", "data_share", "memory_gib")
    return [{name: value for name, value in json.loads(line).items() if name not in times}
            for line in (folder / "log.jsonl").read_text().splitlines()]


def trained(folder, *overrides, steps=None):
    with CodecRun(config(*overrides), folder, QUIET) as run:
        reports = list(itertools.islice(run, steps))
        run.save()
    return reports


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [
    (), ("autoencoder.kind=vq", "training.crop=24"), ("autoencoder.kind=dc", "training.optimizer=muon"),
], ids=["kl", "vq", "dc with muon"])
def test_a_run_that_is_interrupted_ends_as_one_that_is_not(tmp_path, overrides):
    trained(tmp_path / "whole", *overrides)
    for steps in (3, 4, None):  # within an interval of the log, before and after the critic begins
        scramble(steps or 0)
        trained(tmp_path / "parts", *overrides, steps=steps)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert logged(tmp_path / "whole") == logged(tmp_path / "parts")
    lines = logged(tmp_path / "whole")
    assert [line["images_seen"] for line in lines] == [8, 16, 24, 32, 40, 48]
    assert ["critic" in line for line in lines] == [False, False, True, True, True, True]
    assert {"loss", "nll", "l1", "grad_norm", "logvar"} < lines[0].keys()
    assert ("kl" in lines[0]) == (overrides == ())
    assert ("commitment" in lines[0]) == ("autoencoder.kind=vq" in overrides)


def test_what_it_leaves_is_an_autoencoder_of_diffusers(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    with CodecRun(config(), tmp_path / "run", QUIET) as run:
        list(run)
        run.save()
        averaged, data = run.state.ema.averaged(run.state.network).autoencoder.eval(), run.data
    loaded = diffusers.AutoencoderKL.from_pretrained(tmp_path / "run" / "diffusers").eval()
    x = as_float(data.images(range(4)))
    assert_close(loaded.state_dict(), averaged.state_dict(), rtol=0, atol=0)
    assert_close(reconstructed(loaded, x), reconstructed(averaged, x))  # other memory formats
    codes = torch.cat([loaded.encode(as_float(data.images([i]))).latent_dist.mode() for i in range(len(data))])
    scaled = (codes - loaded.config.shift_factor) * loaded.config.scaling_factor
    assert_close(scaled.mean().item(), 0.0, rtol=0, atol=5e-3)
    assert_close(scaled.std(correction=0).item(), 1.0, rtol=0, atol=5e-3)
    codec = Autoencoder(path=str(tmp_path / "run"))
    assert codec.shape((32, 32)) == (2, 16, 16)
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_run_begins_with_the_weights_of_another(tmp_path):
    trained(tmp_path / "first")
    first = Autoencoder(path=str(tmp_path / "first"))
    start = f"training.start={tmp_path / 'first'}"
    with CodecRun(config(start), tmp_path / "second", QUIET) as run:
        expected = load_file(tmp_path / "first/diffusers/diffusion_pytorch_model.safetensors")
        found = run.state.network.autoencoder.state_dict()
        assert all(torch.equal(found[name], weight) for name, weight in expected.items())
        next(iter(run))
        run.save()
    assert Autoencoder(path=str(tmp_path / "second")).training_seconds > first.training_seconds > 0
    (tmp_path / "first").rename(tmp_path / "gone")
    trained(tmp_path / "second", start)  # it goes on without
    start = f"training.start={tmp_path / 'gone'}"
    for other, what in (("autoencoder.width=8", r"encoder\.conv_in\.weight is \[4, 3, 3, 3\]"),
                        ("autoencoder.blocks=2", r"without .*resnets\.1")):
        with pytest.raises(SnriseError, match=rf"^config\.training\.start: got .*{what}.*; allowed: an autoencoder"):
            CodecRun(config(start, other), tmp_path / "third", QUIET)


def test_grids_show_images_beside_their_reconstructions(tmp_path):
    with CodecRun(config("log.samples=16", "training.images=16"), tmp_path, QUIET) as run:
        list(run)
        path, images = run.draw(), run.data.images([0])
    with Image.open(path) as picture:
        first = torch.tensor(list(picture.crop((2, 2, 66, 66)).resize((32, 32), Image.Resampling.NEAREST).getdata()))
    assert torch.equal(first.view(32, 32, 3).movedim(-1, 0), images[0].long())


def broken(data, at):
    """A data set whose image of a number in the stream is not a number."""
    inner = data.batches

    def batches(batch, seed, position=0):
        for made in inner(batch, seed, position):
            bad = at in range(made.position, made.position + batch)
            yield made._replace(images=torch.full(made.images.shape, torch.nan)) if bad else made

    object.__setattr__(data, "batches", batches)


@pytest.mark.slow
@pytest.mark.parametrize(("action", "seen"), [("skip", 44), ("rollback", 44)])
def test_a_step_that_is_not_finite_is_dropped(tmp_path, action, seen):
    told = []
    settings = config(f"training.on_fault={action}", "log.checkpoint=8", "training.images=44")
    with CodecRun(settings, tmp_path, told.append) as run:
        broken(run.data, 21)
        reports = list(run)
        run.save()
    assert [report.fault is not None for report in reports].count(True) == 1
    assert run.state.images_seen == seen
    assert run.state.position == {"skip": 48, "rollback": 52}[action]
    (event,) = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert (event["event"], event["action"], event["position"], len(event["images"])) == ("fault", action, 24, 4)
    assert told[-1].startswith("step dropped: loss or gradient not finite after 20 images, step 5: kl of the objective")
    assert ("rolled back to 16 images" in told[-1]) == (action == "rollback")
    assert all(t.isfinite().all() for t in weights(tmp_path).values())


def test_a_fault_may_stop_the_run(tmp_path):
    with CodecRun(config("training.on_fault=stop"), tmp_path, QUIET) as run:
        broken(run.data, 9)
        with pytest.raises(SnriseError, match=r"^loss or gradient not finite after 8 images, step 2: kl of the"):
            list(run)


def test_settings_that_may_not_change(tmp_path):
    trained(tmp_path, steps=1)
    with pytest.raises(SnriseError, match=r"these may not change: objective\.logvar was 0\.0, now 1\.0"):
        CodecRun(config("objective.logvar=1.0"), tmp_path, QUIET)
    told = []
    with CodecRun(config("training.batch=8"), tmp_path, told.append):
        assert told[0] == "changed: training.batch was 4, now 8"


def test_data_that_have_changed(tmp_path):
    for i in range(6):
        Image.linear_gradient("L").rotate(30 * i).save(tmp_path / f"{i}.png")
    own = ("data.source=folder", f"data.path={tmp_path}", "data.only=[]")
    trained(tmp_path / "run", *own, steps=1)
    (tmp_path / "5.png").unlink()
    with pytest.raises(SnriseError, match=r"holds a run on other data: images were 6, now 5; choose another --out"):
        CodecRun(config(*own), tmp_path / "run", QUIET)


def test_the_settings_of_a_run_are_known_from_its_folder(tmp_path):
    assert of_run(tmp_path) is None
    trained(tmp_path, "data.hold_out=10", steps=1)
    assert of_run(tmp_path) == config("data.hold_out=10")
    assert len(of_run(tmp_path).held_out((16, 16))) > 2


@pytest.mark.parametrize(("override", "message"), [
    ("autoencoder.width=6", r"^config\.autoencoder\.width: got 6; allowed: a multiple of 4, above 0"),
    ("autoencoder.multipliers=[]", r"^config\.autoencoder\.multipliers: got \[\]; allowed: one or more whole numbers"),
    ("autoencoder.kind=gan", r"^config\.autoencoder\.kind: no such kind 'gan'"),
    ("data.resolution=[32, 33]", r"^config\.data\.resolution: got '32x33'; allowed: sides that are multiples of 2; "
     "nearest: 32x32 or 32x34"),
    ("training.crop=15", r"^config\.training\.crop: got '15x15'; allowed: sides that are multiples of 2"),
    ("training.crop=64", r"^config\.training\.crop: got 64; allowed: from 1 to 32, the images' shorter side"),
    ("training.crop=16", r"^config\.training\.crop: got \[16, 16\]; allowed: sides of 24 pixels or more"),
    ("training.learning_rate=0", r"^config\.training\.learning_rate: got 0.0; allowed: a number above 0"),
    ("autoencoder={kind: dc, full: -1}", r"^config\.autoencoder\.full: got -1; allowed: a whole number, 0 or more"),
    ("autoencoder={kind: dc, multipliers: [1]}", r"^config\.autoencoder\.multipliers: got \[1\]; allowed: two or more"),
    ("autoencoder={kind: dc, multipliers: [1, 2, 6]}", r"^config\.autoencoder\.multipliers: got \[1, 2, 6\]; allowed: "
     r"each, from the second on, a quarter, a half, the same, twice or four times the one before; such as "
     r"\[1, 2, 4, 4\]"),
    ("autoencoder={kind: dc, channels: 3}", r"^config\.autoencoder\.channels: got 3; allowed: a divisor of 256"),
    ("training.critic_rate=0", r"^config\.training\.critic_rate: got 0.0; allowed: a number above 0"),
    ("training.weight_decay=-1", r"^config\.training\.weight_decay: got -1"),
    ("autoencoder.divergence=-1", r"^config\.autoencoder\.divergence: got -1"),
    ("objective.perceptual_wait=1", r"^config\.objective\.perceptual_wait: no such setting .* did you mean"),
])
def test_settings_that_are_wrong(override, message):
    with pytest.raises(SnriseError, match=message):
        config(override)
