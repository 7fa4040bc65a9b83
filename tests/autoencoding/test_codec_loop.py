"""A step of autoencoder and critic: its gradients are those of the objective, written out."""

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from coded import config
from snrise._errors import SnriseError
from snrise.autoencoding.critic import Critic
from snrise.autoencoding.loop import Judge, _gradient, begun, cropped, reconstructed, train
from snrise.data import Batch, as_float
from snrise.experiment import opened
from snrise.training.randomness import noise

CPU = torch.device("cpu")


def batches(settings, position=0):
    return opened(settings.data).batches(settings.training.batch, seed=settings.seed, position=position)


def gradients(settings, state, batch):
    parts = _gradient(state, batch, Judge.of(settings, CPU))
    found = {name: p.grad for name, p in state.network.named_parameters()}
    state.optimizer.zero_grad(set_to_none=True)
    return parts, found


def written_out(settings, state, batch):
    """Gradients of the whole objective, each part by its formula, without sharing anything."""
    network, terms, distance = state.network, settings.terms, Judge.of(settings, CPU).distance
    x = as_float(batch.images)
    encoded = network.autoencoder.encode(x)
    if hasattr(encoded, "latent_dist"):
        told = encoded.latent_dist
        eps = noise(settings.seed, batch.position, tuple(told.mean.shape), CPU)
        given = network.autoencoder.decode(told.mean + (0.5 * told.logvar).exp() * eps).sample
        regular = settings.autoencoder.divergence * 0.5 * (
            told.mean**2 + told.logvar.exp() - 1 - told.logvar
        ).sum(dim=(1, 2, 3)).mean()
    elif hasattr(encoded, "latent"):
        given, regular = network.autoencoder.decode(encoded.latent).sample, torch.zeros(())
    else:
        network.autoencoder.quantize.legacy, network.autoencoder.quantize.beta = False, 0.25
        decoded = network.autoencoder.decode(encoded.latents)
        given, regular = decoded.sample, decoded.commit_loss
    errors = (x - given).abs()
    if distance is not None:
        errors = errors + settings.objective.perceptual_weight * distance(given, x)[:, None, None, None]
    values = errors / network.logvar.exp() + network.logvar
    likelihood = values.sum() / len(x) if terms.reduction == "sum" else values.mean()
    total = likelihood + regular
    if network.critic is not None and state.images_seen >= terms.critic_start:
        generator = -network.critic(given).mean()
        last = dict(network.autoencoder.decoder.named_parameters())
        last = last.get("conv_out.weight", last.get("conv_out.conv.weight"))
        a, b = (torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (likelihood, generator))
        total = total + terms.adversarial * (a / (b + 1e-4)).clamp(max=1e4).detach() * generator
    ours = [p for name, p in network.named_parameters() if not name.startswith("critic") and p.requires_grad]
    found = dict(zip(map(id, ours), torch.autograd.grad(total, ours, retain_graph=True), strict=True))
    if network.critic is not None and state.images_seen >= terms.critic_start:
        real, fake = network.critic(x), network.critic(given.detach())
        own = 0.5 * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())
        theirs = list(network.critic.parameters())
        found |= dict(zip(map(id, theirs), torch.autograd.grad(own, theirs), strict=True))
    return {name: found.get(id(p)) for name, p in network.named_parameters()}, (likelihood + regular).item()


@pytest.mark.parametrize("overrides", [
    ("objective.critic_start=16",),
    ("objective.critic_start=0",),
    ("objective.critic_start=0", "objective.perceptual=stlpips-alex", "objective.perceptual_weight=2"),
    ("objective.critic_start=0", "autoencoder.kind=vq", "autoencoder.book=8"),
    ("objective.critic_start=0", "autoencoder.kind=dc"),
    ("objective.critic_start=0", "autoencoder.kind=dc", "autoencoder.full=1", "autoencoder.attention=true"),
    ("objective.adversarial=0", "objective.learn_logvar=true", "objective.logvar=0.5"),
], ids=["before the critic", "with it", "perceptual", "vq", "dc", "dc at full resolution", "logvar"])
def test_gradients_are_those_of_the_objective_written_out(overrides):
    settings = config(*overrides)
    state, batch = begun(settings, CPU), next(batches(settings, 4))  # noise belongs to the number of an image
    state.network.train()
    parts, found = gradients(settings, state, batch)
    expected, loss = written_out(settings, state, batch)
    assert parts["loss"] == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] is None) == (gradient is None), name
        if gradient is not None:
            assert_close(found[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-9, msg=name)
    heard = settings.terms.critic_start == 0 and settings.terms.adversarial > 0
    assert ("critic_weight" in parts) == heard
    assert (found["logvar"] is not None) == settings.objective.learn_logvar


def test_logvar_is_not_trained_unless_asked():
    settings = config()
    state = begun(settings, CPU)
    trained = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    assert id(state.network.logvar) not in trained
    learnt = begun(config("objective.learn_logvar=true"), CPU)
    assert any(p is learnt.network.logvar for group in learnt.optimizer.param_groups for p in group["params"])


@pytest.mark.parametrize("kind", ["kl", "vq", "dc"])
def test_muon_moves_the_kernels_within_the_autoencoder(kind):
    state = begun(config("training.optimizer=muon", f"autoencoder.kind={kind}"), CPU)
    moved = {id(p) for group in state.optimizer.param_groups for p in group["params"] if group.get("muon")}
    for name, p in state.network.named_parameters():
        edge = any(part in name for part in ("critic", "conv_in", "conv_out", "quant"))
        assert (id(p) in moved) == (p.ndim >= 2 and not edge), name
    assert len(moved) >= 4


def test_layers_within_that_are_called_as_edges_are_moved_by_muon():
    state = begun(config("training.optimizer=muon", "autoencoder.kind=dc", "autoencoder.attention=true"), CPU)
    moved = {id(p) for group in state.optimizer.param_groups for p in group["params"] if group.get("muon")}
    inner = [(name, p) for name, p in state.network.named_parameters() if ".conv_out.conv_inverted.weight" in name]
    assert len(inner) == 3  # one block of the encoder, two of the decoder
    assert [name for name, p in inner if id(p) not in moved] == []


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_critic_has_a_multiple_of_the_learning_rate(optimizer):
    state = begun(config(f"training.optimizer={optimizer}", "training.critic_rate=0.25"), CPU)
    state.set_rate(0.1)
    rates = {id(p): group["lr"] for group in state.optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in state.network.critic.parameters()} == {0.1 * 0.25}
    trained = [p for name, p in state.network.named_parameters() if p.requires_grad and not name.startswith("critic")]
    assert {rates[id(p)] for p in trained} == ({0.1} if optimizer == "adamw" else {0.1, 2.0})
    assert sum(len(group["params"]) for group in state.optimizer.param_groups) == len(rates)


def test_training_lowers_the_error():
    settings = config("training.images=400", "objective.adversarial=0", "training.batch=8")
    reports = list(train(begun(settings, CPU), batches(settings), Judge.of(settings, CPU), images=400))
    first, last = reports[0].parts["l1"], sum(report.parts["l1"] for report in reports[-5:]) / 5
    assert last < 0.7 * first


@pytest.mark.slow
def test_the_critic_learns_to_tell_reconstructions_from_images():
    settings = config("training.images=320", "objective.critic_start=0", "objective.adversarial=1e-6")
    reports = list(train(begun(settings, CPU), batches(settings), Judge.of(settings, CPU), images=320))
    apart = [report.parts["real"] - report.parts["fake"] for report in reports]
    assert sum(apart[-5:]) / 5 > 0.5 + sum(apart[:2]) / 2


def test_codes_and_crops_belong_to_the_number_of_an_image():
    settings = config("training.crop=24", "training.batch=8")
    whole = next(batches(settings))
    half = whole._replace(images=whole.images[4:], indices=whole.indices[4:], position=4)
    assert cropped(whole, settings).shape == (8, 3, 24, 24)
    assert torch.equal(cropped(whole, settings)[4:], cropped(half, settings))
    again = next(itertools.islice(batches(settings), 50, 51))
    for position in (8, 16):
        assert not torch.equal(cropped(again._replace(position=position), settings), cropped(again, settings))


def test_crops_are_parts_of_their_images():
    settings = config("training.crop=30")
    images = torch.arange(32 * 32).remainder(256).view(1, 1, 32, 32).expand(64, 3, -1, -1).to(torch.uint8)
    found = cropped(Batch(images, None, [*range(64)], 0), settings)
    places = {tuple(torch.nonzero(images[0, 0] == crop[0, 0, 0])[0].tolist()) for crop in found}
    assert {top for top, _ in places} == {left for _, left in places} == {0, 1, 2}


def test_a_step_that_is_not_finite_leaves_everything_as_it_was():
    settings = config("objective.critic_start=0")
    state, stream = begun(settings, CPU), batches(settings)
    broken = next(stream)
    broken = broken._replace(images=torch.full_like(as_float(broken.images), torch.nan))
    before = {name: p.clone() for name, p in state.network.named_parameters()}
    first, second = itertools.islice(train(state, [broken, next(stream)], Judge.of(settings, CPU)), 2)
    assert first.fault == "kl of the objective"
    assert (first.batch, first.step, first.images_seen, first.position) == (0, 0, 0, 4)
    assert (second.fault, second.step, second.images_seen, second.position) == (None, 1, 4, 8)
    assert any(not torch.equal(p, before[name]) for name, p in state.network.named_parameters())
    assert all(t.isfinite().all() for t in state.network.state_dict().values())


def test_batches_have_to_start_where_the_state_is():
    settings = config()
    with pytest.raises(SnriseError, match=r"^train\.batches: got 'a batch from image 8'; allowed: the batch from"):
        next(train(begun(settings, CPU), batches(settings, 8), Judge.of(settings, CPU)))


def test_the_weights_depend_on_the_seed_alone():
    torch.manual_seed(3)
    first = begun(config(), CPU).network.state_dict()
    torch.manual_seed(4)
    again, other = begun(config(), CPU).network.state_dict(), begun(config("seed=1"), CPU).network.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["autoencoder.encoder.conv_in.weight"], other["autoencoder.encoder.conv_in.weight"])


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_reconstructions_have_no_noise(kind):
    autoencoder, x = config(f"autoencoder.kind={kind}").autoencoder.build().eval(), torch.rand(2, 3, 32, 48) * 2 - 1
    assert torch.equal(reconstructed(autoencoder, x), reconstructed(autoencoder, x))
    assert reconstructed(autoencoder, x).shape == x.shape


def test_a_patch_of_the_critic_is_of_70_pixels():
    critic = Critic(channels=4).eval()
    for module in critic.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    x = torch.rand(1, 3, 128, 128).requires_grad_()
    logits = critic(x)
    assert logits.shape == (1, 1, 14, 14)
    (gradient,) = torch.autograd.grad(logits[0, 0, 7, 7], x)
    rows, columns = torch.nonzero(gradient.abs().sum(dim=(0, 1)), as_tuple=True)
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == 70


def test_images_too_small_for_the_perceptual_network():
    settings = config("objective.perceptual=stlpips-alex", "training.crop=24")
    with pytest.raises(SnriseError, match=r"^config\.training\.crop: got \[24, 24\]; allowed: sides of 32 pixels"):
        Judge.of(settings, CPU)
