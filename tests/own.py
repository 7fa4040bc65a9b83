"""Data and networks as users bring their own: nothing of these is snrise's."""

import os

import torch
from torch import nn

import snrise
from snrise.config import Log, Sampling
from snrise.networks.adapters import DiffusersUNet
from snrise.precision import Precision
from snrise.training import latest
from tiny import scramble

QUIET = Log(every=16, samples=10**9, grid=4, tensorboard=False)


class Mine(nn.Module):
    """A network that snrise knows nothing of."""

    classes = 2

    def __init__(self, width=8):
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.told = nn.Linear(1, width)
        self.label = nn.Embedding(3, width)
        self.drop = nn.Dropout(0.2)
        self.leave = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z, logsnr, labels=None):
        labels = torch.full((len(z),), 2, device=z.device) if labels is None else labels
        h = self.enter(z) + (self.told(logsnr[:, None] / 10) + self.label(labels))[:, :, None, None]
        return self.leave(self.drop(torch.relu(h)))


def unet():
    """A U-Net of diffusers', through the adapter."""
    from diffusers import UNet2DModel

    model = UNet2DModel(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, num_class_embeds=3,
                        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    return DiffusersUNet(model, classes=2)


NETWORKS = {"own": Mine, "diffusers": unet}


class Pictures:
    """Dark and bright noise, 8 × 16 px."""

    classes = ("dark", "bright")

    def __init__(self, count=40):
        self.count = count
        self.targets = [i % 4 == 0 for i in range(count)]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        grey = torch.randint(0, 128, (3, 8, 16), generator=generator, dtype=torch.uint8)
        return grey + 127 * self.targets[index], self.targets[index]


def made(kind, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[kind]()


def experiment(network, data=None, **changes):
    settings = {"images": 96, "batch": 8, "warmup": 16, "ema_half_life": 20, "log": QUIET,
                "sampling": Sampling(steps=2), "precision": Precision.FP32}
    return snrise.Experiment(data=Pictures() if data is None else data, network=network, **settings | changes)


def train_apart(kind, folder, images, checkpoint):
    """Train in a process of its own; one that resumes starts with other weights and other global random states."""
    torch.set_num_threads(1)
    seed = 0 if latest(folder / "checkpoints") is None else os.getpid()
    scramble(seed)
    log = Log(every=72, samples=10**9, grid=4, checkpoint=checkpoint, tensorboard=False)
    # Wide averages, or what is lost in a kill would be forgotten by the end.
    wide = {"averages": (0.1, 0.25), "ema_half_life": 5000}
    trained = experiment(made(kind, seed), images=images, log=log, **wide)
    with snrise.Run(trained, folder, tell=lambda line: None) as run:
        for _ in run:
            pass
        run.save()
