"""Pipelines of diffusers: the same images as snrise's, by its own code and by that of the folder alone."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import snrise
from snrise import experiment
from snrise._errors import SnriseError
from snrise.codecs import Autoencoder, Grey
from snrise.config import LossConfig, Sampling
from snrise.denoisers import Projected
from snrise.interop import export_pipeline
from snrise.interop.described import described, rebuilt, types_in
from snrise.interop.standalone import Name, standalone
from snrise.networks import External
from snrise.process import Prediction, Relaxed, Straight
from snrise.samplers import Ddim, DpmSolverPP, Heun, Karras, Trailing
from snrise.schedules import ByResolution, FlowMatching, UniformLogSnr
from snrise.trained import Trained
from tiny import NEST, NETWORKS

pytest.importorskip("diffusers")

COUNT, SEED = 3, 5
#: Settings that differ from those of emoji-32.
CASES = {
    **{f"{kind}, {name}": {"network": config}
       for kind, members in NETWORKS.items() for name, config in members.items()},
    "nest": {"network": NEST},
    "without classes": {"classes": None},
    "grey": {"codec": Grey(), "network": replace(NETWORKS["unet"]["flat"], image_channels=1)},
    "guided": {"sampling": Sampling(steps=3, guidance=2.0, guidance_interval=(-3.0, 3.0), rescale=0.5,
                                    sampler=Ddim(), grid=Trailing(), dynamic_clip=0.99)},
    "projected": {"sampling": Sampling(steps=3, guidance=2.0, wrappers=(Projected(scale=1.5),), sampler=DpmSolverPP())},
    "two of one name": {"sampling": Sampling(steps=3, grid=snrise.samplers.UniformLogSnr(), sampler=Heun()),
                        "schedule": ByResolution(base=UniformLogSnr(logsnr_min=-9.0, logsnr_max=9.0))},
    "straight": {"process": Straight(), "loss": LossConfig(prediction=Prediction.U),
                 "schedule": ByResolution(base=FlowMatching()), "sampling": Sampling(steps=3, sampler=Ddim())},
    "codes": {"codec": Autoencoder(path="emoji-f8", mean=(0.1,) * 16, std=(0.9,) * 16), "size": (64, 96),
              "network": replace(NETWORKS["unet"]["flat"], image_channels=16)},
    "enlarged": {"sampling": Sampling(steps=2, upsample=2, grid=Karras())},
}
#: Samples every folder it is told, where no snrise can be had, nor what only snrise needs.
ALONE = """
import sys
import torch

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("snrise", "jaxtyping", "pydantic", "typer", "beartype"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Absent())
from diffusers import DiffusionPipeline
for folder in sys.argv[3:]:
    pipeline = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(int(sys.argv[1]), seed=int(sys.argv[2]), batch_size=2, output_type="pt").images
    torch.save(images, f"{folder}/images.pt")
"""


def trained(changes) -> Trained:
    """A network of random weights, with classes."""
    own = {"network": NETWORKS["uvit"]["conv"], "sampling": Sampling(steps=3)} | changes
    classes, size = own.pop("classes", ("a", "b", "c")), own.pop("size", (16, 24))
    base = snrise.load("emoji-32").config
    config = replace(base, **own, data=replace(base.data, resolution=size))
    network = experiment.network(config, None if classes is None else len(classes))
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.normal_(0, 0.1, generator=torch.Generator().manual_seed(i))
    frequencies = None if classes is None else (0.5, 0.3, 0.2)
    return Trained(config=config, network=network, images_seen=64, fingerprint="f", classes=classes,
                   frequencies=frequencies)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Every case's folder, with the images that its own code makes."""
    place = tmp_path_factory.mktemp("pipelines")
    made = {name: export_pipeline(trained(changes), place / f"case{i}", torch.float32)
            for i, (name, changes) in enumerate(CASES.items())}
    told = [sys.executable, "-c", ALONE, str(COUNT), str(SEED), *map(str, made.values())]
    subprocess.run(told, check=True, capture_output=True, timeout=600)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_images_are_those_of_snrise_without_it(folders, name):
    wanted = torch.cat(list(trained(CASES[name]).samples(COUNT, seed=SEED)))
    found = torch.load(folders[name] / "images.pt", weights_only=True)
    assert found.shape == wanted.shape
    assert wanted.float().std() > 1
    assert_close(found.int(), wanted.int(), rtol=0, atol=1)
    assert (found == wanted).float().mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uvit, mixed", "nest", "guided", "codes"])
def test_images_are_those_of_snrise_with_it(folders, name):
    pipeline = snrise.interop.SnrisePipeline.from_pretrained(folders[name])
    pipeline.set_progress_bar_config(disable=True)
    wanted = trained(CASES[name])
    assert pipeline.classes == list(wanted.classes)
    found = pipeline(2, seed=SEED, classes=["b", "a"], num_inference_steps=2, output_type="pt").images
    again = pipeline(1, seed=SEED, first=1, classes=["b", "a"], num_inference_steps=2, output_type="pt").images
    assert_close(found, wanted.sample(2, seed=SEED, classes=["b", "a"], steps=2))
    assert_close(found[1:].int(), again.int(), rtol=0, atol=1 if name == "codes" else 0)  # decoded in another batch


@pytest.mark.slow
def test_the_noise_may_be_given(folders):
    pipeline = snrise.interop.SnrisePipeline.from_pretrained(folders["guided"])
    pipeline.set_progress_bar_config(disable=True)
    own = snrise.samplers.generators(SEED, 0, 2)
    noise = snrise.samplers.normal_like(torch.empty(2, 3, 16, 24), own)
    assert_close(pipeline(2, latents=noise, seed=SEED, output_type="pt").images,
                 pipeline(2, seed=SEED, output_type="pt").images)
    pil, array = (pipeline(2, seed=SEED, output_type=kind).images for kind in ("pil", "np"))
    assert pil[0].size == (24, 16)
    assert array.shape == (2, 16, 24, 3)
    (images,) = pipeline(2, seed=SEED, output_type="np", return_dict=False)
    assert_close(images, array)
    for call, message in (
        ({"latents": noise}, r"^latents: got \(2, 3, 16, 24\); allowed: noise of \(1, 3, 16, 24\)"),
        ({"classes": ["d"]}, r"^classes: no such class 'd'"), ({"output_type": "jpg"}, r"^output_type: got 'jpg'"),
    ):
        with pytest.raises(SnriseError, match=message):
            pipeline(**call)


@pytest.mark.slow
def test_its_model_is_a_model_of_diffusers(folders, tmp_path):
    """λ and labels in, the network's prediction out; saved and loaded again by diffusers."""
    model = snrise.interop.SnriseModel.from_pretrained(folders["uvit, mixed"], subfolder="unet").eval()
    z, logsnr, labels = torch.randn(2, 3, 16, 24), torch.tensor([-1.0, 2.0]), torch.tensor([0, 2])
    wanted = trained(CASES["uvit, mixed"]).network.eval()(z, logsnr, labels)
    assert_close(model(z, logsnr, labels).sample, wanted)
    model.save_pretrained(tmp_path)
    again = snrise.interop.SnriseModel.from_pretrained(tmp_path).eval()
    assert_close(again(z, logsnr, labels, return_dict=False)[0], wanted)


def test_weights_may_be_stored_in_bfloat16(tmp_path):
    run = trained({})
    folder = export_pipeline(run, tmp_path / "half", torch.bfloat16)
    model = snrise.interop.SnriseModel.from_pretrained(folder, subfolder="unet")
    for name, p in run.network.state_dict().items():
        assert_close(model.network.state_dict()[name].float(), p.bfloat16().float(), rtol=0, atol=0)


def test_what_is_refused(tmp_path):
    run = trained({})
    for changes, message in (
        ({"network": External(type="mine.Net")}, r"^export_pipeline: got '.*'; allowed: a network of snrise"),
    ):
        with pytest.raises(SnriseError, match=message):
            export_pipeline(replace(run, config=replace(run.config, **changes)), tmp_path / "out", torch.float32)
    (tmp_path / "there").mkdir()
    with pytest.raises(SnriseError, match=r"^--out: got '.*there'; allowed: a folder that is not there yet"):
        export_pipeline(run, tmp_path / "there", torch.float32)


# What it is made of


@pytest.mark.parametrize("name", CASES)
def test_settings_survive_json(name):
    config = trained(CASES[name]).config
    for thing in (config.network, config.sampling, config.schedule(config.shape[1:])):
        document = json.loads(json.dumps(described(thing)))
        assert rebuilt(document) == thing
        assert f"{type(thing).__module__}:{type(thing).__name__}" in types_in(document)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: described(Relaxed(rho=torch.exp)), r"^described: got '.*'; allowed: numbers, texts and frozen"),
    (lambda: rebuilt({"type": "os:system"}), r"^rebuilt: got 'os:system'; allowed: the type of a setting"),
    (lambda: rebuilt({"type": "snrise.trained:load"}), r"^rebuilt: got 'snrise\.trained:load'"),
    (lambda: standalone({"x": Name("snrise.nothing", "x")}, ""), r"^standalone: got 'snrise\.nothing'; allowed: a mo"),
    (lambda: standalone({"x": Name("snrise.process", "x")}, ""), r"^standalone: got 'snrise\.process:x'; allowed: a n"),
])
def test_mistakes(make, message):
    with pytest.raises(SnriseError, match=message):
        make()


def test_a_file_that_stands_alone_defines_no_name_twice():
    wanted = {"A": "snrise.samplers:UniformLogSnr", "B": "snrise.schedules:UniformLogSnr"}
    source = standalone({key: Name.parse(name) for key, name in wanted.items()}, "Both.")
    assert "import snrise" not in source
    assert "from snrise" not in "\n".join(line for line in source.splitlines() if ">>>" not in line)
    names = {}
    exec(source, names)
    assert names["A"] is not names["B"]
    t = torch.linspace(0, 1, 3)
    assert_close(names["B"](logsnr_min=-2.0, logsnr_max=2.0)(t), torch.tensor([2.0, 0.0, -2.0]))
