"""``geomcheck regime``: which training method a run looks like, and why."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from geomcheck.api import records_of
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON, MEASURING, WEIGHTS, add_command, place, selection
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import GeomcheckError
from geomcheck.options import Option
from geomcheck.record import Point, Record, Request
from geomcheck.report.safe import printable
from geomcheck.report.text.screen import aligned
from geomcheck.suite import Classification, classify, load_profiles
from geomcheck.suite.conditions.profile import EVIDENCE, decades
from geomcheck.suite.conditions.regime import evidence_figures
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import At
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.sampling import Question, sample

OVERLAP = "low_magnitude_overlap"

AT = Option(name="at", metavar="PLACE", default="last", help="checkpoint: first, last, a step, or a progress as 20%%")
PROFILES = Option(
    name="profiles",
    metavar="FILE",
    path=True,
    repeatable=True,
    help="profile file, directory of them, or `paper`",
    otherwise="paper, which is Qwen3-8B",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "tell whether a run looks like SFT, OPD or RLVR"
    options = (PROFILES, AT, WEIGHTS, *MEASURING, JSON)
    add_command(commands, "regime", run, about, *options, run="run directory or record")


def run(options: argparse.Namespace) -> None:
    """Classify a run and print the evidence. Raises GeomcheckError."""
    sources = options.profiles or ["paper"]
    profiles = load_profiles(sources)
    weights, where = selection(options.weights), place(options.at)
    at = At(where, where, single=True)
    overlap = Request.of(load_metrics()[OVERLAP], {"excess_over": "shuffled"})
    asked = [*(evidence.request for evidence in EVIDENCE), overlap]
    means = Means(options, [options.run])
    with means.measuring() as how:
        (record,) = records_of([options.run], base=means.base, metrics=asked, weights=weights, **how)
    ((step, figures),) = evidence_figures(record, weights, at).items()
    found = classify(figures, profiles)
    point = next(point for point in record.points if point.step == step)
    null = _null(record, weights, at)
    if options.json:
        print(json.dumps(_document(record, point, found, sources, null), indent=1, allow_nan=False))
    else:
        print(printable("\n".join(_table(record, point, found, sources, null))))


def _null(record: Record, weights: Selection, at: At) -> dict[str, float] | str:
    """The low-magnitude overlap, observed and of the null; or why there is none."""
    metric = load_metrics()[OVERLAP]
    params = {p.name: p.default for p in metric.parameters} | {"excess_over": "shuffled"}
    question = Question(metric=metric, params=params, weights=weights, at=at)
    try:
        found = sample(question, record, question.settle(record))
        ((step, cells),) = found.cells.items()
        terms = {
            name: {w: record.figures(question.request, f"{name}.value")[step, w].value or 0.0 for w in cells}
            for name in ("observed", "null")
        }
        return {name: fold(values, metric.fold, found.used) for name, values in terms.items()}
    except GeomcheckError as error:
        return str(error)


def _table(
    record: Record, point: Point, found: Classification, sources: list[str], null: dict[str, float] | str
) -> list[str]:
    names = [profile.name for profile, _ in found.ranking]
    rows = [["diagnostic", "this run", *names, "nearest"]]
    for evidence in EVIDENCE:
        figure = found.figures[evidence.metric]
        centres = [profile.centres[evidence.metric] for profile, _ in found.ranking]
        nearest = min(range(len(centres)), key=lambda index: decades(figure, centres[index]))
        rows.append([evidence.metric, evidence.show(figure), *map(evidence.show, centres), names[nearest]])
    rows.append(["distance, decades", "", *(f"{distance:.2f}" for _, distance in found.ranking), names[0]])
    rows.append(["reach, decades", "", *(f"{profile.reach:.2f}" for profile, _ in found.ranking), ""])
    about = [f"{OVERLAP}: {null}"]
    if not isinstance(null, str):
        observed, chance = (f"{null[name]:.1%}" for name in ("observed", "null"))
        about = [
            f"Not counted: {OVERLAP} is {observed}, and {chance} for a structureless update of the",
            "same density. It follows the density of the update, as update_support does.",
        ]
    head = f"{record.run} at step {point.step} ({point.progress:.0%}): {found.result}"
    return [head, f"profiles: {', '.join(sources)}", "", *aligned(rows), "", *about]


def _document(
    record: Record, point: Point, found: Classification, sources: list[str], null: dict[str, float] | str
) -> dict[str, Any]:
    return {
        "run": record.run,
        "step": point.step,
        "progress": point.progress,
        "profiles": sources,
        "regime": found.name,
        "margin": found.margin,
        "figures": dict(found.figures),
        "ranking": [
            {
                "regime": profile.name,
                "distance": distance if math.isfinite(distance) else None,
                "reach": profile.reach,
                "centres": dict(profile.centres),
            }
            for profile, distance in found.ranking
        ],
        OVERLAP: null,
    }
