"""Trained networks as a model and a pipeline of diffusers.

`standalone` makes of this file those that an exported model brings along: all that it imports from snrise is gathered
there, so that it is the same code with snrise as without.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ImagePipelineOutput, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from PIL import Image
from torch import Tensor

from snrise._errors import require
from snrise.codecs.given import Given
from snrise.experiment import linked
from snrise.generation import Generation, labels_for, states
from snrise.interop.described import GENERATION, rebuilt
from snrise.samplers import last

__all__ = ["SnriseModel", "SnrisePipeline"]


class SnriseModel(ModelMixin, ConfigMixin):
    """A network of snrise: z [b c h w], λ [b] and class numbers [b] or None -> its prediction.

    Args:
        settings: those of the network, as `described`.
        target: what it predicts, and the process, as `described`.
        classes: the number of classes; None for a network without.
    """

    @register_to_config
    def __init__(self, settings: dict[str, Any], target: dict[str, Any], classes: int | None = None) -> None:
        super().__init__()
        self.network = linked(rebuilt(settings).build(classes), rebuilt(target))

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> "SnriseModel":
        """As of any model of diffusers; made with its weights at once, for some of its constants are no weights."""
        found: SnriseModel = super().from_pretrained(*args, **(kwargs | {"low_cpu_mem_usage": False}))
        return found

    def forward(
        self, sample: Tensor, logsnr: Tensor, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> Any:
        """The prediction, as `UNet2DOutput` or in a tuple."""
        found = self.network(sample, logsnr, class_labels)
        return UNet2DOutput(sample=found) if return_dict else (found,)


class SnrisePipeline(DiffusionPipeline):
    """Images from noise: those of `snrise sample`, image for image.

    Args:
        unet: the network.
        settings: as `described`: target, schedule, size, codec, sampling, precision; and the names and frequencies of
            the classes.
        vae: the autoencoder of a network on codes.
    """

    _optional_components = ("vae",)
    unet: SnriseModel

    def __init__(self, unet: Any, settings: dict[str, Any] | None = None, vae: Any = None) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae)
        self.register_to_config(settings=settings)

    @property
    def classes(self) -> list[str]:
        """The names of the classes; empty without."""
        return list(self.config.settings["classes"] or ())

    @torch.no_grad()
    def __call__(
        self, num_images: int = 1, *, classes: Sequence[str] = (), seed: int = 0, first: int = 0,
        guidance_scale: float | None = None, num_inference_steps: int | None = None, latents: Tensor | None = None,
        batch_size: int = 64, output_type: str = "pil", return_dict: bool = True,
    ) -> Any:
        """Images number `first` … `first + num_images − 1` of a seed.

        Args:
            num_images: the number of images.
            classes: names that the images cycle through; without any, drawn in the data's proportions.
            seed: image i depends on the seed, i and its class only.
            first: the number of the first image.
            guidance_scale: 1 is none; by default that of the settings.
            num_inference_steps: by default those of the settings.
            latents: the noise to begin with, [num_images c h w], instead of the seed's.
            batch_size: images at a time.
            output_type: `pil`, `np` (float32 [k h w 3] in 0…1) or `pt` (uint8 [k 3 h w]).
            return_dict: whether `ImagePipelineOutput` is returned, or a tuple.

        Raises:
            SnriseError: for an unknown class or kind of output, or noise of another shape.
        """
        require(output_type in ("pil", "np", "pt"), "output_type", output_type, "pil, np or pt")
        generation = self._generation(guidance_scale, num_inference_steps)
        told = (self.config.settings[name] for name in ("classes", "frequencies"))
        labels, made = labels_for(range(first, first + num_images), seed, classes, *told), []
        shape = (num_images, *generation.codec.shape(generation.whole_size))
        good = latents is None or tuple(latents.shape) == shape
        require(good, "latents", None if latents is None else tuple(latents.shape), f"noise of {shape}")
        with self.progress_bar(total=num_images) as bar:
            for begin in range(0, num_images, batch_size):
                end = min(begin + batch_size, num_images)
                own = None if labels is None else labels[begin:end]
                noise = None if latents is None else latents[begin:end]
                walk = states(generation, generation.denoiser(own), first + begin, end - begin, seed, noise)
                made.append(generation.codec.decode(last(walk).float()).cpu())
                bar.update(end - begin)
        pictures = torch.cat(made)
        images = _as(pictures, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """The pipeline in a folder of `snrise export --format diffusers`, or at the Hub: by snrise's own code.

        Of the arguments of diffusers, those of a model are taken, such as `torch_dtype`, `revision` and `token`.
        """
        place = pretrained_model_name_or_path
        index, vae = cls.load_config(place, **_of_hub(kwargs)), None
        if "vae" in index:
            kind = getattr(diffusers, index["vae"][1])
            vae = kind.from_pretrained(place, subfolder="vae", **(kwargs | {"low_cpu_mem_usage": False}))
        network = SnriseModel.from_pretrained(place, subfolder="unet", **kwargs)
        return cls(network, index["settings"], vae)

    def _generation(self, guidance: float | None, steps: int | None) -> Generation:
        settings = {name: rebuilt(self.config.settings[name]) for name in GENERATION}
        own, codes = settings["sampling"], self.config.settings.get("codes")
        if codes is not None:
            network = self.vae.float().eval()  # in float16 some of these classes overflow
            settings["codec"] = Given(network=network, **{name: rebuilt(value) for name, value in codes.items()})
        sampling = replace(
            own, guidance=own.guidance if guidance is None else guidance, steps=own.steps if steps is None else steps
        )
        return Generation(network=self.unet.network, **(settings | {"sampling": sampling}))


#: Arguments that say where at the Hub a file is.
HUB = ("revision", "cache_dir", "token", "local_files_only", "force_download", "proxies")


def _of_hub(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name in HUB}


def _as(pictures: Tensor, kind: str) -> Any:
    """uint8 [k 3 h w] as asked for."""
    if kind == "pt":
        return pictures
    arrays = pictures.permute(0, 2, 3, 1).numpy()
    if kind == "np":
        return arrays.astype(np.float32) / 255
    return [Image.fromarray(array) for array in arrays]
