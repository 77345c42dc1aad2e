"""``geomcheck diagnose``: what is wrong with a run, without a suite."""

from __future__ import annotations

import argparse
import json
from typing import Any

from geomcheck._version import VERSION
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON, MEASURING, add_command
from geomcheck.diagnosis import case_of, findings
from geomcheck.options import Option
from geomcheck.report.text.diagnosis import lines

FOUND = 1

GOOD = Option(
    name="good",
    path=True,
    repeatable=True,
    help="a good run from the same W0, a directory or a record, to compare the size and direction of updates with; two "
    "or more tell what is usual",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "say what is wrong with a run: no suite is needed"
    add_command(commands, "diagnose", run, about, GOOD, *MEASURING, JSON, run="run directory or record")


def run(options: argparse.Namespace) -> int:
    """Diagnose and print; returns `FOUND` where there is a finding. Raises GeomcheckError."""
    means = Means(options, [options.run, *options.good])
    with means.measuring() as how:
        case = case_of(options.run, base=means.base, good=options.good, **how)
        found = findings(case)
    if options.json:
        document = {
            "format": 1,
            "geomcheck": VERSION,
            "run": case.record.run,
            "path": case.record.path,
            "findings": [finding.to_dict() for finding in found],
        }
        print(json.dumps(document, indent=1, allow_nan=False))
    else:
        print("\n".join(lines(case, found)))
    return FOUND if found else 0
