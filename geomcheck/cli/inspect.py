"""``geomcheck inspect``: what is in a run and what would be read, from headers only."""

from __future__ import annotations

import argparse
import json
from typing import Any

from geomcheck.cli.options import JSON, add_command


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "say what is in a run and what would be read, from headers only"
    add_command(commands, "inspect", run, about, "base", JSON, run="directory of checkpoints, or a record file")


def run(options: argparse.Namespace) -> None:
    """Inspect and print. Raises GeomcheckError."""
    from geomcheck.inspection import inspect
    from geomcheck.report.text.inspection import lines

    found = inspect(options.run, base=options.base)
    print(json.dumps(found.to_dict(), indent=1) if options.json else "\n".join(lines(found)))
