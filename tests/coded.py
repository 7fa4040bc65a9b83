"""Autoencoders small enough to train in a test."""

import tiny
from snrise.autoencoding import parse
from snrise.documents import document_of, override

#: A run of 32 px to codes of 16 px.
DOCUMENT = """
name: tiny-codec
data: {source: emoji, resolution: [32, 32], only: [activities], flip: true}
autoencoder: {kind: kl, channels: 2, width: 4, multipliers: [1, 2], blocks: 1, attention: false}
objective: {perceptual: null, critic_start: 16, critic_channels: 4}
training: {images: 48, batch: 4, warmup: 8, ema_half_life: 8, precision: fp32, learning_rate: 1e-3}
log: {every: 8, samples: 1000, grid: 4, checkpoint: 1000, tensorboard: false}
"""


#: Of a run on pixels or codes, as few images.
FEW = ("data.resolution=[32, 32]", "data.only=[activities]")


def document(*overrides):
    made = document_of(DOCUMENT, "coded")
    for assignment in overrides:
        override(made, assignment)
    return made


def config(*overrides):
    return parse(document(*overrides))


def saved(folder, *overrides):
    """A folder in diffusers' format with an autoencoder of random weights."""
    config(*overrides).autoencoder.build().save_pretrained(folder)
    return folder


def latent(codec, *overrides):
    """The settings of a run of 32 px on the codes of a folder, 16 px and 2 channels; not measured yet."""
    return tiny.config(*FEW, f"codec={{kind: diffusers, path: {codec}}}", *overrides)
