"""Whether a training ends alike however it was interrupted, and on however many processes."""

from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.exactness.ways import TINY, Trainings, Way
from benchmarks.claims.verdict import AtMost, Expectation, Same

__all__ = ["CLAIM"]

ARMS = {
    "again": Way.AGAIN, "stopped": Way.STOPPED, "killed": Way.KILLED, "2 processes": Way.TWO,
    "2, then 1": Way.TWO_THEN_ONE, "2 shards": Way.SHARDS,
}
#: Those that change no bit, and those that change the order of sums.
EXACT, NEAR = ("again", "stopped", "killed"), ("2 processes", "2, then 1", "2 shards")
LARGEST, OPTIMIZER = "largest difference", "largest difference, optimizer"
#: The bounds of docs/reliability.md, of AdamW and of Muon.
BOUNDS = {"AdamW": 1e-5, "Muon": 1e-4, "emoji-32": 1e-4}
CASES = {
    "AdamW": (str(TINY), ("training.optimizer=adamw",)),
    "Muon": (str(TINY), ("training.optimizer=muon",)),
    "emoji-32": ("emoji-32", (
        "training.images=960", "training.warmup=96", "training.precision=fp32", "log.every=96", "log.samples=960",
        "log.checkpoint=192", "log.grid=4", "log.tensorboard=false", "sampling.steps=2", "sampling.guidance=1",
    )),
}


def _arms(case: str, *names: str) -> dict[str, Trainings]:
    recipe, overrides = CASES[case]
    return {name: Trainings(way=ARMS[name], recipe=recipe, overrides=overrides) for name in names}


def _expected(case: str, *names: str) -> tuple[Expectation, ...]:
    """No difference, one below a bound, and none between shards and replicas."""
    exact = (AtMost(case=case, arm=name, metric=metric, bound=0.0)
             for name in EXACT if name in names for metric in (LARGEST, OPTIMIZER))
    near = (AtMost(case=case, arm=name, metric=LARGEST, bound=BOUNDS[case]) for name in NEAR if name in names)
    return (*exact, *near, Same(case=case, arm="2 shards", than="2 processes", metric=LARGEST))


QUICK = ("stopped", "killed", "2 processes", "2 shards")

CLAIM = Claim(
    name="exactness",
    title="Resume, restart and the number of processes leave the result alone.",
    about="""\
`snrise train` is run to its end without a break, and then in other ways with the same settings and seed: once more
(`again`); ended by SIGTERM after a third of the images and begun again by the same command (`stopped`); the same with
SIGKILL, whatever is in the making then (`killed`); on two processes by `torchrun` (`2 processes`); on two until
SIGTERM, then on one (`2, then 1`); on two that hold a shard of the weights each (`2 shards`). The numbers are of the
last checkpoints: the largest difference of any weight or average to the run without a break, ‖a − b‖/‖b‖ of them all,
and the largest difference of the optimizer's state. 0 means bit for bit. An interrupted run has its last checkpoint
before the interruption at `broken off at` images.

All compute in float32 on one thread a process, without dropout, which each process draws for its own slice. **AdamW**
and **Muon** train a tiny network for 50 steps of 8 images with mirroring and dropped classes (`exactness/tiny.yaml`);
**emoji-32** is the recipe, with Muon, for 30 steps. On several processes sums are taken in another order; the bounds
are those of [reliability.md](reliability.md): 1e-5 with AdamW, 1e-4 with Muon. The quick study has AdamW alone, and
four of the ways.""",
    refuted=(
        "Any difference from 0 after a stop or a kill; one above the bound on two processes; shards that differ from "
        "replicas."
    ),
    full=Study(
        cases={case: _arms(case, *ARMS) for case in CASES},
        expected=tuple(one for case in CASES for one in _expected(case, *ARMS)),
    ),
    quick=Study(cases={"AdamW": _arms("AdamW", *QUICK)}, expected=_expected("AdamW", *QUICK)),
    columns=(LARGEST, "relative difference", OPTIMIZER, "broken off at"),
    remarks="""\
What holds on one machine says nothing of another: other instructions, another number of threads or another release of
PyTorch round otherwise. Differences between numbers of processes grow with the steps, as those of any rounding do, so
longer runs differ more.""",
)
