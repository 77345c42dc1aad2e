"""What commands share: how one is declared, the options that several take, and what no output of theirs may replace."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomcheck.options import Option, option

if TYPE_CHECKING:
    from geomcheck.suite import Suite

JSON = Option(name="json", flag=True, help="print JSON")
WEIGHTS = Option(name="weights", metavar="ROLE", default="linear", help="attention, mlp, linear or all")


def add_command(
    commands: Any,
    name: str,
    do: Callable[[argparse.Namespace], int | None],
    about: str,
    *options: Option | str,
    description: str | None = None,
    output: str = "",
    **given: str,
) -> argparse.ArgumentParser:
    """Add a command to a parser's `commands`; returns its own parser.

    Args:
        commands: the subparsers.
        name: of the command.
        do: what it does; returns the exit code, unless that is 0.
        about: what it does, in a line.
        options: what it takes, options of pytest by their names.
        description: what its help says beside that.
        output: what it writes to the file of ``--output``.
        given: the help of each path that it takes without an option; ``runs`` are several.
    """
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=description)
    parser.set_defaults(command=do)
    path: dict[str, Any] = {"type": os.path.expanduser}
    for what, said in given.items():
        count = "+" if what == "runs" else None
        parser.add_argument(what, metavar=what.upper().removesuffix("S"), nargs=count, help=said, **path)
    if output:
        parser.add_argument("-o", "--output", required=True, metavar="FILE", help=output, **path)
    for declared in (option(one) if isinstance(one, str) else one for one in options):
        default = {} if declared.flag or declared.repeatable else {"default": declared.default}
        declared.add_to(parser.add_argument, f"--{declared.name}", **default)
    return parser


def inputs(
    runs: Iterable[object], *, bases: Iterable[object] = (), suites: Sequence[Suite] = (), reference: str | None = None
) -> list[tuple[str, Path]]:
    """Every file and directory that is read, with what it is."""
    named = [("the run", run) for run in runs]
    named += [("W0", base) for base in (*bases, *(suite.base for suite in suites))]
    named += [("the suite", suite.file) for suite in suites]
    named += [("the reference", reference)]
    return [(f"{what} {place}", Path(str(place))) for what, place in named if place is not None]
