"""``geomcheck calibrate``: good runs in, a suite out."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geomcheck
from geomcheck.errors import UsageError
from geomcheck.files import require_writable

if TYPE_CHECKING:
    from geomcheck.calibration import Calibration, Rule
    from geomcheck.suite.places import Place
    from geomcheck.suite.selection import Selection

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser("calibrate", help="turn good runs of a recipe into a suite")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directory or record; good ones, best five or more")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="suite to write (YAML)")
    parser.add_argument("--base", metavar="PATH", help="where W0 comes from")
    parser.add_argument(
        "--across-bases",
        action="store_true",
        help="the runs may start from different weights (each draws its own base)",
    )
    parser.add_argument(
        "--rule",
        choices=("repeatability", "range"),
        default="repeatability",
        help="mean +- a multiple of the standard deviation (default), or smallest to largest with --margin",
    )
    parser.add_argument(
        "--false-alarms",
        metavar="P%",
        help="share of fresh good runs that may leave any band of the suite (default 5%%; with --rule repeatability)",
    )
    parser.add_argument("--margin", metavar="P%", help="of the mean, on either side (default 10%%; with --rule range)")
    parser.add_argument("--metrics", metavar="NAME,...", help="metrics to hold (default: those stable across the runs)")
    parser.add_argument("--weights", default="linear", metavar="ROLE", help="attention, mlp, linear (default) or all")
    parser.add_argument(
        "--at", action="append", default=[], metavar="PLACE", help="checkpoint: first, last, a step, 20%% (repeatable)"
    )
    parser.add_argument("--name", metavar="NAME", help="of the suite (default: the file's name)")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Calibrate and write the suite. Raises GeomcheckError."""
    output = Path(options.output)
    inputs = [(f"the run {run}", Path(run)) for run in options.runs]
    inputs += [(f"W0 {options.base}", Path(options.base))] if options.base else []
    require_writable(output, inputs=inputs)
    calibration = geomcheck.calibrate(
        options.runs,
        base=options.base,
        rule=_rule(options),
        metrics=options.metrics.split(",") if options.metrics else None,
        weights=_weights(options.weights),
        at=[_place(text) for text in options.at],
        name=_name(options.name or output.stem),
        across_bases=options.across_bases,
    )
    calibration.write(output)
    _tell(output, calibration)


def _tell(output: Path, calibration: Calibration) -> None:
    bands = sum(len(expectation.bands) for expectation in calibration.expectations)
    print(f"{output}: {len(calibration.expectations)} expectations, {bands} bands from {len(calibration.runs)} runs")
    print(f"  each band is {calibration.rule.describe(n=len(calibration.runs), bands=calibration.bands)}")
    for left in calibration.left_out:
        print(f"  left out {left.metric}: {left.reason}")
    for warning in calibration.warnings:
        print(f"  warning: {warning}")


def _rule(options: argparse.Namespace) -> Rule:
    from geomcheck.calibration import Range, Repeatability

    if options.rule == "range":
        if options.false_alarms is not None:
            raise UsageError("--false-alarms goes with --rule repeatability: a range promises no rate")
        return Range(_share("--margin", options.margin or "10%", high=10.0))
    if options.margin is not None:
        raise UsageError("--margin goes with --rule range")
    return Repeatability(_share("--false-alarms", options.false_alarms or "5%", high=0.5))


def _share(option: str, text: str, *, high: float) -> float:
    from geomcheck.suite.quantities import Refusal, ratio

    try:
        share = ratio(text)
    except Refusal as refusal:
        raise UsageError(f"{option}: {refusal}") from None
    if not 0 < share <= high:
        raise UsageError(f"{option}={text}: give more than 0% and at most {high:.0%}")
    return share


def _place(text: str) -> Place:
    from geomcheck.suite.places import parse_place
    from geomcheck.suite.quantities import Refusal

    try:
        if text.isdecimal():
            return parse_place({"step": int(text)})
        return parse_place({"progress": text} if text.endswith("%") else text, allowed="first, last, a step or 20%")
    except Refusal as refusal:
        raise UsageError(f"--at={text}: {refusal}") from None


def _weights(text: str) -> Selection:
    from geomcheck.suite.quantities import Refusal
    from geomcheck.suite.selection import parse_selection

    try:
        return parse_selection(text)
    except Refusal as refusal:
        raise UsageError(f"--weights: {refusal}") from None


def _name(text: str) -> str:
    if not _SLUG.fullmatch(text):
        raise UsageError(f"--name: {text!r} is not a slug: lower-case letters, digits, `_`, `.` and `-`")
    return text
