"""From records and verdicts to one HTML file that loads nothing and runs nothing but its own script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geomcheck._text import plural
from geomcheck.diagnostics import OPD_PAPER, Metric, load_metrics
from geomcheck.files import replacing
from geomcheck.report.causes import ORDER, Causes, by_cause, warnings
from geomcheck.report.charts.numbers import enumerated, plain
from geomcheck.report.charts.style import of_run
from geomcheck.report.facts import Judged, grouped
from geomcheck.report.figures import Figures
from geomcheck.report.findings import MOST, Diagnosis
from geomcheck.report.html.frame import rendered
from geomcheck.report.html.heatmap import SHARED, payload
from geomcheck.report.html.regimes import regime_picture
from geomcheck.report.html.trajectories import pictures
from geomcheck.report.html.verdicts import Run, card, group
from geomcheck.report.remarks import Remark, remarks
from geomcheck.report.safe import embedded
from geomcheck.report.session import Reported
from geomcheck.suite.verdict import Facts


def write_report(target: Path, runs: Sequence[Reported], errors: Sequence[str] = ()) -> None:
    """Write the page of `runs`; the file appears under its name only when it is complete.

    Args:
        errors: of suites that could not be read.
    """
    with replacing(target) as partial:
        partial.write_text(page(runs, errors), encoding="utf-8")


def page(runs: Sequence[Reported], errors: Sequence[str] = ()) -> str:
    """The page of one run, or the comparison of several, as HTML."""
    several = len(runs) > 1
    places = [(place, run) for place, run in enumerate(runs) if run.record is not None and run.record.measured()]
    measured = [(place, run, Figures(run.record)) for place, run in places if run.record is not None]
    named = [(place, run.name, figures) for place, run, figures in measured]
    diagnoses = {run.name: run.diagnosis for run in runs if run.diagnosis is not None}
    judged = [(Run(run.name, place if several else None), own) for place, run in enumerate(runs) for own in run.judged]
    judged = by_cause(judged, lambda entry: (entry[0].name, entry[1].facts), diagnoses)
    verdicts = [own.facts for _, own in judged]
    causes = Causes(((run.name, own.facts) for run, own in judged), diagnoses)
    cards = [_card(run, own, causes, diagnoses) for run, own in judged]
    cards = [card for card in cards if not card["stopped"]]
    failing = [card for card in cards if card["facts"]["outcome"] != "passed"]
    full = _in_full(failing)
    same = grouped(((card["judged"].suite, card["facts"]["id"]), card) for card in cards if several)
    groups = [group(found) for found in same.values()]
    maps = [{**payload(name, figures, len(named)), "run": place} for place, name, figures in named]
    figures = {figure["key"]: {name: figure.pop(name) for name in SHARED} for own in maps for figure in own["figures"]}
    return rendered(
        "report.html.j2",
        *("charts.js", "report.js"),
        data=embedded({"runs": maps, "figures": figures, "start": verdicts[0]["metric"] if verdicts else ""}),
        runs=runs,
        verdict=_verdict(runs, verdicts, errors),
        errors=errors,
        several=several,
        of_run=of_run,
        counts=[Counter(own.facts["outcome"] for own in run.judged) for run in runs],
        bases=list(dict.fromkeys(f"{run.origin.path} ({run.origin.how})" for run in runs if run.origin)),
        causes=causes,
        diagnoses=diagnoses,
        in_full=MOST,
        told={run.problem for run in runs} & {facts["cause"] for facts in verdicts if facts["cause"]},
        failing=failing,
        full=full,
        lists=_lists(failing, full, [card for card in cards if card["facts"]["outcome"] == "passed"]),
        place_of={run.name: place for place, run in enumerate(runs)},
        unexplained=_unexplained(diagnoses) if several else {},
        passed=[card for card in cards if card["facts"]["outcome"] == "passed"],
        groups=groups,
        pictures=pictures(named),
        regime=regime_picture(named),
        has_map=any(entry["figures"] for entry in maps),
        remarks=[(place, run, [*_warnings(run), *remarks(figures)]) for place, run, figures in measured],
        definitions=_definitions(named, verdicts),
        limits=_limits,
        source=OPD_PAPER,
    )


def _card(run: Run, own: Judged, causes: Causes, diagnoses: Mapping[str, Diagnosis]) -> dict[str, Any]:
    explained = diagnoses[run.name].explanation(own.facts) if run.name in diagnoses else None
    return card(run, own, causes.stopping(run.name, own.facts), explained.name if explained else "")


def _in_full(failing: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cards that are open: the furthest of what each finding explains, and of the others the first."""
    leading = [found[0] for name, found in grouped((card["explained"], card) for card in failing).items() if name]
    return [*leading, *(card for card in failing if not card["explained"])][:MOST]


def _lists(
    failing: Sequence[dict[str, Any]], full: Sequence[dict[str, Any]], passed: Sequence[dict[str, Any]]
) -> list[tuple[str, Sequence[dict[str, Any]]]]:
    """The cards that a reader opens, by what they have in common."""
    rest = grouped((card["explained"], card) for card in failing if card not in full)
    lists = [
        (f"{len(found)} more that {name} explains" if name else f"{len(found)} more", found)
        for name, found in rest.items()
    ]
    hold = f"{len(passed)} hold{'s' if len(passed) == 1 else ''}"
    return [*lists, *([(hold, passed)] if passed else [])]


def _unexplained(diagnoses: Mapping[str, Diagnosis]) -> dict[str, str]:
    """What is noted of several runs, with their names."""
    told = grouped((note, name) for name, diagnosis in diagnoses.items() for note in diagnosis.notes())
    return {note: enumerated(names) for note, names in told.items()}


def _verdict(runs: Sequence[Reported], verdicts: Sequence[Facts], errors: Sequence[str]) -> dict[str, Any]:
    """The page's first words."""
    counts = Counter[str](facts["outcome"] for facts in verdicts)
    bad = counts["failed"] + counts["error"]
    unread = sum(bool(run.problem) for run in runs)
    parts = [f"{bad} of {plural(len(verdicts), 'expectation')} failed"] if bad else []
    parts += [f"{plural(unread, 'run')} could not be measured"] if unread else []
    parts += [f"{plural(len(errors), 'suite')} could not be read"] if errors else []
    if parts:
        text, outcome = "; ".join(parts), "failed"
    elif counts["warned"]:
        text, outcome = f"{counts['warned']} of {plural(len(verdicts), 'expectation')} warned", "warned"
    elif verdicts:
        holds = "The expectation holds" if len(verdicts) == 1 else f"All {len(verdicts)} expectations hold"
        text, outcome = holds, "passed"
    else:
        text, outcome = "No suite was judged: figures only", "none"
    return {"text": text, "outcome": outcome, "counts": {outcome: counts[outcome] for outcome in ORDER}}


def _warnings(run: Reported) -> list[Remark]:
    told = warnings((run.name, judged.facts) for judged in run.judged)
    return [Remark("Warning", warning, serious=True) for _, warning in told]


def _definitions(named: Sequence[tuple[int, str, Figures]], verdicts: Sequence[Facts]) -> list[Metric]:
    used = {request.metric for _, _, figures in named for request, _ in figures.record.measured()}
    used |= {facts["metric"] for facts in verdicts}
    return [metric for metric in load_metrics() if metric.name in used]


def _limits(metric: Metric) -> str:
    low, high = metric.range({})
    return f"{plain(low)} to {metric.at_most or plain(high)}"
