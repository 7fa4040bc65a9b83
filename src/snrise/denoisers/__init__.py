"""From a network to a denoiser: a function of z [b c h w] and λ [b] that returns x̂, of a process. Wrappers, no flags.

>>> import torch
>>> from snrise.process import Prediction
>>> network = lambda z, logsnr, labels=None: torch.zeros_like(z)
>>> denoise = clipped(from_network(network, Prediction.X))
>>> denoise(torch.ones(2, 3, 8, 8), torch.zeros(2)).shape
torch.Size([2, 3, 8, 8])
"""

from snrise.denoisers.base import Denoiser, Wrapper, from_network
from snrise.denoisers.clipping import Clipped, clipped, dynamically_clipped
from snrise.denoisers.exact import gaussian, ideal
from snrise.denoisers.guidance import Guided, guided, guided_within, rescaled
from snrise.denoisers.projected import Projected
from snrise.denoisers.upsampling import upsampled

__all__ = [
    "WRAPPERS", "Clipped", "Denoiser", "Guided", "Projected", "Wrapper", "clipped", "dynamically_clipped",
    "from_network", "gaussian", "guided", "guided_within", "ideal", "rescaled", "upsampled",
]

#: Every wrapper by the name that a config gives it.
WRAPPERS: dict[str, type[Wrapper]] = {"clipped": Clipped, "guided": Guided, "projected": Projected}
