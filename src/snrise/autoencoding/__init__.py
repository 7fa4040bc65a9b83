"""Training autoencoders for latent diffusion: the objective of four parts, the loop, the run, and how well it does.

    folder = train_codec("photos", resolution=256, budget="2h")
    snrise.train("photos", f"codec={folder}", "schedule.reference=null", resolution=256, budget="2h")
"""

from snrise.autoencoding.config import CodecConfig, CodecTraining, parse
from snrise.autoencoding.judging import Reconstruction, judge_reconstruction, pooled
from snrise.autoencoding.loop import CodecReport
from snrise.autoencoding.objective import Objective, Reduction
from snrise.autoencoding.run import CodecRun, of_run
from snrise.autoencoding.starting import train_codec

__all__ = [
    "CodecConfig", "CodecReport", "CodecRun", "CodecTraining", "Objective", "Reconstruction", "Reduction",
    "judge_reconstruction", "of_run", "parse", "pooled", "train_codec",
]
