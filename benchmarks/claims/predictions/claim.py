"""Whether x is to be predicted from large patches, and Muon better than AdamW."""

from collections.abc import Mapping

from benchmarks.claims.arms import QUICKLY, SHORT
from benchmarks.claims.claim import Claim, Job, Study
from benchmarks.claims.trainings import Fitted, Judged, config
from benchmarks.claims.verdict import Beats, Expectation
from snrise.config import RunConfig

PREDICTIONS = ("x", "v", "eps")
#: AdamW has a choice of three rates, Muon its recipe's.
RATES = {"AdamW, 5e-4": "5e-4", "AdamW, 1e-3": "1e-3", "AdamW, 2e-3": "2e-3"}
SMALL = ("data.resolution=[32,32]", "schedule.reference=null", "sampling.guidance=1")
#: Small networks of each family, at 32 px.
NETWORKS = {
    "U-ViT": "network={kind: uvit, stem: 2, embedding: 128, levels: [{channels: 64, blocks: 2}, {channels: 128, "
    "blocks: 1, "
    "attention: true}]}",
    "U-Net": "network={kind: unet, stem: 2, embedding: 128, middle: 1, levels: [{channels: 64, blocks: 1}, "
    "{channels: 128, blocks: 1}]}",
    "ViT": "network={kind: vit, width: 192, depth: 4, patch: 4, head: 32, bottleneck: 96, class_tokens: 0}",
}


def short(*settings: str, images: int) -> RunConfig:
    """A run whose warm-up and average are as long as suits it."""
    return config(f"training.ema_half_life={images // 12}", f"training.warmup={images // 10}", *settings, images=images)


def patches(images: int, **how: int) -> dict[str, Judged]:
    """A ViT on patches of 16×16 pixels, 768 numbers through 192 channels."""
    return {
        name: Judged(**how, config=short(
            "data.resolution=[64,64]", "schedule.reference=[32,32]", "data.hold_out=10", "sampling.guidance=1",
            "network={kind: vit, width: 192, depth: 4, patch: 16, head: 32, bottleneck: 128, class_tokens: 0}",
            f"name=patch16-{name}", f"loss.prediction={name}", images=images))
        for name in PREDICTIONS
    }


def optimizers(network: str, images: int, *rates: str) -> dict[str, Fitted]:
    """Muon, and AdamW at several rates."""
    common = (*SMALL, NETWORKS[network], "data.hold_out=10")
    arms = {"Muon": ("name=muon", "training.optimizer=muon", "training.learning_rate=1e-3")}
    arms |= {name: ("name=adamw", "training.optimizer=adamw", f"training.learning_rate={RATES[name]}")
             for name in rates}
    return {name: Fitted(config=short(*common, *settings, images=images)) for name, settings in arms.items()}


PATCHES = "16×16 patches"
FULL: dict[str, Mapping[str, Job]] = {
    PATCHES: patches(25_600), **{name: optimizers(name, SHORT, *RATES) for name in NETWORKS},
}
QUICK: dict[str, Mapping[str, Job]] = {
    PATCHES: patches(6400, **QUICKLY), "ViT": optimizers("ViT", 1600, "AdamW, 1e-3"),
}


def expected(*cases: str, rates: tuple[str, ...]) -> tuple[Expectation, ...]:
    """x before v and ε from large patches; Muon before AdamW at any rate."""
    of_patches = tuple(Beats(case=PATCHES, arm="x", than=other, metric=metric)
                       for other in ("v", "eps") for metric in ("KID-EffNet", "KID-STLPIPS"))
    return of_patches + tuple(
        Beats(case=case, arm="Muon", than=rate, metric="v-loss, held out") for case in cases for rate in rates)


CLAIM = Claim(
    name="predictions",
    title="From large patches x is to be predicted, and Muon trains every network better than AdamW.",
    about=(
        "Patches: a ViT at 64 px on patches of 16×16 pixels, 768 numbers through 192 channels, on 25,600 emoji, "
        f"judged by its samples (50 ancestral steps). Optimizers: three small networks at 32 px on {SHORT:,} emoji, "
        "v-prediction, the learning rate of Muon that of the recipes and of AdamW the best of three. Every tenth "
        "emoji is held out; these are judged by the v-loss of 128 of them, the geometric mean of λ = −6, −3, 0, 3, 6."
    ),
    refuted="A lower distance with v or ε from such patches, a lower held-out loss with AdamW at any of its rates.",
    full=Study(cases=FULL, expected=expected(*NETWORKS, rates=tuple(RATES))),
    quick=Study(cases=QUICK, expected=expected("ViT", rates=("AdamW, 1e-3",))),
    columns=("KID-EffNet", "KID-STLPIPS", "spectral distance", "v-loss, held out"),
    remarks=(
        "The held-out v-loss is no judge of predictions: at λ = 6 it weighs an error of x by 404, so that a prediction "
        "of x that leaves out the finest details has a large loss, and one of v that says nothing has about 1."
    ),
)
