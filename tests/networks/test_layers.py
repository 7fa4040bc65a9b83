import pytest
import torch
from torch.testing import assert_close

from snrise.networks.embeddings import ClassEmbedding, Conditioning, LogSnrEmbedding
from snrise.networks.layers import (
    ConvBlock,
    Down,
    Film,
    TransformerBlock,
    Up,
    from_tokens,
    group_norm,
    to_tokens,
)
from snrise.networks.stems import PatchStem, factor_for
from tiny import perturbed


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("head", [None, 8])
def test_conv_block_begins_as_the_identity(head):
    block = ConvBlock(16, 32, dropout=0.3, head=head)
    h, emb = random(2, 16, 6, 5), random(2, 32)
    assert torch.equal(block(h, emb), h)
    assert not torch.allclose(perturbed(block)(h, emb), h)


def test_transformer_block_begins_as_the_identity():
    block = TransformerBlock(16, 32, dropout=0.3, head=8)
    h, emb = random(2, 30, 16), random(2, 32)
    assert torch.equal(block(h, emb, (6, 5)), h)
    assert not torch.allclose(perturbed(block)(h, emb, (6, 5)), h)


def test_blocks_are_told_the_noise_level():
    conv, former = perturbed(ConvBlock(16, 32, 0.0)), perturbed(TransformerBlock(16, 32, 0.0, head=8))
    for block, arguments in ((conv, (random(1, 16, 4, 4),)), (former, (random(1, 16, 16),))):
        size = ((4, 4),) if block is former else ()
        a, b = (block(*arguments, random(1, 32, seed=seed), *size) for seed in (1, 2))
        assert not torch.allclose(a, b)


def test_dropout_is_for_training_only():
    block = perturbed(ConvBlock(16, 32, dropout=0.5))
    h, emb = random(1, 16, 4, 4), random(1, 32)
    assert not torch.equal(block(h, emb), block(h, emb))
    block.eval()
    assert torch.equal(block(h, emb), block(h, emb))


def test_film_is_the_identity_at_first_and_per_channel_later():
    film = Film(32, 16)
    scale, shift = film(random(2, 32))
    assert torch.equal(scale, torch.ones(2, 16))
    assert torch.equal(shift, torch.zeros(2, 16))


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (16, 1), (32, 2), (48, 2), (64, 4), (512, 32), (1024, 32)])
def test_groups_of_a_group_norm(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_down_averages_and_up_repeats():
    down, up = Down(3, 3), Up(3, 3)
    for layer in (down, up):
        with torch.no_grad():
            layer.project.weight.copy_(torch.eye(3)[:, :, None, None])
            layer.project.bias.zero_()
    h = random(1, 3, 4, 6)
    assert_close(down(h), h.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)))
    assert_close(up(h), h.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_tokens_and_back_without_a_copy():
    h = random(2, 8, 3, 5).to(memory_format=torch.channels_last)
    tokens = to_tokens(h)
    assert torch.equal(tokens[1, 1 * 5 + 2], h[1, :, 1, 2])
    assert tokens.data_ptr() == h.data_ptr()
    assert torch.equal(from_tokens(tokens, (3, 5)), h)


@pytest.mark.parametrize(("image", "factor"), [
    ((16, 16), 1), ((32, 32), 1), ((33, 64), 2), ((64, 64), 2), ((256, 384), 8), ((512, 512), 16), ((96, 300), 4),
])
def test_the_factor_of_a_stem(image, factor):
    assert factor_for(image) == factor
    assert factor_for(image[::-1]) == factor


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_cell_of_the_stem_sees_its_own_pixels(factor):
    stem = perturbed(PatchStem(3, 16, factor))
    a = random(1, 3, 32, 32)
    b = a.clone()
    b[..., 16:, :] += 1
    assert stem.down(a).shape == (1, 16, 32 // factor, 32 // factor)
    changed = (stem.down(a) != stem.down(b)).any(dim=1)[0].any(dim=1)
    edge = 16 // factor - (factor == 1)
    assert changed.tolist() == [row >= edge for row in range(32 // factor)]
    assert stem.up(random(1, 16, 32 // factor, 32 // factor)).shape == (1, 3, 32, 32)


def test_noise_levels_are_told_apart_over_the_whole_range():
    embedding = LogSnrEmbedding(32)
    levels = torch.arange(-30.0, 30.25, 0.25)
    phase = levels[:, None] * embedding.frequencies
    vectors = torch.cat([phase.cos(), phase.sin()], dim=1)
    distance = torch.cdist(vectors, vectors) + 100 * torch.eye(len(levels))
    assert distance.min() > 0.5


@pytest.mark.parametrize(("infinite", "limit"), [(torch.inf, 30.0), (-torch.inf, -30.0)])
def test_an_infinite_noise_level_is_the_limit(infinite, limit):
    embedding = LogSnrEmbedding(32)
    assert torch.equal(embedding(torch.tensor([infinite])), embedding(torch.tensor([limit])))
    assert not torch.allclose(embedding(torch.tensor([limit])), embedding(torch.tensor([0.9 * limit])))


def test_the_null_class_begins_at_zero_and_no_other_does():
    embedding = ClassEmbedding(5, 32)
    assert torch.equal(embedding(None, 3), torch.zeros(3, 32))
    assert (embedding(torch.arange(5), 5).norm(dim=1) > 0.5).all()


def test_conditioning_does_not_depend_on_the_precision_of_the_noise_level():
    conditioning = Conditioning(32, None)
    logsnr = torch.tensor([-3.0, 0.5])
    assert_close(conditioning(logsnr.double(), None), conditioning(logsnr, None))
