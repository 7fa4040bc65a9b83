"""Autoencoders in diffusers' format as codecs: every class, and every way to name one."""

import json
import shutil

import pytest
import torch
from torch.testing import assert_close

import coded
from snrise._errors import SnriseError
from snrise.autoencoding import parse
from snrise.autoencoding.starting import recipes
from snrise.codecs import Autoencoder, codec_folder, export_autoencoder, given, load_autoencoder
from snrise.data import as_float, to_uint8
from snrise.documents import load, read_document
from snrise.metrics import psnr

diffusers = pytest.importorskip("diffusers")

LEVELS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
RESIDUAL = {f"{part}_{what}": value for part in ("encoder", "decoder") for what, value in (
    ("block_out_channels", (32, 32, 32)), ("block_types", ("ResBlock",) * 3), ("layers_per_block", (1, 1, 1)),
    ("qkv_multiscales", ((), (), ())),
)}
#: Every class of diffusers that can be a codec: made by diffusers alone; channels and factor of its codes.
MADE = {
    "AutoencoderKL": (
        lambda: diffusers.AutoencoderKL(block_out_channels=(32, 32), scaling_factor=0.5, shift_factor=0.25, **LEVELS),
        4, 2,
    ),
    "VQModel": (lambda: diffusers.VQModel(block_out_channels=(32, 32), num_vq_embeddings=8, **LEVELS), 3, 2),
    "AutoencoderDC": (lambda: diffusers.AutoencoderDC(latent_channels=8, scaling_factor=0.5, **RESIDUAL), 8, 4),
    "AutoencoderTiny": (
        lambda: diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1), latent_channels=5,
        ), 5, 4,
    ),
}


@pytest.fixture(params=MADE)
def made(request, tmp_path):
    """A network, its folder, channels and factor."""
    make, channels, factor = MADE[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().eval()
    network.save_pretrained(tmp_path / "made")
    return network, tmp_path / "made", channels, factor


def pictures(count=3, size=(32, 48)):
    return torch.randint(256, (count, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def with_moments(folder, channels, **settings):
    mean, std = (tuple(0.1 * (i + first) for i in range(channels)) for first in (-1, 5))
    return Autoencoder(path=str(folder), mean=mean, std=std, **settings)


@torch.no_grad()
def codes_of(network, x):
    encoded = network.encode(x)
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mean
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent


def test_codes_are_those_of_diffusers_scaled(made):
    network, folder, channels, factor = made
    codec, x = with_moments(folder, channels), pictures()
    assert codec.shape((32, 48)) == (channels, 32 // factor, 48 // factor)
    assert codec.range is None
    found, expected = codec.encode(x), codes_of(network, as_float(x))
    assert found.shape == (3, *codec.shape((32, 48)))
    for i in range(channels):
        assert_close(found[:, i], (expected[:, i] - 0.1 * (i - 1)) / (0.1 * (i + 5)))


def test_pictures_are_what_diffusers_decodes(made):
    network, folder, channels, _ = made
    codec, x = with_moments(folder, channels), pictures()
    with torch.no_grad():
        expected = to_uint8(network.decode(codes_of(network, as_float(x))).sample)
    for found in (codec.decode(codec.encode(x)), codec.reconstruct(x), Autoencoder(path=str(folder)).reconstruct(x)):
        assert (found.int() - expected.int()).abs().max() <= 1
        assert found.shape == x.shape
        assert found.dtype == torch.uint8


def test_a_few_are_decoded_at_a_time(made, monkeypatch):
    _, folder, channels, _ = made
    codec, x = with_moments(folder, channels), pictures(5)
    whole = codec.decode(codec.encode(x))
    monkeypatch.setattr(given, "AT_ONCE", 2 * 32 * 48)
    sizes = []
    network = codec._network(torch.device("cpu"))
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda part: sizes.append(len(part)) or decode(part))
    assert (codec.decode(codec.encode(x)).int() - whole.int()).abs().max() <= 1
    assert sizes == [2, 2, 1]


def test_large_pictures_are_decoded_in_tiles(tmp_path):
    diffusers.AutoencoderKL(block_out_channels=(4, 4), norm_num_groups=2, sample_size=512, **LEVELS).save_pretrained(
        tmp_path
    )
    codec = with_moments(tmp_path, 4)
    network = codec._network(torch.device("cpu"))
    assert codec.decode(torch.zeros(1, 4, 8, 516)).shape == (1, 3, 16, 1032)
    assert network.use_tiling
    small = codec.decode(torch.zeros(1, 4, 8, 8))
    assert small.shape == (1, 3, 16, 16)


def test_factors_may_be_those_that_a_folder_states(tmp_path):
    MADE["AutoencoderKL"][0]().save_pretrained(tmp_path / "kl")
    assert Autoencoder(path=str(tmp_path / "kl")).statements() == (0.25, 2.0)
    MADE["AutoencoderDC"][0]().save_pretrained(tmp_path / "dc")
    assert Autoencoder(path=str(tmp_path / "dc")).statements() == (0.0, 2.0)


def test_codes_have_no_scale_before_it_is_measured(tmp_path):
    codec = Autoencoder(path=str(coded.saved(tmp_path)))
    assert not codec.measured
    with pytest.raises(SnriseError, match=r"^codec\.std: got \[\]; allowed: measured ones: see snrise\.encoding"):
        codec.encode(pictures())


def test_weights_that_are_not_those_of_the_run(tmp_path):
    folder = coded.saved(tmp_path / "one")
    codec = with_moments(folder, 2, weights=Autoencoder(path=str(folder)).fingerprint())
    codec.encode(pictures())
    coded.saved(tmp_path / "other")
    shutil.copy(tmp_path / "other/diffusion_pytorch_model.safetensors", folder)
    with pytest.raises(SnriseError, match=r"^codec\.path: got '.*one with weights \w+'; allowed: the weights \w+"):
        codec.encode(pictures())


@pytest.mark.parametrize(("change", "message"), [
    (lambda folder: (folder / "config.json").unlink(), r"^codec\.path: got '.*'; allowed: a run of snrise train-codec"),
    (lambda folder: (folder / "config.json").write_text("{}"), r"config\.json: got 'KeyError'; allowed: settings of"),
    (lambda folder: (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"})),
     r"config\.json: got 'UNet2DModel'; allowed: settings of diffusers' AutoencoderKL, VQModel"),
    (lambda folder: (folder / "diffusion_pytorch_model.safetensors").unlink(), r"got 'no weights'; allowed: diff"),
    (lambda folder: (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"torn"), r"cannot be read as an"),
])
def test_folders_that_hold_no_autoencoder(tmp_path, change, message):
    folder = coded.saved(tmp_path / "codec")
    change(folder)
    with pytest.raises(SnriseError, match=message):
        Autoencoder(path=str(folder)).reconstruct(pictures())


@pytest.mark.parametrize("use", [
    lambda folder: load_autoencoder(torch.nn.Linear(1, 1), str(folder)),
    lambda folder: export_autoencoder(str(folder), folder / "out", torch.bfloat16),
])
def test_weights_that_are_torn(tmp_path, use):
    folder = coded.saved(tmp_path / "codec")
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    with pytest.raises(SnriseError, match=r"model\.safetensors: got 'SafetensorError'; allowed: a whole file"):
        use(folder)


def test_names_that_mean_nothing(monkeypatch):
    with pytest.raises(SnriseError, match=r"^codec\.path: got 'emoji-f9'; allowed: emoji-f8, a run of snrise"):
        Autoencoder(path="emoji-f9").shape((32, 32))
    with pytest.raises(SnriseError, match=r"^codec\.path: someone/codec is no folder here; hub:someone"):
        Autoencoder(path="someone/codec").shape((32, 32))


def test_sides_that_codes_do_not_divide(tmp_path):
    codec = Autoencoder(path=str(coded.saved(tmp_path, "autoencoder.multipliers=[1, 1, 1]")))
    allowed = "sides that are multiples of 4; nearest: 32x28 or 32x32"
    with pytest.raises(SnriseError, match=rf"^config\.data\.resolution: got '32x30'; allowed: {allowed}$"):
        codec.shape((32, 30))
    with pytest.raises(SnriseError, match=r"^std: got \[1\.0\]; allowed: a number above 0 for each channel"):
        Autoencoder(path="x", std=(1.0,))


def test_the_built_in_autoencoder_has_learnt_the_emoji():
    codec, file = Autoencoder(path="emoji-f8"), codec_folder("emoji-f8") / "diffusion_pytorch_model.safetensors"
    assert codec.shape((128, 128)) == (16, 16, 16)
    assert file.stat().st_size < 10e6
    assert codec.training_seconds > 60
    unseen = parse(read_document("emoji-f8", recipes())).held_out()
    images = unseen.images(unseen.spread(16))
    assert psnr(codec.reconstruct(images), images).mean() > 32


def test_the_built_in_autoencoder_is_a_codec_by_its_name():
    config = load("emoji-32", ["data.resolution=[64,64]", "codec=emoji-f8"])
    assert config.codec == Autoencoder(path="emoji-f8")
    assert config.network.image_channels == 16
    assert load("emoji-128-latent").network.image_channels == 16
