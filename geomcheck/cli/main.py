"""The ``geomcheck`` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

import geomcheck
from geomcheck._version import VERSION
from geomcheck.cli import calibrate, compare, measure, regime, report, watch
from geomcheck.cli.options import JSON, add_command
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.inspection import inspect
from geomcheck.report.safe import printable
from geomcheck.report.text.inspection import lines
from geomcheck.suite import json_schema, shipped_suites
from geomcheck.suite.conditions import SubjectCondition, load_conditions

WRONG_USAGE = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: the command's own, else 0; 4 with a message on stderr."""
    options = parser().parse_args(arguments)
    code = 0
    try:
        _require_values(options)
        code = options.command(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (GeomcheckError, OSError) as error:
        print(f"geomcheck: {printable(str(error))}", file=sys.stderr)
        return WRONG_USAGE
    return code


def _require_values(options: argparse.Namespace) -> None:
    given = {name: value if isinstance(value, list) else [value] for name, value in vars(options).items()}
    if empty := [name for name, values in given.items() if "" in values]:
        raise UsageError(f"--{empty[0].replace('_', '-')} is empty; is a variable not set?")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, with a subcommand each."""
    top = argparse.ArgumentParser(
        prog="geomcheck",
        description="Regression tests for the geometry of training. To check a run: pytest --geom-run=PATH",
    )
    top.add_argument("--version", action="version", version=VERSION)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in (measure, watch):
        command.add_to(commands)
    about = "say what is in a run and what would be read, from headers only"
    held = "directory of checkpoints, or a record file"
    add_command(commands, "inspect", _inspect, about, "base", JSON, run=held)
    for other in (calibrate, compare, regime, report):
        other.add_to(commands)
    add_command(commands, "metrics", _metrics, "list the metrics with their definitions and parameters")
    add_command(commands, "suites", _suites, "list the shipped suites")
    add_command(commands, "schema", _schema, "print the JSON Schema of suites, for editors")
    return top


def _inspect(options: argparse.Namespace) -> None:
    found = inspect(options.run, base=options.base)
    print(json.dumps(found.to_dict(), indent=1) if options.json else "\n".join(lines(found)))


def _metrics(_: argparse.Namespace) -> None:
    for metric in load_metrics():
        print(f"{metric.name}: {metric.definition}")
        print(f"    unit {metric.unit.value}, {metric.limits}; fold {metric.fold}; source: {metric.source}")
        if metric.words:
            print(f"    {metric.words.shows}")
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
