"""The page as text: its parts put into one file."""

import base64
import io
import json
import math
import re
from dataclasses import asdict
from importlib import resources
from typing import Any

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from snrise._errors import require
from snrise._typing import Size
from snrise.schedules import SCHEDULES, Cosine, Ends, Schedule

__all__ = ["KINDS", "page"]

#: The kinds of schedules that the page computes.
KINDS: dict[type[Schedule], str] = {
    SCHEDULES[name]: name for name in ("cosine", "linear_beta", "uniform_logsnr", "log_normal", "flow_matching")
}
#: The longer side of a picture within the page.
LONGEST = 512
PARTS = {
    "uplot": "uPlot.iife.min.js", "uplot_css": "uPlot.min.css", "css": "explorer.css", "formulas": "formulas.js",
    "texts": "texts.js", "script": "explorer.js",
}


def page(
    base: Schedule = Cosine(), image: Size = (512, 512), reference: Size = (64, 64), *,
    noisy_reference: Size | None = None, ends: Ends | str = Ends.MOVE, zero_terminal_snr: bool = False,
    picture: UInt8[Tensor, "3 h w"] | None = None, language: str | None = None,
) -> str:
    """A page of HTML that begins with these settings; everything in it can be changed there.

    Args:
        base: the schedule at the reference; its class is one of `KINDS`.
        image: the size of the images.
        reference: the size that the schedule is stated for.
        noisy_reference: another one at the noisy end: a square; of others the page takes the square of as many pixels.
        ends: whether the shift moves the limits.
        zero_terminal_snr: whether the schedule is stretched to pure noise.
        picture: to show noise on; without one the page draws its own.
        language: `en` or `zh`; by default the browser's.

    Raises:
        SnriseError: for a schedule that the page does not compute.

    >>> html = page(image=(256, 384), language="zh")
    >>> html.startswith("<!doctype html>"), "default-src 'none'" in html
    (True, True)
    """
    allowed = ", ".join(KINDS.values())
    require(type(base) in KINDS, "page.base", type(base).__name__, f"one of {allowed}")
    state: dict[str, Any] = {
        "kind": KINDS[type(base)], "image": image, "reference": reference, "ends": str(ends), "zero": zero_terminal_snr,
    }
    if noisy_reference is not None and noisy_reference != reference:
        state |= {"interpolate": True, "noisySide": round(math.sqrt(noisy_reference[0] * noisy_reference[1]))}
    if language is not None:
        state["language"] = language
    own = {_camel(name): None if value is not None and math.isinf(value) else value
           for name, value in asdict(base).items()}  # type: ignore[call-overload]
    given = {"state": state, "settings": {KINDS[type(base)]: own}, "picture": _data_url(picture)}
    parts = {name: _asset(file) for name, file in PARTS.items()}
    parts["given"] = json.dumps(given).replace("<", "\\u003c")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("explorer.html"))


def _asset(file: str) -> str:
    text: str = (resources.files("snrise.explorer") / "assets" / file).read_text(encoding="utf-8")
    return text


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def _data_url(picture: UInt8[Tensor, "3 h w"] | None) -> str | None:
    if picture is None:
        return None
    image = Image.fromarray(picture.permute(1, 2, 0).cpu().numpy())
    image.thumbnail((LONGEST, LONGEST))
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
