"""``geomcheck calibrate``: good runs in, a suite out."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import geomcheck
from geomcheck._text import plural
from geomcheck.api import How, has_weights
from geomcheck.cli.means import Means
from geomcheck.cli.options import MEASURING, WEIGHTS, add_command, place, selection, share, slug
from geomcheck.defects.power import TooLong
from geomcheck.errors import UsageError
from geomcheck.files import require_writable
from geomcheck.report.safe import printable

if TYPE_CHECKING:
    from geomcheck.calibration import BandRule, Calibration

WIDTH = 100
STUDENT, RANGE = ("student", "repeatability"), "range"

MOST_ENTRIES = 1e8
"""Of weights that are measured again to say what the suite would notice: some minutes."""


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    runs = "run directory or record; good ones, two at least, better three or more"
    about = "turn good runs of a recipe into a suite"
    parser = add_command(commands, "calibrate", run, about, WEIGHTS, *MEASURING, runs=runs)
    path: Any = os.path.expanduser
    parser.add_argument("-o", "--output", metavar="FILE", help="suite to write (YAML)", type=path)
    parser.add_argument(
        "--update",
        metavar="SUITE",
        help="add the runs to a calibrated suite, and keep what was written in it by hand",
        type=path,
    )
    parser.add_argument("--force", action="store_true", help="write over a file that there is, and lose what is in it")
    parser.add_argument(
        "--keep-outlier", action="store_true", help="calibrate on a run all the same that differs from all others"
    )
    parser.add_argument(
        "--across-bases",
        action="store_true",
        help="the runs may start from different weights (each draws its own base)",
    )
    parser.add_argument(
        "--rule",
        choices=("moderated", *STUDENT, RANGE),
        help="mean +- spreads moderated by each other and by other recipes (default); Student's t by itself "
        "(`repeatability` is its older name); or smallest to largest with --margin",
    )
    parser.add_argument(
        "--false-alarms",
        metavar="P%",
        help="share of fresh good runs that may leave any band of the suite (default 5%%; not with --rule range)",
    )
    parser.add_argument("--margin", metavar="P%", help="of the mean, on either side (default 10%%; with --rule range)")
    parser.add_argument("--metrics", metavar="NAME,...", help="metrics to hold (default: those stable across the runs)")
    parser.add_argument(
        "--at", action="append", default=[], metavar="PLACE", help="checkpoint: first, last, a step, 20%% (repeatable)"
    )
    parser.add_argument(
        "--applies-to",
        action="append",
        default=[],
        metavar="PATTERN",
        help="names of runs that it is for (repeatable; default: what the names of these have in common, or all)",
    )
    parser.add_argument("--profile", metavar="NAME", help="write the profile of a regime instead, for geomcheck regime")
    parser.add_argument("--name", metavar="NAME", help="of the suite (default: the file's name)")
    parser.add_argument("--no-power", action="store_true", help="do not try what the suite would notice")


def run(options: argparse.Namespace) -> None:
    """Calibrate and write the suite or the profile. Raises GeomcheckError."""
    if bool(options.output) == bool(options.update):
        raise UsageError("give -o FILE, a suite to write, or else --update SUITE, one to add the runs to")
    if options.update:
        _update(options)
        return
    output = Path(options.output)
    means = Means(options, options.runs)
    require_writable(output, inputs=means.inputs())
    if options.profile:
        _profile(options, means, output)
        return
    if output.exists() and not options.force:
        raise UsageError(
            f"{output} is there already. `geomcheck calibrate --update {output} RUN...` adds runs to it and keeps what "
            "was written by hand; --force writes it anew"
        )
    with means.measuring() as how:
        calibration = geomcheck.calibrate(
            options.runs,
            base=means.base,
            rule=_rule(options),
            metrics=options.metrics.split(",") if options.metrics else None,
            weights=selection(options.weights),
            at=[place(text) for text in options.at],
            applies_to=options.applies_to,
            name=slug("--name", options.name or output.stem),
            across_bases=options.across_bases,
            keep_outlier=options.keep_outlier,
            **how,
        )
        if not options.no_power:
            calibration = replace(calibration, power=_power(calibration, output, options.runs, means, how))
    calibration.write(output)
    pattern = ", ".join(calibration.applies_to)
    derived = f"for runs called {pattern}, as these are: change that with --applies-to, or `applies_to` in the suite"
    _tell(output, calibration, [derived] if pattern and not options.applies_to else [])


def _update(options: argparse.Namespace) -> None:
    from geomcheck.calibration import add_runs  # with scipy, which takes a second

    of_new = ("metrics", "at", "applies_to", "name", "profile", "across_bases", "force")
    idle = [name for name in of_new if getattr(options, name)]
    if idle:
        raise UsageError(f"--{idle[0].replace('_', '-')} goes with -o: --update keeps what the suite says")
    path = Path(options.update)
    means = Means(options, options.runs)
    require_writable(path, inputs=means.inputs())
    with means.measuring() as how:
        updated = add_runs(
            path,
            options.runs,
            base=means.base,
            rule=_rule(options) if options.rule or options.false_alarms or options.margin else None,
            keep_outlier=options.keep_outlier,
            **how,
        )
    updated.write()
    power = f"power: not tried with the new bands: geomcheck power {path} {options.runs[-1]}"
    _tell(path, updated.calibration, [*updated.kept, power])


def _power(calibration: Calibration, output: Path, runs: Sequence[str], means: Means, how: How) -> str:
    """What the suite would notice, tried on the last run whose weights are here; empty where there is none."""
    good = next((run for run in reversed(runs) if has_weights(run)), None)
    if good is None:
        return ""
    with TemporaryDirectory() as scratch:
        suite = Path(scratch) / "suite.yaml"
        calibration.write(suite)
        try:
            found = geomcheck.power(suite, good, base=means.base, most=MOST_ENTRIES, **how)
        except TooLong:
            return f"left out, as weights of this size take long: geomcheck power {output} {good}"
        except UsageError as error:
            return f"not known: {error}"
    return f"{found.summary} (tried on {found.run})"


def _profile(options: argparse.Namespace, means: Means, output: Path) -> None:
    from geomcheck.calibration import calibrate_profile  # with scipy, which takes a second

    of_suites = ("false_alarms", "margin", "metrics", "at", "applies_to", "name")
    idle = [f"--rule {options.rule}"] if options.rule else []
    idle += [f"--{name.replace('_', '-')}" for name in of_suites if getattr(options, name)]
    if idle:
        raise UsageError(f"{idle[0]} goes with suites, not with --profile")
    with means.measuring() as how:
        profile = calibrate_profile(
            options.runs,
            name=slug("--profile", options.profile),
            base=means.base,
            weights=selection(options.weights),
            across_bases=options.across_bases,
            **how,
        )
    profile.write(output)
    print(f"{output}: profile of {profile.profile.name} from {len(profile.runs)} runs")
    print(f"  use it: geomcheck regime RUN --profiles {output}, or `profiles: [{output.name}]` in a suite")


def _tell(output: Path, calibration: Calibration, also: Sequence[str] = ()) -> None:
    from geomcheck.calibration.calibration import left_out_lines  # with scipy, which takes a second

    count, bands = len(calibration.runs), calibration.bands
    expectations = len(calibration.expectations) + bool(calibration.trains) + bool(calibration.each_weight)
    print(f"{output}: {expectations} expectations, {plural(bands, 'band')} from {plural(count, 'run')}")
    lines = [f"each band is {calibration.rule.describe(n=count, bands=bands)}"]
    lines += also
    lines += [f"left out {left}" for left in left_out_lines(calibration)]
    lines += [f"warning: {warning}" for warning in calibration.warnings]
    lines += [f"power: {calibration.power}"] if calibration.power else []
    for line in lines:
        print("\n".join(_wrapped(printable(line))))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _rule(options: argparse.Namespace) -> BandRule:
    from geomcheck.calibration import Moderated, Range, Student

    if options.rule == RANGE:
        if options.false_alarms is not None:
            raise UsageError("--false-alarms goes with the other rules: a range promises no rate")
        return Range(share("--margin", options.margin or "10%", high=10.0))
    if options.margin is not None:
        raise UsageError("--margin goes with --rule range")
    alarms = share("--false-alarms", options.false_alarms or "5%", high=0.5)
    return Student(alarms) if options.rule in STUDENT else Moderated(alarms)
