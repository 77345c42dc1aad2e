"""``geomcheck power``: what a suite would notice."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geomcheck
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON_FILE, MEASURING, STDOUT, add_command, told_in_json
from geomcheck.defects.registry import chosen
from geomcheck.files import require_writable
from geomcheck.options import Option
from geomcheck.report.text.power import lines
from geomcheck.report.text.screen import duration

if TYPE_CHECKING:
    from geomcheck.defects.result import Power

UNNOTICED = 1

ALL = "all"

TOLD = 30.0
"""Seconds from which on it is said before how long it takes."""

REPORT = Option(name="report", metavar="FILE", path=True, help="write a page (HTML)")
DEFECTS = Option(
    name="defects", metavar="NAME,...", help="try these alone", otherwise="all, and the smallest changes noticed"
)
REQUIRE = Option(
    name="require", metavar="NAME,...", help="exit with 1 where one of these defects is not noticed, or `all` of them"
)


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "say what a suite would notice, by defects done to a good run while it is read"
    given = {"suite": "suite file, or its name in this project", "run": "run directory; a good one"}
    add_command(commands, "power", run, about, DEFECTS, REQUIRE, *MEASURING, JSON_FILE, REPORT, **given)


def run(options: argparse.Namespace) -> int:
    """Try the suite and print; returns `UNNOTICED` where a required defect is. Raises GeomcheckError."""
    options.suite = [options.suite]  # as with commands that take several
    means = Means(options, [options.run])
    (suite,) = means.suites
    outputs = [(flag, given) for flag, given in (("json", options.json), ("report", options.report)) if given]
    for flag, given in outputs:
        if given != STDOUT:
            require_writable(Path(given), inputs=means.inputs(), option=f"--{flag}=")
    names, required = _names(options.defects), _names(options.require)
    if required != [ALL]:
        chosen(required)
        names += required if names else []

    def expected(seconds: float) -> None:
        if seconds > TOLD:
            means.note(f"this takes about {duration(seconds)}; --defects=NAME,... tries some alone")

    with means.measuring() as how:
        found = geomcheck.power(suite, options.run, base=means.base, defects=names, expected=expected, **how)
    missing = _unnoticed(found, required)
    if options.report:
        from geomcheck.report.html.power import write_power  # with jinja2

        write_power(Path(options.report), found)
    if not told_in_json(found.to_dict(), options.json):
        print("\n".join(lines(found, missing)))
    return UNNOTICED if missing else 0


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",")] if text else []


def _unnoticed(found: Power, required: list[str]) -> list[str]:
    """The required defects that are not noticed; one that is named must be, also where the run has no place for it."""
    caught = {one.defect for one in found.of("caught")}
    return [one.defect for one in found.of("missed")] if required == [ALL] else [n for n in required if n not in caught]
