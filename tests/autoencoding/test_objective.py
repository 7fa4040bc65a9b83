"""The parts of the objective, against values computed by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from coded import config
from snrise._errors import SnriseError
from snrise.autoencoding.objective import (
    LEAST,
    MOST,
    Objective,
    Reduction,
    adaptive_weight,
    critic_loss,
    generator_loss,
    negative_log_likelihood,
    reconstruction,
)
from snrise.codecs.regularisation import kl_divergence, quantized


def test_reconstruction_adds_the_distance_of_its_image_to_each_difference():
    x = torch.tensor([1.0, -2.0, 0.5, 0.0]).view(2, 1, 1, 2)
    distance = torch.tensor([0.1, 0.2])
    found = reconstruction(x, torch.zeros_like(x), lambda given, target: distance, 3.0)
    assert_close(found.flatten(), torch.tensor([1.3, 2.3, 1.1, 0.6]))
    assert_close(reconstruction(x, torch.zeros_like(x), None, 3.0), x.abs())


def test_the_likelihood_is_summed_over_values_per_image_or_their_mean():
    r, s = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(2, 1, 1, 2), torch.tensor(math.log(2.0))
    assert_close(negative_log_likelihood(r, s, Reduction.SUM), torch.tensor(12 / 2 / 2 + 2 * math.log(2)))
    assert_close(negative_log_likelihood(r, s, Reduction.MEAN), torch.tensor(3 / 2 + math.log(2)))


def test_the_likelihood_is_least_where_the_variance_is_the_error():
    r, s = torch.full((1, 3, 4, 4), 0.25), torch.tensor(math.log(0.25), requires_grad=True)
    negative_log_likelihood(r, s, Reduction.SUM).backward()
    assert_close(s.grad, torch.tensor(0.0))


@given(st.floats(-2, 2), st.floats(-3, 2))
def test_the_divergence_is_that_of_torch(mean, logvar):
    shape = 3, 2, 4, 5
    ours = kl_divergence(torch.full(shape, mean), torch.full(shape, logvar))
    normal = torch.distributions.Normal
    one = torch.distributions.kl_divergence(normal(mean, math.exp(logvar / 2)), normal(0.0, 1.0))
    assert_close(ours, torch.as_tensor(one) * 2 * 4 * 5, rtol=1e-4, atol=1e-4)


def test_the_divergence_is_summed_over_a_code_and_averaged_over_images():
    mean = torch.tensor([1.0, 2.0, 0.0, 3.0]).view(2, 1, 1, 2)
    assert_close(kl_divergence(mean, torch.zeros_like(mean)), torch.tensor(0.5 * (1 + 4 + 0 + 9) / 2))


def test_the_nearest_vectors_pass_gradients_straight_through():
    codes = torch.tensor([[0.9, 0.1], [0.2, 0.7]]).view(2, 2, 1, 1).requires_grad_()
    book = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]], requires_grad=True)
    nearest, codebook, commitment, numbers = quantized(codes, book)
    assert numbers.flatten().tolist() == [0, 1]
    assert_close(nearest.flatten(1), torch.eye(2))
    weighted = (nearest * torch.tensor([3.0, -2.0]).view(2, 1, 1)).sum()
    (upstream,) = torch.autograd.grad(weighted, codes, retain_graph=True)
    assert_close(upstream.flatten(1), torch.tensor([[3.0, -2.0], [3.0, -2.0]]))
    # means over four values: of 0.1², 0.1², 0.2² and 0.3²
    assert_close(codebook, torch.tensor(0.15 / 4))
    assert_close(commitment, torch.tensor(0.15 / 4))
    (moves,) = torch.autograd.grad(codebook, book, retain_graph=True)
    assert_close(moves, torch.tensor([[0.1, -0.1], [-0.2, 0.3], [0.0, 0.0]]) * 2 / 4)
    (draws,) = torch.autograd.grad(commitment, codes)
    assert_close(draws.flatten(1), torch.tensor([[-0.1, 0.1], [0.2, -0.3]]) * 2 / 4)


def test_the_nearest_vectors_are_those_of_diffusers():
    vae = pytest.importorskip("diffusers.models.autoencoders.vae")
    theirs = vae.VectorQuantizer(16, 3, beta=0.25, legacy=False)
    codes = torch.randn(2, 3, 4, 5) / 16
    nearest, codebook, commitment, numbers = quantized(codes, theirs.embedding.weight)
    expected, loss, (_, _, indices) = theirs(codes)
    assert_close(nearest, expected)
    assert numbers.flatten().tolist() == indices.tolist()
    assert_close(codebook + 0.25 * commitment, loss)


def test_the_hinges_of_the_critic():
    real, fake = torch.tensor([2.0, 0.5, -1.0, 1.0]), torch.tensor([-2.0, -0.5, 1.0, -1.0])
    # real: 0, 0.5, 2, 0; reconstructions: 0, 0.5, 2, 0
    assert_close(critic_loss(real, fake), torch.tensor(0.5 * (2.5 / 4 + 2.5 / 4)))
    assert_close(generator_loss(fake), torch.tensor(2.5 / 4))


def test_the_adaptive_weight_makes_both_gradients_alike():
    likelihood, generator = torch.tensor([3.0, 4.0]), torch.tensor([0.6, 0.8])
    assert_close(adaptive_weight(likelihood, generator), torch.tensor(5 / (1 + LEAST)))
    assert_close(adaptive_weight(likelihood, torch.zeros(2)), torch.tensor(MOST))
    assert_close(adaptive_weight(torch.zeros(2), generator), torch.tensor(0.0))
    assert not adaptive_weight(likelihood.requires_grad_(), generator).requires_grad


def test_what_is_not_said_is_as_the_source_has_it():
    kl, vq = config().terms, config("autoencoder.kind=vq").terms
    assert (kl.reduction, kl.adversarial, kl.critic_start) == (Reduction.SUM, 0.5, 16)
    assert (vq.reduction, vq.adversarial) == (Reduction.MEAN, 0.75)
    own = config("objective.reduction=mean", "objective.adversarial=0.1", "objective.critic_start=null").terms
    assert (own.reduction, own.adversarial, own.critic_start) == (Reduction.MEAN, 0.1, 24)


@pytest.mark.parametrize(("settings", "message"), [
    ({"adversarial": -1.0}, r"^adversarial: got -1.0; allowed: a number, 0 or more"),
    ({"perceptual_weight": -1.0}, r"^perceptual_weight: got -1.0"),
    ({"critic_start": -1}, r"^critic_start: got -1"),
    ({"critic_channels": 0}, r"^critic_channels: got 0; allowed: a whole number above 0"),
])
def test_weights_out_of_range(settings, message):
    with pytest.raises(SnriseError, match=message):
        Objective(**settings)
