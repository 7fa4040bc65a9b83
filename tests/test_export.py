"""Averaged weights in a file of their own, and what is refused."""

import json
import re

import pytest
import torch
from safetensors import safe_open

import snrise
from snrise._errors import SnriseError
from snrise.config import to_yaml
from snrise.export import WeightFormat, export_weights
from snrise.trained import transferred
from snrise.training import load_state, read_header, save_state
from tiny import config, edited, perturbed, run, state_of

pytestmark = pytest.mark.precision

EXTRA = {
    "classes": ["a", "b", "c"], "frequencies": [0.5, 0.25, 0.25], "images": 9, "fingerprint": "f", "meter": {},
    "spikes": {},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint whose averaged weights are not its last ones."""
    settings = config("training.images=1000")
    state = state_of(settings, 3)
    run(state, settings, 1)
    perturbed(state.network)
    state.ema.update(state.network, 10**9, 10**9)
    perturbed(state.network)
    return save_state(state, tmp_path_factory.mktemp("run") / "checkpoints", to_yaml(settings), EXTRA)


@pytest.mark.parametrize("form", WeightFormat)
def test_what_comes_out_is_what_went_in(trained, tmp_path, form):
    header = export_weights(trained, tmp_path / "a.safetensors", form)
    own, opened = snrise.load(trained), snrise.load(tmp_path / "a.safetensors")
    assert opened.config == own.config
    assert (opened.images_seen, opened.classes, opened.frequencies) == (8, ("a", "b", "c"), (0.5, 0.25, 0.25))
    assert header.extra == {name: EXTRA[name] for name in ("classes", "frequencies", "images", "fingerprint")} | {
        "exported_from": own.fingerprint, "weights": form}
    assert (opened.fingerprint == own.fingerprint) is (form is WeightFormat.FP32)
    dtype = torch.bfloat16 if form is WeightFormat.BF16 else torch.float32
    for name, p in own.network.named_parameters():
        other = opened.network.get_parameter(name)
        assert other.dtype == torch.float32
        assert torch.equal(other, p.to(dtype).float()), name


def test_it_is_smaller_and_holds_nothing_else(trained, tmp_path):
    with safe_open(trained, framework="pt") as file:
        sizes = {name: file.get_tensor(name).numel() for name in file.keys() if name.startswith("ema.")}  # noqa: SIM118
    export_weights(trained, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert {name: file.get_tensor(name).numel() for name in file.keys()} == sizes  # noqa: SIM118
        assert json.loads(file.metadata()["snrise"])["parts"] == ["ema"]
    assert (tmp_path / "a.safetensors").stat().st_size < trained.stat().st_size / 5


def test_samples_are_those_of_the_run_but_for_rounding(trained, tmp_path):
    for form, most in ((WeightFormat.FP32, 0), (WeightFormat.BF16, 3)):
        export_weights(trained, tmp_path / f"{form}.safetensors", form)
        ours, theirs = (
            torch.cat(list(snrise.load(path).samples(4, seed=1))).int()
            for path in (trained, tmp_path / f"{form}.safetensors")
        )
        difference = (ours - theirs).abs()
        assert difference.float().mean() <= most, form
        assert ours.float().std() > 20


def test_no_training_goes_on_from_it_but_one_begins(trained, tmp_path):
    file = tmp_path / "a.safetensors"
    export_weights(trained, file)
    before = f"{re.escape(str(file))}: got 'averaged weights alone, exported from a run'; allowed: a whole checkpoint; "
    with pytest.raises(SnriseError, match=f"^{before}begin another run with them: snrise train --from$"):
        load_state(state_of(config(), 3), file)
    with pytest.raises(SnriseError, match=f"^{before}sample from those: leave out --last$"):
        snrise.load(file, ema=False)
    assert transferred(file)["training"]["start"] == str(file)


def test_one_bit_of_it_is_noticed(trained, tmp_path):
    export_weights(trained, tmp_path / "a.safetensors")
    content = bytearray((tmp_path / "a.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(SnriseError, match="the checksum of its ema is wrong"):
        snrise.load(tmp_path / "a.safetensors")


def test_a_checkpoint_without_its_optimizer_is_no_exported_file(trained, tmp_path):
    edited(trained, tmp_path / "a.safetensors", header=lambda told: told.update(parts=["ema", "optimizer", "more"]))
    with pytest.raises(SnriseError, match="the checksum of its header is wrong"):
        read_header(tmp_path / "a.safetensors")


def test_what_is_refused(trained, tmp_path):
    there = tmp_path / "there.safetensors"
    export_weights(trained, there)
    for source, out, told in (
        (trained, there, "--out: got '[^']+'; allowed: a file that is not there yet; remove it, or choose another"),
        (trained, tmp_path / "a.pt", r"--out: got '[^']+'; allowed: a file ….safetensors"),
        (there, tmp_path / "b.safetensors", f"{re.escape(str(there))}: got 'weights that were exported already'; "
                                            "allowed: a run, or a checkpoint of one"),
    ):
        with pytest.raises(SnriseError, match=f"^{told}$"):
            export_weights(source, out)
