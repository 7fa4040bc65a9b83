"""The frame of the claims: verdicts, results that go on, tables, and the page that is made of them."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from benchmarks.claims import CLAIMS, figure, page
from benchmarks.claims.claim import Claim, Form, Study
from benchmarks.claims.records import Record, Results, Summary, summary
from benchmarks.claims.tables import compared, markdown, within
from benchmarks.claims.trainings import DATA, LEVELS, config, trained, v_loss
from benchmarks.claims.verdict import AtMost, Beats, Costs, Outcome, Same, together
from snrise._errors import SnriseError
from snrise.evaluation import fit
from snrise.process import VariancePreserving
from snrise.trained import load

ROOT = Path(__file__).parents[2]


def records(**arms: tuple[float, ...]) -> list[Record]:
    """Values of a metric by arm, a seed each."""
    return [Record(case="c", arm=arm, seed=seed, settings="s", metrics={"m": value}, seconds=1.0, machine="here")
            for arm, values in arms.items() for seed, value in enumerate(values)]


def of(**arms: tuple[float, ...]) -> Outcome:
    return Beats(case="c", arm="ours", than="theirs", metric="m")(records(**arms)).outcome


def test_a_difference_counts_beyond_twice_the_spread():
    assert of(ours=(1.0, 1.1, 0.9), theirs=(2.0, 2.1, 1.9)) is Outcome.SHOWN
    assert of(ours=(2.0, 2.1, 1.9), theirs=(1.0, 1.1, 0.9)) is Outcome.REFUTED
    # both have a spread of 0.1: 0.19 is less than twice that, 0.21 more
    assert of(ours=(1.0, 1.1, 0.9), theirs=(1.19, 1.29, 1.09)) is Outcome.OPEN
    assert of(ours=(1.0, 1.1, 0.9), theirs=(1.21, 1.31, 1.11)) is Outcome.SHOWN


def test_two_seeds_prove_nothing():
    assert of(ours=(1.0, 1.0), theirs=(9.0, 9.0)) is Outcome.OPEN
    assert of(ours=(1.0, 1.0, 1.0), theirs=()) is Outcome.MISSING


def test_higher_is_better_where_it_is_said():
    recall = Beats(case="c", arm="ours", than="theirs", metric="m", higher=True)
    assert recall(records(ours=(0.5, 0.5, 0.51), theirs=(0.1, 0.1, 0.1))).outcome is Outcome.SHOWN
    assert recall(records(ours=(0.1, 0.1, 0.1), theirs=(0.5, 0.5, 0.51))).outcome is Outcome.REFUTED


def test_a_number_of_times_is_part_of_the_claim():
    thrice = Beats(case="c", arm="ours", than="theirs", metric="m", times=3)
    found = thrice(records(ours=(1.0, 1.0, 1.0), theirs=(2.0, 2.1, 2.0)))
    assert found.outcome is Outcome.REFUTED
    assert "2.0 times; claimed 3" in found.text
    assert thrice(records(ours=(1.0, 1.0, 1.0), theirs=(3.1, 3.1, 3.2))).outcome is Outcome.SHOWN


def test_what_costs_little_may_cost_a_share():
    tenth = Costs(case="c", arm="ours", than="theirs", metric="m", share=0.1)
    base = (1.0, 1.01, 0.99)
    assert tenth(records(ours=(1.05, 1.06, 1.04), theirs=base)).outcome is Outcome.SHOWN
    assert tenth(records(ours=(1.20, 1.21, 1.19), theirs=base)).outcome is Outcome.REFUTED
    assert tenth(records(ours=(1.10, 1.11, 1.09), theirs=base)).outcome is Outcome.OPEN
    assert tenth(records(ours=(1.0,), theirs=(1.0,))).outcome is Outcome.OPEN


def test_bounds_hold_for_every_seed():
    bound = AtMost(case="c", arm="ours", metric="m", bound=0.1)
    assert bound(records(ours=(0.1, -0.1, 0.0))).outcome is Outcome.SHOWN
    assert bound(records(ours=(0.0, -0.2, 0.0))).outcome is Outcome.REFUTED
    assert bound([]).outcome is Outcome.MISSING


def test_sameness_is_to_the_bit():
    same = Same(case="c", arm="ours", than="theirs", metric="m")
    assert same(records(ours=(1.0, 2.0), theirs=(1.0, 2.0))).outcome is Outcome.SHOWN
    assert same(records(ours=(1.0, 2.0), theirs=(1.0, 2.0 + 1e-15))).outcome is Outcome.REFUTED
    assert same(records(ours=(1.0, 2.0), theirs=(1.0,))).outcome is Outcome.MISSING


def test_a_verdict_sums_up():
    shown, refuted = (Beats(case="c", arm=a, than=b, metric="m")(records(low=(1.0, 1.0, 1.1), high=(5.0, 5.0, 5.1)))
                      for a, b in (("low", "high"), ("high", "low")))
    assert together([shown, shown]) == "shown"
    assert together([shown, refuted, shown]) == "shown in 2 of 3, refuted in 1 of 3"


@pytest.mark.parametrize(("value", "text"), [
    (Summary(0.34412, 0.0041, 3), "0.3441 ± 0.0041"), (Summary(301.2, 1.4, 3), "301.2 ± 1.4"),
    (Summary(301.2, 31.4, 3), "301 ± 31"), (Summary(0.5, None, 1), "0.50"), (Summary(0.0, 0.0, 3), "0 ± 0"),
    (Summary(96.0, 0.0, 3), "96 ± 0"), (Summary(1.42e-6, 7.1e-7, 3), "1.4e-06 ± 7e-07"),
    (Summary(3.5, 0.0, 3), "3.5 ± 0.0"), (Summary(0.125, None, 1), "0.12"),
])
def test_digits_follow_the_spread(value: Summary, text: str):
    assert str(value) == text


def test_agreement_is_within_twice_the_spread():
    assert within(Summary(1.0, 0.1, 3), Summary(1.19, 0.1, 3))
    assert not within(Summary(1.0, 0.1, 3), Summary(1.21, 0.1, 3))
    assert within(Summary(0.0, 0.0, 3), Summary(0.0, 0.0, 3))


@dataclass(frozen=True)
class Counting:
    """A job that notes when it is called."""

    log: Path
    settings: str = "counting"

    def __call__(self, seed: int) -> dict[str, float]:
        with self.log.open("a") as file:
            file.write(f"{seed}\n")
        return {"m": float(seed)}


def claim_of(job: Counting) -> Claim:
    study = Study(cases={"c": {"ours": job}, "d": {"ours": job}}, expected=())
    return Claim(name="tried", title="A title", about="", refuted="", full=study, quick=study, columns=("m",))


def test_a_measurement_goes_on_where_it_stopped(tmp_path):
    log, file = tmp_path / "log", tmp_path / "tried" / "full.json"
    claim = claim_of(Counting(log))
    claim.measure(Form.FULL, claim.results(Form.FULL, tmp_path), lambda line: None, part="c")
    assert log.read_text().split() == ["0", "1", "2"]
    claim.measure(Form.FULL, claim.results(Form.FULL, tmp_path), lambda line: None)
    assert log.read_text().split() == ["0", "1", "2"] * 2  # case d alone
    stored = Results(file)
    assert len(stored) == 6
    told = []
    claim.measure(Form.FULL, claim.results(Form.FULL, tmp_path), told.append, part="e")
    assert told == ["tried: nothing is meant: it has the seeds 0 to 2 of c, d"]
    assert summary(list(stored), "d", "ours", "m") == Summary(1.0, 1.0, 3)
    # other settings: measured anew, and the old ones are not shown
    other = claim_of(Counting(log, "changed"))
    assert other.present(Form.FULL, stored) == []
    other.measure(Form.FULL, stored, lambda line: None, part="d")
    assert [r.case for r in other.present(Form.FULL, stored)] == ["d"] * 3
    assert len(stored) == 6


def test_two_processes_share_the_seeds_of_a_claim(tmp_path):
    claim = claim_of(Counting(tmp_path / "log"))
    first, second = (claim.results(Form.FULL, tmp_path) for _ in range(2))
    claim.measure(Form.FULL, first, lambda line: None, part="c", seeds=[0, 2])
    claim.measure(Form.FULL, second, lambda line: None, part="c", seeds=[1])
    assert (tmp_path / "log").read_text().split() == ["0", "2", "1"]
    assert [r.seed for r in claim.present(Form.FULL, claim.results(Form.FULL, tmp_path))] == [0, 1, 2]


def test_tables_show_means_and_agreement(tmp_path):
    claim = claim_of(Counting(tmp_path / "log"))
    known = records(ours=(1.0, 1.1, 0.9))
    assert "| c | ours | 1.00 ± 0.10 | 3 |" in markdown(claim, known)
    near = [replace(record, metrics={"m": record.metrics["m"] + 0.15}) for record in known]
    far = [replace(record, metrics={"m": record.metrics["m"] + 0.25}) for record in known]
    assert "within its spread" in compared(claim, near, known)
    assert "beyond its spread" in compared(claim, far, known)


@pytest.mark.slow
def test_the_v_loss_is_the_ε_loss_by_its_weight():
    """As v = αε − σx, its error is that of ε over α: 1/α² = 1 + 1/SNR. `fit` measures the latter."""
    model = load("emoji-32")
    found, known = v_loss(model, model.data(), 3), fit(model, model.data(), 3).loss
    for logsnr, eps_loss in zip(known.logsnrs.tolist(), known.mean.tolist(), strict=True):
        if logsnr in LEVELS:
            alpha, _ = VariancePreserving().alpha_sigma(torch.tensor(logsnr))
            assert_close(found[logsnr], eps_loss / float(alpha) ** 2, rtol=1e-4, atol=0)


def test_a_figure_has_a_panel_a_case(tmp_path, monkeypatch):
    monkeypatch.setattr(figure, "FIGURES", tmp_path)
    job = Counting(tmp_path / "log")
    file = figure.drawn(claim_of(job), Form.QUICK, records(ours=(1.0, 2.0), theirs=(3.0, 4.0)))
    with Image.open(file) as one:
        width = one.width
    more = [replace(record, case=case) for case in "cd" for record in records(ours=(1.0, 2.0))]
    with Image.open(figure.drawn(claim_of(job), Form.QUICK, more)) as two:
        assert two.width == pytest.approx(2 * width, rel=0.01)
    assert figure.pictures(claim_of(job), Form.QUICK) is None
    other = replace(claim_of(job), columns=("only others have it", "m"))
    with Image.open(figure.drawn(other, Form.QUICK, more)) as same:
        assert same.size == two.size


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_says_what_would_refute_it(name: str):
    claim = CLAIMS[name]
    assert claim.refuted
    assert claim.title.endswith(".")
    assert isinstance(claim.columns, tuple)
    for form in Form:
        study = claim.study(form)
        assert study.seeds >= 3
        places = [(seed, case, arm) for seed, case, arm, _ in study.plan()]
        assert len(set(places)) == len(places)
        made = [Record(case=case, arm=arm, seed=seed, settings="", metrics=Anything(), seconds=0.0, machine="")
                for seed, case, arm in places]
        findings = study.findings(made)
        assert findings
        assert all(finding.outcome is not Outcome.MISSING for finding in findings), "of an arm that is not there"


class Anything(dict[str, float]):
    """Metrics of any name."""

    def __missing__(self, name: str) -> float:
        return 1.0

    def __contains__(self, name: object) -> bool:
        return True


def test_the_page_is_what_the_results_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    told = page.summarised()
    assert json.loads(page.SUMMARY.read_text(encoding="utf-8")) == told, "run python -m benchmarks.claims --write"
    assert page.PAGE.read_text(encoding="utf-8") == page.rendered(told), "run python -m benchmarks.claims --write"


def test_data_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = config("data.source=folder", f"data.path={DATA}/textures", "data.classes=null", images=32)
    with pytest.raises(SnriseError, match=r"no data in .*textures; run python -m benchmarks\.claims\.data textures"):
        trained(settings, 0)


@pytest.mark.slow
def test_the_command_lists_claims_and_knows_no_others():
    command = [sys.executable, "-m", "benchmarks.claims"]
    told = subprocess.run([*command, "--list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for claim in CLAIMS.values():
        assert f"{claim.name}: {claim.title}" in told
    wrong = subprocess.run([*command, "shfit"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "'shfit'" in wrong.stderr
    assert "'shift'" in wrong.stderr
