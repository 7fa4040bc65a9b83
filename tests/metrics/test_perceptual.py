"""Perceptual distances against the packages that their weights are from."""

import hashlib
import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.metrics import PERCEPTUAL, perceptual
from snrise.metrics import perception as rooms

installed = importlib.util.find_spec("stlpips_pytorch") is not None
needs_weights = pytest.mark.skipif(not installed, reason="needs stlpips-pytorch")


def images(seed, size=(40, 56), count=3):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def vgg(tmp_path, monkeypatch):
    """VGG16 of random weights where torch.hub would have put the real one, and channel weights as of `lpips`."""
    generator = torch.Generator().manual_seed(0)
    stored, number, channels = {}, 0, 3
    for stage in PERCEPTUAL["lpips-vgg"].stages:
        for layer in stage:
            if isinstance(layer, rooms._Conv):
                shape = layer.channels, channels, layer.side, layer.side
                stored[f"features.{number}.weight"] = torch.randn(shape, generator=generator) / (9 * channels) ** 0.5
                stored[f"features.{number}.bias"] = torch.randn(layer.channels, generator=generator) / 10
                channels = layer.channels
            number += 1
    stored["features.30.unused"] = stored["classifier.0.weight"] = torch.zeros(1)
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    file = tmp_path / "vgg16.pth"
    torch.save(stored, file)
    name = f"vgg16-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file.rename(tmp_path / "hub/checkpoints" / name)
    torch.save({f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=generator)
                for i, c in enumerate((64, 128, 256, 512, 512))}, tmp_path / "lin.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(rooms, "VGG16", f"https://example.invalid/{name}")
    monkeypatch.setattr(rooms, "_in_package", lambda *arguments: tmp_path / "lin.pth")
    return stored


@needs_weights
@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_shift_tolerant_distances_are_those_of_their_package(monkeypatch, name):
    pytest.importorskip("torchvision")
    for missing, attribute in (("IPython", "embed"), ("torchsummary", "summary")):  # it imports them for nothing
        stand_in = types.ModuleType(missing)
        setattr(stand_in, attribute, None)
        monkeypatch.setitem(sys.modules, missing, stand_in)
    theirs = importlib.import_module("stlpips_pytorch.stlpips").LPIPS(net=name, variant="shift_tolerant", verbose=False)
    x, y = images(0), images(1)
    assert_close(perceptual(f"stlpips-{name}")(x, y), theirs(x, y).flatten().detach(), rtol=1e-4, atol=1e-6)


def test_lpips_is_the_formula_on_vgg16(vgg):
    """Zhang et al. 2018, eq. 1, on a VGG16 that is written out."""
    x, y = images(2), images(3)
    weights = torch.load(rooms._in_package(), weights_only=True)
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in ((-.030, -.088, -.188), (.458, .448, .450)))
    ends, total = (3, 8, 15, 22, 29), torch.zeros(3)
    features = [(image - shift) / scale for image in (x, y)]
    for number in range(30):
        if f"features.{number}.weight" in vgg:
            kernel, bias = vgg[f"features.{number}.weight"], vgg[f"features.{number}.bias"]
            features = [nn.functional.conv2d(f, kernel, bias, padding=1) for f in features]
        elif number in (4, 9, 16, 23):
            features = [nn.functional.max_pool2d(f, 2) for f in features]
        else:
            features = [f.relu() for f in features]
        if number in ends:
            a, b = (nn.functional.normalize(f, dim=1, eps=1e-10) for f in features)
            total += ((a - b) ** 2 * weights[f"lin{ends.index(number)}.model.1.weight"]).sum(dim=1).mean(dim=(1, 2))
    assert_close(perceptual("lpips-vgg")(x, y), total, rtol=1e-4, atol=1e-6)


@needs_weights
@pytest.mark.parametrize("name", ["stlpips-alex", "stlpips-vgg"])
def test_a_distance(name):
    distance, x, noise = perceptual(name), images(4), images(5)
    assert distance(x, x).tolist() == [0, 0, 0]
    near, far = distance(x, (x + 0.1 * noise).clamp(-1, 1)), distance(x, noise)
    assert bool((near > 0).all())
    assert bool((near < far).all())
    assert_close(distance(x, noise), distance(noise, x))
    assert not distance.train().training
    assert not any(p.requires_grad for p in distance.parameters())


@needs_weights
def test_gradients_of_images_without_features_are_finite():
    white = torch.ones(1, 3, 32, 32, requires_grad=True)
    perceptual("stlpips-alex")(white, torch.ones(1, 3, 32, 32)).sum().backward()
    assert bool(white.grad.isfinite().all())


@needs_weights
def test_images_too_small():
    with pytest.raises(SnriseError, match=r"^stlpips-alex: got \(16, 40\); allowed: images of 32 pixels"):
        perceptual("stlpips-alex")(images(0, (16, 40)), images(1, (16, 40)))


def test_an_unknown_name_and_weights_that_are_missing(monkeypatch, tmp_path):
    with pytest.raises(SnriseError, match=r"^here: no such perceptual distance 'lpips-alex'; did you mean"):
        perceptual("lpips-alex", "here")
    monkeypatch.setattr(rooms, "find_spec", lambda name: None)
    with pytest.raises(SnriseError, match=r"^perceptual: stlpips_pytorch is not installed; pip install"):
        perceptual("stlpips-alex")
    monkeypatch.setattr(rooms, "_in_package", lambda *arguments: tmp_path / "none.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(SnriseError, match=r"^perceptual: VGG16 cannot be had \(OSError no route\); put https:.*vgg16"):
        perceptual("lpips-vgg")


def unreachable(*arguments, **named):
    raise OSError("no route")


def test_a_file_that_holds_more_than_tensors_is_refused(monkeypatch, tmp_path):
    torch.save({"net.slice1.0.weight": Path("x")}, tmp_path / "weights.pth")
    monkeypatch.setattr(rooms, "_in_package", lambda *arguments: tmp_path / "weights.pth")
    with pytest.raises(SnriseError, match=r"weights\.pth: got 'UnpicklingError'; allowed: a file of weights"):
        perceptual("stlpips-alex")
