"""The model card of a run, in Markdown: everything on it is read from the run or said by its maker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import yaml

from snrise.codecs import Grey, Pixels
from snrise.config import RunConfig
from snrise.construct import kind_of, plain
from snrise.schedules import shift_factor
from snrise.trained import Trained

__all__ = ["About", "card"]

#: The Hub's word for pictures from noise alone, and from a class.
TASK = "unconditional-image-generation"
#: Data that comes with snrise: what it is, and its licence.
BUILT_IN = {"emoji": "Fluent Emoji by Microsoft, MIT; the names of their classes are Emojibase's, MIT."}
UNSAID = "Its maker has not said where these images come from, nor under which licence."
UNJUDGED = "Not measured yet. `snrise evaluate {}` compares samples with the data."
#: Classes that are listed by name.
LISTED = 120


@final
@dataclass(frozen=True, kw_only=True)
class About:
    """What only the maker of a run knows, and what there is beside its weights.

    Attributes:
        name: of the repository, `hub:USER/NAME`.
        licence: of the weights, by the Hub's identifier, such as `mit` or `cc-by-4.0`.
        data: where the images come from, and their licence.
        pictures: how many there are in samples.png.
        pipeline: whether diffusers' pipeline is there too.
        judged: the content of the metrics.json of `snrise evaluate`.
    """

    name: str
    licence: str | None = None
    data: str | None = None
    pictures: int = 16
    pipeline: bool = False
    judged: Mapping[str, Any] | None = None


def card(trained: Trained, about: About) -> str:
    """The model card, with the YAML that the Hub reads at its head."""
    parts = [_head(about), _title(trained, about), _use(about), _facts(trained), _data(trained, about),
             _measured(about), _made(trained)]
    return "\n\n".join(parts) + "\n"


def _head(about: About) -> str:
    tags = ["snrise", "diffusion", "image-generation", *(["diffusers"] if about.pipeline else [])]
    told = {"library_name": "snrise", "pipeline_tag": TASK, "tags": tags}
    if about.licence is not None:
        told["license"] = about.licence
    return f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---"


def _title(trained: Trained, about: About) -> str:
    config = trained.config
    height, width = config.data.resolution
    of = "pixels" if isinstance(config.codec, Pixels | Grey) else "codes of an autoencoder"
    classes = "" if trained.classes is None else f" in {len(trained.classes)} classes"
    images = config.made_with.get("images")
    what = f"images{classes}" if images is None else f"{int(images):,} images{classes}"
    return (
        f"# {config.name}\n\n![{about.pictures} samples](samples.png)\n\n"
        f"Diffusion on {of}, {height}×{width} px, trained with snrise on {what}. The picture is that of "
        f"`snrise sample {about.name} -n {about.pictures}`: the first {about.pictures} of seed 0, not a choice."
    )


def _use(about: About) -> str:
    repository = about.name.removeprefix("hub:")
    pipeline = "" if not about.pipeline else (
        "\n\nWithout snrise, by diffusers; it runs the code of this repository, `pipeline.py` and "
        "`unet/modeling_snrise.py`:\n\n```python\nfrom diffusers import DiffusionPipeline\n\n"
        f'pipeline = DiffusionPipeline.from_pretrained("{repository}", trust_remote_code=True)\n'
        "images = pipeline(4, seed=0).images\n```"
    )
    return (
        "## Use\n\n```sh\npip install 'snrise[hub]'\n"
        f"snrise sample {about.name} -n 16\nsnrise train --from {about.name} --data path/to/images\n```\n\n"
        f'```python\nimport snrise\n\nmodel = snrise.load("{about.name}")\npictures = model.sample(4, seed=0)\n```'
        f"\n\nAdd `@COMMIT` to the name to stay with one version.{pipeline}"
    )


def _facts(trained: Trained) -> str:
    config = trained.config
    numbers = sum(parameter.numel() for parameter in trained.network.parameters())
    sampling = config.sampling
    rows = {
        "network": f"{type(trained.network).__name__}, {numbers / 1e6:.1f} million parameters",
        "predicts": f"{config.loss.prediction.value}, process {kind_of(config.process)}",
        "schedule": _schedule(config),
        "images seen": f"{trained.images_seen:,}",
        "samples": f"{kind_of(sampling.sampler)}, {sampling.steps} steps, guidance {sampling.guidance:g}",
    }
    if config.training.start is not None:
        rows["begun from"] = f"`{config.training.start}`"
    return f"## What it is\n\n{_table(rows.items())}\n\n![The noise schedule](schedule.png)"


def _schedule(config: RunConfig) -> str:
    own, stated = config.shape[1:], config.schedule.reference
    name = f"{kind_of(config.schedule.base)}"
    if stated is None:
        return name
    factor = shift_factor(own, stated)
    return f"{name}, stated for {stated[0]}×{stated[1]} and shifted by −2 log {factor:g}"


def _data(trained: Trained, about: About) -> str:
    made, source = trained.config.made_with, plain(trained.config.data)["source"]
    said = about.data or BUILT_IN.get(source, UNSAID)
    mark = f" (fingerprint `{made['data'][:16]}`)" if "data" in made else ""
    names = trained.classes or ()
    listed = f"\n\nClasses: {', '.join(names)}." if 0 < len(names) <= LISTED else ""
    return f"## Data\n\n{said}{mark}{listed}"


def _measured(about: About) -> str:
    if about.judged is None:
        return f"## Measured\n\n{UNJUDGED.format(about.name)}"
    judged = dict(about.judged)
    scores = {k: f"{v:.4g}" for k, v in judged.items() if isinstance(v, float)}
    shown = {k: v + (f" ± {scores[f'{k} error']}" if f"{k} error" in scores else "") for k, v in scores.items()
             if not k.endswith(" error")}
    cautions = "".join(f"\n\nCaution: {caution}" for caution in judged.get("cautions", ()))
    return (
        f"## Measured\n\n{_table(shown.items())}\n\nBy `snrise evaluate`: {judged['samples']:,} samples beside "
        f"{judged['references']:,} images, features of {judged['features']}. All numbers: "
        f"[metrics.json](metrics.json).{cautions}"
    )


def _made(trained: Trained) -> str:
    made = trained.config.made_with
    told = ("snrise", "torch", "python", "snrise_commit")
    versions = ", ".join(f"{name} {made[name]}" for name in told if name in made)
    return (
        "## How it was made\n\n```sh\nsnrise train config.yaml\n```\n\nwith the settings in "
        "[config.yaml](config.yaml); of paths they hold the last word alone."
        + (f" Made with {versions}." if versions else "")
    )


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines])
