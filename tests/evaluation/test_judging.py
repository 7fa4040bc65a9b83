import json

import pytest
import torch
from torch.testing import assert_close

from snrise import experiment
from snrise._errors import SnriseError
from snrise.evaluation import Reference, judge
from snrise.metrics import frechet, kernel_distance, prdc
from tiny import POOLED, config


@pytest.fixture(scope="module")
def dataset():
    return experiment.dataset(config())


@pytest.fixture(scope="module")
def reference(dataset, tmp_path_factory):
    return Reference.of(dataset, POOLED, home=tmp_path_factory.mktemp("features"))


def blurred(images):
    small = torch.nn.functional.avg_pool2d(images.float(), 4)
    return small.repeat_interleave(4, -1).repeat_interleave(4, -2).to(torch.uint8)


def test_every_number_is_that_of_its_function(dataset, reference):
    samples = blurred(dataset.images(range(0, 300, 3)))
    found = judge(torch.split(samples, 32), reference)
    features = POOLED(samples)
    assert (found.samples, found.references) == (100, 561)
    distance = kernel_distance(features, reference.features)
    assert_close(found["KID-pooled"], distance.value)
    assert_close(found["FD-pooled"], frechet(features, reference.features))
    shares = prdc(reference.features, features)
    assert_close([found[name] for name in shares._fields], list(shares))
    assert found.spectrum.decibels[-1] < -3  # a blur takes the high frequencies
    told = json.loads(json.dumps(found.as_json()))
    assert told["KID-pooled"] == found["KID-pooled"]
    assert told["KID-pooled error"] == distance.standard_error
    assert list(told["decibels"]) == list(found.spectrum.names)
    for text in ("100 samples beside 561 images, features of pooled", "KID-pooled", "precision", "power per octave"):
        assert text in str(found)


def test_the_data_themselves_are_perfect(dataset, reference):
    found = judge([dataset.images(range(561))], reference)
    assert abs(found["FD-pooled"]) < 1e-9
    assert found["KID-pooled"] < 1e-4
    assert (found["precision"], found["coverage"]) == (1, 1)
    assert found["spectral distance"] < 1e-9
    assert not found.cautions


def test_copies_of_the_data_are_found(dataset, reference):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (40, 3, 16, 16), generator=generator, dtype=torch.uint8)
    samples = torch.cat([noise[:20], dataset.images([7, 300]), noise[20:]])
    found = judge(torch.split(samples, 8), reference, keep=3, neighbours=2)
    assert {row[0] for row in found.twins[:2]} == {7, 300}
    assert_close(found.distances[:2, 0], torch.zeros(2, dtype=torch.float64))
    assert found.distances[2, 0] > 0.1
    for picture, row in zip(found.pictures[:2], found.twins, strict=False):
        assert torch.equal(picture, dataset.images([row[0]])[0])


def test_twins_are_numbered_as_in_the_data(dataset, tmp_path):
    reference = Reference.of(dataset, POOLED, limit=100, home=tmp_path)
    found = judge([dataset.images(range(0, 60, 6))], reference)
    assert [row[0] for row in found.twins] == list(range(0, 60, 6))[: len(found.twins)]


def test_few_samples(dataset, reference):
    found = judge([dataset.images(range(20))], reference)
    assert found.cautions == (
        "Fréchet distance: 20 samples for 48 dimensions are few: it is biased upwards; trust the kernel distance",
    )
    assert "caution: Fréchet" in str(found)
    with pytest.raises(SnriseError, match="samples: got '5 pictures'; allowed: more than 5"):
        judge([dataset.images(range(5))], reference)
