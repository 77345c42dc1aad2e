"""What commands share: how one is declared, options and the reading of values, and what no output may replace."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from geomcheck.errors import SuiteError, UsageError
from geomcheck.files import replacing
from geomcheck.options import Option, option
from geomcheck.suite import Suite
from geomcheck.suite.language.document import parse_document
from geomcheck.suite.language.places import Place, parse_place
from geomcheck.suite.language.quantities import Refusal, ratio
from geomcheck.suite.language.selection import ROLES, Selection, parse_selection, parse_words

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")

JSON = Option(name="json", flag=True, help="print JSON")
STDOUT = "-"
JSON_FILE = Option(
    name="json", metavar="FILE", path=True, alone=STDOUT, help="write JSON to FILE; without one, print it"
)
QUIET = Option(name="quiet", flag=True, help="no progress and no notes on stderr, errors alone")
WEIGHTS = Option(
    name="weights",
    metavar="ROLE|GLOBS",
    default="linear",
    help=f"{', '.join(ROLES)}; globs over names, with commas between, ! before those to leave out; or as suites state "
    "them: '{stack: decoder}'",
)
MEASURING = ("base", "download", "workers", "device", "cache", "cache-size", "incomplete", "dequantize", QUIET)
"""What every command takes that measures runs."""


def told_in_json(document: Mapping[str, Any], target: str | None) -> bool:
    """Write `document` to what `JSON_FILE` names, if anything; whether it was printed, so that nothing else is."""
    if target is None:
        return False
    text = json.dumps(document, indent=1, allow_nan=False)
    if target == STDOUT:
        print(text)
        return True
    with replacing(Path(target)) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return False


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
    path: Any = os.path.expanduser
    for what, said in given.items():
        count = "+" if what == "runs" else None
        parser.add_argument(what, metavar=what.upper().removesuffix("S"), nargs=count, help=said, type=path)
    if output:
        parser.add_argument("-o", "--output", required=True, metavar="FILE", help=output, type=path)
    for declared in (option(one) if isinstance(one, str) else one for one in options):
        settled = declared.flag or declared.repeatable or declared.ini
        default = {} if settled else {"default": declared.default}
        flags = ["-q"] if declared is QUIET else []
        declared.add_to(partial(parser.add_argument, *flags), f"--{declared.name}", **default)
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


def share(option: str, text: str, *, high: float) -> float:
    """A share above 0 and at most `high`. Raises UsageError."""
    try:
        value = ratio(text)
    except Refusal as refusal:
        raise UsageError(f"{option}: {refusal}") from None
    if not 0 < value <= high:
        raise UsageError(f"{option}={text}: give more than 0% and at most {high:.0%}")
    return value


def place(text: str) -> Place:
    """A checkpoint: ``first``, ``last``, a step, or a progress such as ``20%``. Raises UsageError."""
    try:
        if text.isdecimal():
            return parse_place({"step": int(text)})
        return parse_place({"progress": text} if text.endswith("%") else text, allowed="first, last, a step or 20%")
    except (Refusal, ValueError) as error:
        raise UsageError(f"--at={text}: {error}") from None


def selection(text: str) -> Selection:
    """A role of weights, globs over their names, or a mapping as suites have it. Raises UsageError."""
    try:
        if text.startswith("{"):
            return parse_selection(parse_document(text, shown="--weights").plain())
        return parse_words(text)
    except (Refusal, SuiteError) as error:
        raise UsageError(f"--weights: {error}") from None


def slug(option: str, text: str) -> str:
    """A name as suites allow it. Raises UsageError."""
    if not _SLUG.fullmatch(text):
        raise UsageError(f"{option}: {text!r} is not a slug: lower-case letters, digits, `_`, `.` and `-`")
    return text
