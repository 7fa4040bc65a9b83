"""docs/evidence.md, its figures and its machine-readable summary, from the recorded results: none is typed by hand."""

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.claims import CLAIMS
from benchmarks.claims.claim import Claim, Form
from benchmarks.claims.figure import FIGURES, drawn
from benchmarks.claims.records import Record
from benchmarks.claims.tables import markdown
from benchmarks.claims.texts import write_json
from benchmarks.claims.verdict import Outcome, together
from snrise.files import write_atomically

__all__ = ["rendered", "summarised", "write"]

PAGE, SUMMARY = Path("docs/evidence.md"), Path("docs/results/claims.json")
INTRODUCTION = Path(__file__).parent / "introduction.md"


def write() -> None:
    """Write page and summary, and draw the figures."""
    for claim in CLAIMS.values():
        form = Form.FULL if len(claim.recorded(Form.FULL)) else Form.QUICK
        if records := claim.present(form, claim.recorded(form)):
            drawn(claim, form, records)
    told = summarised()
    write_json(told, SUMMARY)
    write_atomically(PAGE, rendered(told).encode())


def summarised() -> dict[str, Any]:
    """Each claim with its verdict, its findings, its tables and the machines they are of."""
    return {name: _summary(claim) for name, claim in CLAIMS.items()}


def _summary(claim: Claim) -> dict[str, Any]:
    told: dict[str, Any] = {"title": claim.title, "about": claim.about, "refuted": claim.refuted,
                            "remarks": claim.remarks}
    for form in Form:
        study, records = claim.study(form), claim.present(form, claim.recorded(form))
        findings = study.findings(records)
        told[form.value] = {
            "verdict": together(findings), "findings": [[f.outcome.value, f.text] for f in findings],
            "measured": len(records), "planned": len([*study.plan()]), "machines": _machines(records),
            "minutes": round(sum(record.seconds for record in records) / 60), "table": markdown(claim, records),
        }
    return told


def _machines(records: list[Record]) -> list[str]:
    return [name for name, _ in Counter(record.machine for record in records).most_common()]


def rendered(told: dict[str, Any]) -> str:
    """The page."""
    rows = [f"| [{one['title']}](#{name}) | {_verdict(one)} | {one['full']['measured']} of {one['full']['planned']} |"
            for name, one in told.items()]
    head = [INTRODUCTION.read_text(encoding="utf-8").rstrip(), "", "| claim | verdict | measured |", "|---|---|---|"]
    parts = ["\n".join([*head, *rows]), *(_section(name, one) for name, one in told.items())]
    return "\n\n".join(parts) + "\n"


def _verdict(one: dict[str, Any]) -> str:
    """That of the full study, or of the quick one while there is no full one."""
    if one["full"]["measured"]:
        return str(one["full"]["verdict"])
    return f"{one['quick']['verdict']}, in the quick form only" if one["quick"]["measured"] else "not measured"


def _section(name: str, one: dict[str, Any]) -> str:
    lines = [f"## {name}", f"**{one['title']}** {one['about']}", f"*Refuted by:* {one['refuted']}"]
    if one["full"]["measured"]:
        lines.append(_study(f"python -m benchmarks.claims {name}", one["full"]))
    if (FIGURES / f"{name}.png").exists():
        lines.append(f"![{one['title']}](img/claims/{name}.png)")
    if (FIGURES / f"{name}-samples.jpg").exists():
        lines.append(f"![Samples](img/claims/{name}-samples.jpg)")
    if one["quick"]["measured"]:
        lines.append(_study(f"python -m benchmarks.claims {name} --quick", one["quick"]))
    return "\n\n".join([*lines, *([one["remarks"]] if one["remarks"] else [])])


def _study(command: str, form: dict[str, Any]) -> str:
    machines = "; ".join(form["machines"])
    spent = f"{form['minutes']} minutes" if form["minutes"] else "less than a minute"
    head = f"`{command}` ({form['measured']} of {form['planned']} measurements, {spent} on {machines}):"
    told = [f"- **{outcome}**: {text}" for outcome, text in form["findings"] if outcome != Outcome.MISSING.value]
    missing = len(form["findings"]) - len(told)
    findings = [*told, *([f"- not measured yet: {missing} of {len(form['findings'])} comparisons"] if missing else [])]
    return "\n\n".join([head, form["table"], "\n".join(findings)])
