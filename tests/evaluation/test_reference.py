import dataclasses

import pytest
import torch
from torch.testing import assert_close

from snrise import experiment
from snrise._errors import SnriseError
from snrise.evaluation import Reference, reference
from snrise.metrics import radial_power
from tiny import POOLED, config


@pytest.fixture(scope="module")
def dataset():
    return experiment.dataset(config())


def test_a_reference_is_of_the_images(dataset, tmp_path):
    found = Reference.of(dataset, POOLED, home=tmp_path)
    images = dataset.images(range(len(dataset)))
    assert len(found) == len(dataset)
    assert_close(found.features, POOLED(images))
    assert_close(found.power, radial_power(images))


def test_a_reference_is_computed_once(dataset, tmp_path):
    seen = []
    first = Reference.of(dataset, POOLED, home=tmp_path, watch=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (561, 561)
    broken = dataclasses.replace(POOLED, load=lambda: pytest.fail("computed again"))
    again = Reference.of(dataset, broken, home=tmp_path)
    assert_close(again.features, first.features, atol=0, rtol=0)
    assert_close(again.power, first.power, atol=0, rtol=0)


@pytest.mark.parametrize("change", ["data.resolution=[32, 32]", "data.only=[activities, flags]", "data.fit=pad"])
def test_other_data_size_or_preprocessing_is_another_reference(dataset, tmp_path, change):
    Reference.of(dataset, POOLED, home=tmp_path)
    Reference.of(experiment.dataset(config(change)), POOLED, home=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_file_is_computed_again(dataset, tmp_path):
    first = Reference.of(dataset, POOLED, home=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert_close(Reference.of(dataset, POOLED, home=tmp_path).features, first.features)


def test_of_many_images_some_are_taken_evenly(dataset, tmp_path):
    found = Reference.of(dataset, POOLED, limit=200, home=tmp_path)
    assert found.indices == range(0, 561, 3)
    assert_close(found.features, POOLED(dataset.images(range(0, 561, 3))))
    with pytest.raises(SnriseError, match=r"Reference\.limit: got 1; allowed: 2 images or more"):
        Reference.of(dataset, POOLED, limit=1, home=tmp_path)


def test_features_are_those_of_torch_whatever_the_batch(dataset, tmp_path):
    assert Reference.of(dataset, POOLED, home=tmp_path).features.dtype == torch.float32


def test_two_processes_may_compute_the_same_reference_at_a_time(dataset, tmp_path, monkeypatch):
    """The one whose file was taken away under its hands finds the other's."""
    def beaten(path, content):
        path.write_bytes(content)
        raise SnriseError(f"{path}: cannot be written")

    monkeypatch.setattr(reference, "write_atomically", beaten)
    assert len(Reference.of(dataset, POOLED, home=tmp_path)) == len(dataset)
    monkeypatch.setattr(reference, "write_atomically", lambda path, content: beaten(path, b""))
    with pytest.raises(SnriseError, match="cannot be written"):
        Reference.of(experiment.dataset(config("data.fit=pad")), POOLED, home=tmp_path)
