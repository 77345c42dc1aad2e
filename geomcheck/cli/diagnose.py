"""``geomcheck diagnose``: what is wrong with a run, without a suite."""

from __future__ import annotations

import argparse
import json
from typing import Any

from geomcheck._version import VERSION
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON, MEASURING, add_command
from geomcheck.diagnosis import case_of, findings
from geomcheck.report.text.diagnosis import lines

FOUND = 1


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "say what is wrong with a run: no suite is needed"
    add_command(commands, "diagnose", run, about, *MEASURING, JSON, run="run directory or record")


def run(options: argparse.Namespace) -> int:
    """Diagnose and print; returns `FOUND` where there is a finding. Raises GeomcheckError."""
    means = Means(options, [options.run])
    with means.measuring() as how:
        case = case_of(options.run, base=means.base, **how)
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
