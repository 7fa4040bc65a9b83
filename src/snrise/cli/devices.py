"""The option that says where to compute."""

from typing import Annotated

import torch
import typer

from snrise._errors import SnriseError

__all__ = ["DeviceOption", "device_of"]

DeviceOption = Annotated[str, typer.Option("--device", help="auto (cuda where there is one), cpu, cuda, cuda:1, mps …")]


def device_of(name: str) -> torch.device:
    """The device of a name; one that this machine lacks is an error."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SnriseError(f"--device: got {name!r}; not usable here: {reason}; use --device auto") from None
    return device
