"""Models of diffusers as networks: `network(z, logsnr, labels)` around a `UNet2DModel` or a `DiTTransformer2DModel`.

diffusers is imported when an adapter is constructed.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from snrise._errors import SnriseError, require
from snrise._typing import Images, Labels, LogSnr, PerImage
from snrise.networks.base import check_size

__all__ = ["DiffusersDiT", "DiffusersUNet", "Time", "cosine_time"]

#: λ [b] -> the timestep [b] that a model is told, in the model's own units.
Time: TypeAlias = Callable[[Tensor], Tensor]


def cosine_time(logsnr: LogSnr) -> PerImage:
    """1000·(2/π)·atan(e^(−λ/2)): 1000 times the t at which the plain cosine schedule, −2·log tan(πt/2), is at λ.

    A number for a noise level, whatever schedule the model is trained with: 0 at λ = ∞ and 1000 at −∞.

    >>> cosine_time(torch.tensor([-torch.inf, 0.0, torch.inf]))
    tensor([1000.,  500.,    0.])
    """
    return torch.atan(torch.exp(-logsnr / 2)) * (2000 / math.pi)


class _Adapter(nn.Module):
    """The common part: λ as the model's timestep, and the first c channels of its output."""

    kind: ClassVar[str]
    #: Where in the model the image, the timestep and the class enter, and where the image leaves.
    ends: ClassVar[tuple[str, ...]]

    def __init__(self, model: nn.Module, classes: int | None, time: Time) -> None:
        super().__init__()
        name = type(self).__name__
        try:
            wanted = getattr(importlib.import_module("diffusers"), self.kind)
        except ImportError:
            raise SnriseError(f"{name}: needs diffusers: pip install diffusers") from None
        require(isinstance(model, wanted), f"{name}.model", type(model).__name__, f"diffusers.{self.kind}")
        require(classes is None or classes >= 1, f"{name}.classes", classes, "a whole number above 0, or None")
        self.model, self.classes, self.time = model, classes, time
        config: Any = model.config
        self.channels = int(config.in_channels)
        out = self.channels if config.out_channels is None else config.out_channels
        require(out in (self.channels, 2 * self.channels), f"{name}.model.out_channels", out,
                f"in_channels={self.channels}, or twice that with a learned variance")

    @property
    def edges(self) -> frozenset[str]:
        """Parameters that are not matrices within the network: see `Traits.edges`."""
        return frozenset(name for name, _ in self.named_parameters() if any(f".{end}." in name for end in self.ends))

    def _predict(self, z: Images, logsnr: LogSnr, labels: Tensor | None) -> Images:
        prediction: Tensor = self.model(z, self.time(logsnr), class_labels=labels).sample
        return prediction[:, : self.channels]

    def _labels(self, labels: Labels | None, batch: int, null: int, device: torch.device) -> Tensor:
        """The labels, or the index `null` for all."""
        require(labels is None or self.classes is not None, "network.labels", "labels",
                "None for a network made without classes", f"make it with {type(self).__name__}(model, classes=…)")
        return torch.full((batch,), null, device=device) if labels is None else labels


class DiffusersUNet(_Adapter):
    """A `diffusers.UNet2DModel`: z [b c h w], λ [b], labels [b] -> a prediction [b c h w].

    `labels` are class indices, `classes` being the null class; None is the null class for all. With classes, the model
    needs `num_class_embeds=classes + 1`, the last being the null class. Of an output of 2c channels (learned variance)
    the first c are returned. `time` maps λ to the model's timestep; a model that was trained with another schedule
    wants that schedule's, for instance `time=lambda logsnr: 999 * schedule.inverse(logsnr)`.

    >>> from diffusers import UNet2DModel
    >>> model = UNet2DModel(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
    ...     down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, num_class_embeds=11)
    >>> network = DiffusersUNet(model, classes=10)
    >>> network(torch.zeros(2, 3, 16, 24), torch.zeros(2), torch.tensor([3, 10])).shape
    torch.Size([2, 3, 16, 24])
    """

    kind = "UNet2DModel"
    ends = ("conv_in", "conv_out", "time_embedding", "class_embedding", "time_emb_proj")

    def __init__(self, model: nn.Module, classes: int | None = None, time: Time = cosine_time) -> None:
        super().__init__(model, classes, time)
        config: Any = model.config
        # "fourier" divides the output by the timestep, which may be 0; "learned" looks it up in a table.
        require(config.time_embedding_type == "positional", "DiffusersUNet.model.time_embedding_type",
                config.time_embedding_type, "'positional'")
        require(config.class_embed_type is None, "DiffusersUNet.model.class_embed_type", config.class_embed_type,
                "None", "use num_class_embeds")
        embeds = config.num_class_embeds
        if classes is None:
            require(embeds is None, "DiffusersUNet.model.num_class_embeds", embeds, "None for classes=None",
                    f"pass classes={(embeds or 0) - 1}, or make the model without num_class_embeds")
        else:
            require(embeds == classes + 1, "DiffusersUNet.model.num_class_embeds", embeds,
                    f"classes + 1 = {classes + 1}", f"make the model with num_class_embeds={classes + 1}")
        # Every down block but the last halves the sides.
        self.divisor = 2 ** (len(config.block_out_channels) - 1)

    def forward(self, z: Images, logsnr: LogSnr, labels: Labels | None = None) -> Images:
        check_size(z, self.divisor, self.channels)
        told = self._labels(labels, z.shape[0], self.classes or 0, z.device)
        return self._predict(z, logsnr, None if self.classes is None else told)


class DiffusersDiT(_Adapter):
    """A `diffusers.DiTTransformer2DModel`: z [b c h h], λ [b], labels [b] -> a prediction [b c h h].

    `labels` are class indices, `classes` being the null class; None is the null class for all. The model needs
    `num_embeds_ada_norm=classes`: its table has one entry more, and that index is its null class too. Without classes
    the model is always told its null class. Its own dropping of labels, which acts in training mode in every block
    apart, is switched off (`dropout_prob` of its label embeddings becomes 0, in the model that is given): labels are
    dropped by the training loop. Images are square, of any multiple of the patch size: the position embedding is
    computed for the size. Of an output of 2c channels (learned variance) the first c are returned. `time` maps λ to
    the model's timestep, as in `DiffusersUNet`.

    >>> from diffusers import DiTTransformer2DModel
    >>> model = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=3, num_layers=1,
    ...     sample_size=16, patch_size=4, num_embeds_ada_norm=10)
    >>> DiffusersDiT(model, classes=10)(torch.zeros(2, 3, 16, 16), torch.zeros(2), torch.tensor([3, 10])).shape
    torch.Size([2, 3, 16, 16])
    """

    kind = "DiTTransformer2DModel"
    ends = ("pos_embed", "norm1", "proj_out_1", "proj_out_2")

    def __init__(self, model: nn.Module, classes: int | None = None, time: Time = cosine_time) -> None:
        super().__init__(model, classes, time)
        config: Any = model.config
        embeds = config.num_embeds_ada_norm
        require(classes in (None, embeds), "DiffusersDiT.model.num_embeds_ada_norm", embeds, f"classes = {classes}",
                f"make the model with num_embeds_ada_norm={classes} (it adds the null class), or pass classes={embeds}")
        self.null, self.divisor = int(embeds), int(config.patch_size)
        blocks: Any = model.transformer_blocks
        for block in blocks:
            block.norm1.emb.class_embedder.dropout_prob = 0.0

    def forward(self, z: Images, logsnr: LogSnr, labels: Labels | None = None) -> Images:
        check_size(z, self.divisor, self.channels)
        h, w = z.shape[2:]
        # The model puts its tokens back into a square, whatever rectangle they came from.
        require(h == w, "network.image", f"{h}x{w}", "square images (DiTTransformer2DModel)", "use DiffusersUNet")
        return self._predict(z, logsnr, self._labels(labels, z.shape[0], self.null, z.device))
