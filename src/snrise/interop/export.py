"""A trained network as a folder in diffusers' format, which is sampled from without snrise."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from snrise._errors import SnriseError, require
from snrise._typing import type_name
from snrise.codecs import Autoencoder, Codec, copy_autoencoder
from snrise.codecs.architectures import diffusers_class
from snrise.interop.described import GENERATION, described, types_in
from snrise.interop.standalone import Name, standalone
from snrise.networks import External
from snrise.trained import Trained

__all__ = ["export_pipeline"]

MODEL, PIPELINE = "modeling_snrise", "pipeline"
#: diffusers asks for the types of a pipeline's arguments, and cannot read them as text.
SIGNATURE = "SnrisePipeline.__init__.__annotations__.update(unet=torch.nn.Module, settings=dict, vae=torch.nn.Module)\n"
HEADING = "{} of a model that snrise trained; gathered from the sources of snrise {}, which is Apache-2.0."


def export_pipeline(trained: Trained, out: Path, dtype: torch.dtype) -> Path:
    """Write a new folder that `SnrisePipeline` and, with `trust_remote_code`, diffusers' `DiffusionPipeline` load.

    It holds settings, the weights in a dtype, and two files of source with all that network and sampler are made of; of
    a run on codes also the autoencoder, as it is.

    Raises:
        SnriseError: for a network that is not snrise's, or a folder that exists.
    """
    diffusers_class("DiffusionPipeline", "export_pipeline")
    config, version = trained.config, metadata.version("snrise")
    require(not out.exists(), "--out", str(out), "a folder that is not there yet", "remove it, or choose another")
    own = not isinstance(config.network, External)
    require(own, "export_pipeline", type_name(trained.network), "a network of snrise", "save it by its own library")
    generation = trained.generation()
    settings: dict[str, Any] = {name: described(getattr(generation, name)) for name in GENERATION if name != "codec"}
    settings |= _codec(config.codec)
    settings |= {"classes": described(trained.classes), "frequencies": described(trained.frequencies)}
    settings |= {"images_seen": trained.images_seen, "weights": trained.fingerprint}
    classes = None if trained.classes is None else len(trained.classes)
    network = {"settings": described(config.network), "target": settings["target"], "classes": classes}
    about = {"_diffusers_version": metadata.version("diffusers")}
    index = {"_class_name": [PIPELINE, "SnrisePipeline"], **about, "unet": [MODEL, "SnriseModel"], "settings": settings}
    if isinstance(config.codec, Autoencoder):
        index["vae"] = ["diffusers", config.codec.class_name]
    files = {
        "model_index.json": _json(index), "unet/config.json": _json({"_class_name": "SnriseModel", **about, **network}),
        f"{PIPELINE}.py": _source("SnrisePipeline", settings, version) + SIGNATURE,
        f"unet/{MODEL}.py": _source("SnriseModel", network, version),
    }
    weights = {f"network.{name}": t.to(dtype).contiguous() for name, t in trained.network.state_dict().items()}
    try:
        (out / "unet").mkdir(parents=True)
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
        save_file(weights, out / "unet" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
        if isinstance(config.codec, Autoencoder):
            copy_autoencoder(config.codec.path, out / "vae")
    except OSError as error:
        raise SnriseError(f"{out}: cannot be written: {error.strerror or error}") from error
    return out


def _codec(codec: Codec) -> dict[str, Any]:
    """How images are encoded: the settings of a codec, or of the autoencoder beside the network mean and deviation."""
    if not isinstance(codec, Autoencoder):
        return {"codec": described(codec)}
    return {"codec": None, "codes": {"mean": list(codec.mean), "std": list(codec.std), "factor": codec.factor}}


def _source(kind: str, settings: dict[str, Any], version: str) -> str:
    """The file that defines a class, with the types that its settings name."""
    types = {text: Name.parse(text) for text in sorted(types_in(settings))}
    titles = {f"Setting{i}": name for i, name in enumerate(types.values())}
    names = {kind: Name("snrise.interop.pipeline", kind), "TYPES": Name("snrise.interop.described", "TYPES"), **titles}
    table = "".join(f"    {text!r}: {title},\n" for text, title in zip(types, titles, strict=True))
    return f"{standalone(names, HEADING.format(kind, version))}TYPES.update({{\n{table}}})\n"


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
