"""From records and verdicts to one HTML file that loads nothing and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from geomcheck._text import plural
from geomcheck._version import VERSION
from geomcheck.diagnostics import OPD_PAPER, Metric, load_metrics
from geomcheck.files import replacing
from geomcheck.report.causes import Causes, warnings
from geomcheck.report.charts.numbers import plain, symbols
from geomcheck.report.figures import Figures
from geomcheck.report.findings import MOST
from geomcheck.report.html.heatmap import payload
from geomcheck.report.html.regimes import regime_picture
from geomcheck.report.html.trajectories import pictures
from geomcheck.report.html.verdicts import card
from geomcheck.report.remarks import Remark, remarks
from geomcheck.report.safe import embedded, finalized
from geomcheck.report.session import Reported
from geomcheck.suite.verdict import Facts

ORDER = ("failed", "error", "warned", "info", "passed")
"""Of the verdicts on the page; within an outcome as they came."""


def write_report(target: Path, runs: Sequence[Reported], errors: Sequence[str] = ()) -> None:
    """Write the page of `runs`; the file appears under its name only when it is complete.

    Args:
        errors: of suites that could not be read.
    """
    with replacing(target) as partial:
        partial.write_text(page(runs, errors), encoding="utf-8")


def page(runs: Sequence[Reported], errors: Sequence[str] = ()) -> str:
    """The page of one run, or the comparison of several, as HTML."""
    measured = [(run, Figures(run.record)) for run in runs if run.record is not None and run.record.measured()]
    named = [(run.name, figures) for run, figures in measured]
    judged = [(run.name, own) for run in runs for own in run.judged]
    judged.sort(key=lambda entry: ORDER.index(entry[1].facts["outcome"]))
    verdicts = [own.facts for _, own in judged]
    diagnoses = {run.name: run.diagnosis for run in runs if run.diagnosis is not None}
    causes = Causes(((name, own.facts) for name, own in judged), diagnoses)
    cards = [card(name, own, causes.stopping(name, own.facts)) for name, own in judged]
    style, script = asset("report.css"), asset("report.js")
    maps = [payload(name, figures, len(named)) for name, figures in named]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
            data=embedded({"runs": maps, "start": verdicts[0]["metric"] if verdicts else ""}),
            runs=runs,
            verdict=_verdict(runs, verdicts, errors),
            errors=errors,
            several=len(runs) > 1,
            causes=causes,
            diagnoses=diagnoses,
            in_full=MOST,
            told={run.problem for run in runs} & {facts["cause"] for facts in verdicts if facts["cause"]},
            cards=[card for card in cards if card["facts"]["outcome"] != "passed" and not card["stopped"]],
            passed=[card for card in cards if card["facts"]["outcome"] == "passed"],
            pictures=pictures(named),
            regime=regime_picture(named),
            has_map=any(entry["figures"] for entry in maps),
            remarks=[(run, [*_warnings(run), *remarks(figures)]) for run, figures in measured],
            definitions=_definitions(named, verdicts),
            limits=_limits,
            symbols=symbols,
            source=OPD_PAPER,
            version=VERSION,
        )
    )


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


def _definitions(named: Sequence[tuple[str, Figures]], verdicts: Sequence[Facts]) -> list[Metric]:
    used = {request.metric for _, figures in named for request, _ in figures.record.measured()}
    used |= {facts["metric"] for facts in verdicts}
    return [metric for metric in load_metrics() if metric.name in used]


def _limits(metric: Metric) -> str:
    low, high = metric.range({})
    return f"{plain(low)} to {metric.at_most or plain(high)}"


def policy(style: str, script: str = "") -> str:
    """Nothing is fetched; only this style and this script, by their digests, apply and run; none where there is
    none."""
    own = f"style-src '{_digest(style)}'" + (f"; script-src '{_digest(script)}'" if script else "")
    return f"default-src 'none'; {own}; img-src data:; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def asset(name: str) -> str:
    """A file of the page's look."""
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


@cache
def environment() -> jinja2.Environment:
    """Templates of this package; every text that is put in is made visible and escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("geomcheck.report.html"),
        autoescape=True,
        finalize=finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
