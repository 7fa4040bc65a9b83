"""Codes of a data set: measured, computed once, kept, and read in the order and with the flips of its pictures."""

import errno
import itertools

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import coded
from coded import latent
from snrise import Run, encoding
from snrise._errors import SnriseError
from snrise.codecs import Pixels, given
from snrise.data import store
from snrise.encoding import Encoded, encoded, with_measured_codes
from snrise.experiment import Experiment, dataset
from snrise.parallel import share
from snrise.training import latest

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return coded.saved(tmp_path_factory.mktemp("codec"))


@pytest.fixture
def counted(monkeypatch):
    """How many images have been encoded."""
    counts, codes_of = [], given.codes_of

    def counting(told):
        codes = codes_of(told)
        counts.append(len(codes))
        return codes

    monkeypatch.setattr(given, "codes_of", counting)
    return counts


def measured(codec, *settings):
    return with_measured_codes(latent(codec, *settings))


def test_codes_have_mean_0_and_variance_1(codec):
    config = measured(codec)
    images = dataset(config)
    codes = config.codec.encode(images.images(range(len(images))))
    assert_close(codes.mean(dim=(0, 2, 3)), torch.zeros(2), rtol=0, atol=2e-2)
    assert_close(codes.std(dim=(0, 2, 3), correction=0), torch.ones(2), rtol=0, atol=2e-2)
    assert config.codec.weights == config.codec.fingerprint()
    assert with_measured_codes(config) is config
    pixels = latent(codec, "codec=pixels", "network.image_channels=3")
    assert with_measured_codes(pixels).codec == Pixels()


def test_a_run_keeps_its_measurements(codec, counted):
    known = measured(codec, "data.hold_out=2")
    counted.clear()
    assert with_measured_codes(latent(codec), known=known).codec == known.codec
    assert counted == []


def test_factors_that_are_stated(codec):
    found = measured(codec, "codec.stated=true").codec
    assert found.mean == (0.0, 0.0)
    assert_close(torch.tensor(found.std), torch.full((2,), 1 / 0.18215))


@pytest.mark.parametrize("flip", ["true", "false"])
def test_batches_hold_the_codes_of_the_pictures_in_theirs(codec, tmp_path, flip):
    experiment = Experiment.of(measured(codec, f"data.flip={flip}", f"data.cache_folder={tmp_path}"))
    codes = encoded(experiment)
    pictures = experiment.dataset
    assert isinstance(codes.dataset, Encoded)
    assert len(codes.dataset) == len(pictures)
    pairs = zip(codes.dataset.batches(5, seed=3, position=10), pictures.batches(5, seed=3, position=10), strict=False)
    for ours, theirs in itertools.islice(pairs, 2 * len(pictures) // 5):
        assert ours.encoded
        assert not theirs.encoded
        assert (ours.indices, ours.position, ours.whole) == (theirs.indices, theirs.position, 5)
        assert torch.equal(ours.labels, theirs.labels)
        assert_close(ours.images, experiment.codec.encode(theirs.images), rtol=1e-3, atol=1e-4)


def test_each_process_reads_its_slice(codec, tmp_path):
    data = encoded(Experiment.of(measured(codec, f"data.cache_folder={tmp_path}", "data.flip=true"))).dataset
    whole = next(data.batches(5, seed=1, position=5))
    parts = [next(data.slices(5, 1, 5, rank=rank, size=2)) for rank in range(2)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert [part.begin for part in parts] == [share(5, rank, 2).start for rank in range(2)]
    assert all(part.encoded and part.whole == 5 for part in parts)
    assert torch.equal(whole.of(1, 2).images, parts[1].images)
    assert whole.of(1, 2).encoded


def test_codes_are_computed_once_and_kept(codec, tmp_path, counted):
    config = measured(codec, f"data.cache_folder={tmp_path}", "data.flip=true")
    count = len(dataset(config))
    for _ in range(2):
        counted.clear()
        first = encoded(Experiment.of(config))
        computed = sum(counted)
        assert next(first.dataset.batches(4, seed=0)).images.dtype == torch.float32
        assert sum(counted) == computed
    assert computed == 0
    (folder,) = tmp_path.iterdir()
    assert (folder / "pixels").stat().st_size == 2 * count * 2 * 16 * 16 * 4


def test_other_weights_are_encoded_anew(tmp_path, counted):
    """Also where mean and deviation stay; the codes of the weights before go."""
    ends = []
    for _ in range(2):
        stated = f"data.cache_folder={tmp_path / 'kept'}", "codec.stated=true"
        config = with_measured_codes(latent(coded.saved(tmp_path / "codec"), *stated))
        counted.clear()
        batch = next(encoded(Experiment.of(config)).dataset.batches(4, seed=0))
        assert sum(counted) == len(dataset(config))
        assert_close(batch.images, config.codec.encode(dataset(config).images(batch.indices)), rtol=1e-3, atol=1e-4)
        ends.append(batch.images)
    assert not torch.equal(*ends)
    assert len([*(tmp_path / "kept").iterdir()]) == 1


def test_without_a_cache_each_step_encodes(codec, counted):
    experiment = Experiment.of(measured(codec, "data.cache=none", "data.workers=0"))
    assert encoded(experiment) is experiment


def test_codes_and_pictures_train_the_same_weights(codec, tmp_path):
    config = measured(codec, f"data.cache_folder={tmp_path / 'codes'}", "data.flip=true", "data.cache=memory")
    ends = []
    for name, make in (("codes", encoded), ("pictures", lambda experiment: experiment)):
        with Run(make(Experiment.of(config)), tmp_path / name, lambda line: None) as run:
            list(run)
            run.save()
        assert latest(tmp_path / name / "checkpoints") is not None
        ends.append({n: p.clone() for n, p in run.state.network.named_parameters()})
    for name in ends[0]:
        assert_close(ends[0][name], ends[1][name], rtol=1e-3, atol=1e-4)


def test_images_that_cannot_be_read_are_replaced_as_they_are_in_pictures(codec, tmp_path):
    for i in range(6):
        Image.linear_gradient("L").rotate(30 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"torn")
    settings = (f"data.path={tmp_path}", "data.source=folder", "data.only=[]", "data.classes=null",
                f"data.cache_folder={tmp_path / 'kept'}")
    config = measured(codec, *settings)
    for _ in range(2):  # the second time, codes are there, and what cannot be read is found again
        experiment = Experiment.of(config)
        ours, theirs = encoded(experiment).dataset, experiment.dataset
        assert [*ours.skipped] == [2]
        for a, b in itertools.islice(zip(ours.batches(3, seed=0), theirs.batches(3, seed=0), strict=False), 4):
            assert a.indices == b.indices
            assert 2 not in a.indices
            assert_close(a.images, experiment.codec.encode(b.images), rtol=1e-3, atol=1e-4)


def test_a_disk_that_is_full(codec, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    experiment = Experiment.of(measured(codec, f"data.cache_folder={tmp_path}"))
    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(SnriseError, match=r"^data\.cache: the codes of \d+ images do not fit into .*; set"):
        encoded(experiment)


def test_long_work_tells_how_far_it_is(codec, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(encoding, "EVERY", -1.0)
    monkeypatch.setattr(encoding, "AT_ONCE", 8)
    encoded(Experiment.of(measured(codec, f"data.cache_folder={tmp_path}")), tell=told.append)
    assert told[0].startswith("encoding: 8 of ")
    assert told[0].endswith(" images/s")
