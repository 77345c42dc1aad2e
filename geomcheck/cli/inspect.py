"""``geomcheck inspect``: what is in a run and what would be read, from headers only."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser("inspect", help="say what is in a run and what would be read, from headers only")
    parser.add_argument("run", metavar="RUN", help="directory of checkpoints, or a record file")
    parser.add_argument("--base", metavar="PATH", help="where W0 comes from: a directory or a Hub id")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Inspect and print. Raises GeomcheckError."""
    from geomcheck.inspection import inspect
    from geomcheck.report.text.inspection import lines

    found = inspect(options.run, base=options.base)
    print(json.dumps(found.to_dict(), indent=1) if options.json else "\n".join(lines(found)))
