"""``geomcheck diagnose``: what is wrong with a run, without a suite."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import late
from geomcheck._version import VERSION
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON_FILE, MEASURING, STDOUT, add_command, told_in_json
from geomcheck.errors import UsageError
from geomcheck.files import require_writable
from geomcheck.options import Option
from geomcheck.report.text.diagnosis import lines

if TYPE_CHECKING:
    from geomcheck import diagnosis
    from geomcheck.diagnosis import case as cases
else:
    diagnosis, cases = late("geomcheck.diagnosis"), late("geomcheck.diagnosis.case")

FOUND = 1

GOOD = Option(
    name="good",
    path=True,
    repeatable=True,
    help="a good run from the same W0, a directory or a record, to compare the size and direction of updates with; two "
    "or more tell what is usual",
)

SUITE = Option(
    name="suite",
    metavar="SUITE",
    path=True,
    repeatable=True,
    help="a calibrated suite, of the project by its name, or a file: what is normal for each weight stands in for good "
    "runs where fewer than two are given, as far as sizes go",
)


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "say what is wrong with a run: no suite is needed"
    add_command(commands, "diagnose", run, about, GOOD, SUITE, *MEASURING, JSON_FILE, run="run directory or record")


def run(options: argparse.Namespace) -> int:
    """Diagnose and print; returns `FOUND` where there is a finding. Raises GeomcheckError."""
    means = Means(options, [options.run, *options.good])
    if options.json not in (None, STDOUT):
        require_writable(Path(options.json), inputs=means.inputs(), option="--json=")
    for suite in means.suites:
        if not any(one.metric == cases.SIZE and one.normal for one in suite.expectations):
            raise UsageError(
                f"--suite={suite.path} does not say what is normal for each weight (`normal` of `{cases.SIZE}`): write "
                "it with `geomcheck calibrate` from good runs"
            )
    with means.measuring() as how:
        case = diagnosis.case_of(options.run, base=means.base, good=options.good, suites=means.suites, **how)
        found = diagnosis.findings(case)
    document = {
        "format": 1,
        "geomcheck": VERSION,
        "run": case.record.run,
        "path": case.record.path,
        "findings": [finding.to_dict() for finding in found],
    }
    if not told_in_json(document, options.json):
        print("\n".join(lines(case, found)))
    return FOUND if found else 0
