"""Conditioning on the noise level λ and a class."""

import math

import torch
from torch import Tensor, nn

from snrise._errors import require
from snrise._typing import Labels, LogSnr

#: λ beyond which two noise levels look the same in float32 images; ±∞ is told as this.
LOGSNR_LIMIT = 30.0


class LogSnrEmbedding(nn.Module):
    """Sines and cosines of λ at geometric frequencies, then a two-layer MLP: [b] -> [b width]."""

    frequencies: Tensor

    def __init__(self, width: int, features: int = 128) -> None:
        super().__init__()
        # Periods from 80 (all of [-30, 30] in less than one turn) down to 1.5.
        frequencies = torch.exp(torch.linspace(math.log(2 * math.pi / 80), math.log(2 * math.pi / 1.5), features // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, logsnr: LogSnr) -> Tensor:
        phase = logsnr.float().clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)[:, None] * self.frequencies
        out: Tensor = self.mlp(torch.cat([phase.cos(), phase.sin()], dim=1))
        return out


class ClassEmbedding(nn.Module):
    """A vector a class; index `classes` is the null class (no label), which starts at zero: [b] -> [b width]."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.5)
        with torch.no_grad():
            self.table.weight[classes].zero_()

    def forward(self, labels: Labels | None, batch: int) -> Tensor:
        if labels is None:
            labels = torch.full((batch,), self.classes, device=self.table.weight.device)
        out: Tensor = self.table(labels)
        return out


class Conditioning(nn.Module):
    """λ and an optional class -> one vector an image, already through the activation: [b width]."""

    def __init__(self, width: int, classes: int | None) -> None:
        super().__init__()
        self.logsnr = LogSnrEmbedding(width)
        self.label = None if classes is None else ClassEmbedding(classes, width)

    def forward(self, logsnr: LogSnr, labels: Labels | None) -> Tensor:
        emb: Tensor = self.logsnr(logsnr)
        if self.label is not None:
            emb = emb + self.label(labels, emb.shape[0])
        else:
            require(labels is None, "network.labels", "labels", "None for a network built without classes",
                    "build it with classes=…")
        return nn.functional.silu(emb)
