"""The ``geomcheck`` command: its parser, and what becomes of a command line."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import geomcheck
from geomcheck._version import VERSION
from geomcheck.checkpoints.remote import copying
from geomcheck.cli import calibrate, compare, diagnose, history, init, measure, power, regime, report, show, watch
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON, add_command
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.gate.configuration import configuration
from geomcheck.gate.values import Values
from geomcheck.inspection import inspect
from geomcheck.options import closest
from geomcheck.report.safe import printable
from geomcheck.report.text.inspection import lines
from geomcheck.suite import json_schema, shipped_suites
from geomcheck.suite.conditions import SubjectCondition, load_conditions

WRONG_USAGE = 4
OUTPUTS = ("output", "record", "csv", "parquet", "html")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: the command's own, else 0; 4 with a message on stderr.
    Raises SystemExit where the command line is not understood, or asks for help."""
    options = parser().parse_args(arguments)
    code = 0
    try:
        _require_values(options)
        copies = Values(configuration(), vars(options), "--").copies() if getattr(options, "download", None) else None
        with copying(copies):
            code = options.command(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (GeomcheckError, OSError) as error:
        print(f"geomcheck: {printable(str(error))}", file=sys.stderr)
        return WRONG_USAGE
    return code


def _require_values(options: argparse.Namespace) -> None:
    """Refuse a value that is empty or an option, and an output to ``-``. Raises UsageError."""
    for name, given in vars(options).items():
        flag = f"--{name.replace('_', '-')}"
        for value in given if isinstance(given, list) else [given]:
            if value == "":
                raise UsageError(f"{flag} is empty; is a variable not set?")
            if isinstance(value, str) and value.startswith("--"):
                raise UsageError(f"{flag}={value}: {value} is an option, and no value of {flag}")
            if value == "-" and name in OUTPUTS:
                raise UsageError(f"{flag}=-: the output goes to a file; name one, or ./- for a file of that name")


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, with what may be meant, and ends with `WRONG_USAGE`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._flags: list[str] = []
        self._repeatable: list[str] = []
        super().__init__(*arguments, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As argparse has it; the names of options are remembered."""
        self._flags += [name for name in names if name.startswith("--")]
        self._repeatable += names if options.get("action") == "append" else ()
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        """End with the message."""
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += closest(choice[1], re.findall(r"[\w-]+", choice[2]))
        self.exit(WRONG_USAGE, printable(f"{self.prog}: {message} (see {self.prog} --help)") + "\n")


class CommandParser(Parser):
    """The parser of one command, which says first which options there are not: they may be the ones it misses."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse has it."""
        for argument in args or ():
            flag = str(argument).partition("=")[0]
            if flag == "--":
                break
            if flag.startswith("--") and not any(known.startswith(flag) for known in self._flags):
                own = [known for known in self._flags if known != "--help"]
                meant = closest(f"--{flag.removeprefix('--').removeprefix('geom-')}", own)
                self.error(f"there is no option {flag}{meant}")
        found, rest = super().parse_known_args(args, namespace)
        taken = [flag for flag in args or () if flag in self._repeatable]
        if rest and taken:
            self.error(f"{taken[-1]} takes one value: write {taken[-1]}= before each, also before {rest[0]}")
        return found, rest


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, with a subcommand each."""
    top = Parser(
        prog="geomcheck",
        description="Regression tests for the geometry of training. To check a run: pytest --geom-run=PATH",
    )
    top.add_argument("--version", action="version", version=VERSION)
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for command in (init, measure, watch):
        command.add_to(commands)
    about = "say what is in a run and what would be read, from headers only"
    held = "directory of checkpoints, or a record file"
    add_command(commands, "inspect", _inspect, about, "base", "incomplete", JSON, run=held)
    for other in (show, diagnose, calibrate, power, compare, regime, report, history):
        other.add_to(commands)
    add_command(commands, "metrics", _metrics, "list the metrics with their definitions and parameters")
    add_command(commands, "suites", _suites, "list the shipped suites")
    add_command(commands, "schema", _schema, "print the JSON Schema of suites, for editors")
    return top


def _inspect(options: argparse.Namespace) -> None:
    means = Means(options, [options.run])
    found = inspect(options.run, base=means.base, incomplete=means.values.incomplete)
    diagnosed = geomcheck.diagnose(options.run) if found.kind == "record" else None  # it tells without any reading
    if options.json:
        findings = diagnosed and [one.to_dict() for one in diagnosed]
        print(json.dumps({**found.to_dict(), "findings": findings}, indent=1))
    else:
        print("\n".join(lines(found, diagnosed)))


def _metrics(_: argparse.Namespace) -> None:
    for metric in load_metrics():
        print(f"{metric.name}: {metric.definition}")
        print(f"    unit {metric.unit.value}, {metric.limits}; fold {metric.fold}; source: {metric.source}")
        if metric.words:
            print(f"    {metric.words.shows}")
        if metric.on_request:
            print("    measured where it is named, by a suite or --metrics")
        if metric.undefined:
            print(f"    undefined where {metric.undefined}")
        if metric.distrust:
            print(f"    when not to trust it: {metric.distrust}")
        if metric.inflated_by_rounding:
            print("    verdicts warn where storage rounding explains much of the update")
        for parameter in metric.parameters:
            default = "required" if parameter.required else parameter.default
            choices = f" ({', '.join(parameter.choices)})" if parameter.choices else ""
            print(f"    {parameter.name} = {default}{choices}: {parameter.about}")
    for kind in load_conditions().of_subjects:
        if not kind.instead_of_metric:
            _subject(kind)


def _subject(kind: type[SubjectCondition]) -> None:
    """What is judged of something else than weights, under a name that stands for a metric's."""
    own = {name: kind.statement.model_fields[name] for name in kind.statement.__annotations__}
    print(f"{kind.keyword}: {own.pop('metric').description}")
    print(f"    {kind.words.shows}")
    for name, about in own.items():
        print(f"    {name}: {about.description}")


def _suites(_: argparse.Namespace) -> None:
    for name, path in sorted(shipped_suites().items()):
        suite = geomcheck.load_suite(path)
        print(f"{name:12} {len(suite.expectations)} expectations, applies to {' '.join(suite.applies_to)}")
        print(f"{'':12} {suite.about}")


def _schema(_: argparse.Namespace) -> None:
    print(json.dumps(json_schema(), indent=2))
