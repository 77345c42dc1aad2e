"""The ``geomcheck`` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import geomcheck
from geomcheck.errors import GeomcheckError
from geomcheck.files import require_writable

WRONG_USAGE = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 4 with a message on stderr)."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (GeomcheckError, OSError) as error:
        print(f"geomcheck: {error}", file=sys.stderr)
        return WRONG_USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geomcheck",
        description="Regression tests for the geometry of training. To check a run: pytest --geom-run=PATH",
    )
    parser.add_argument("--version", action="version", version=geomcheck.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    measure = commands.add_parser("measure", help="measure a run once, to judge its record anywhere")
    measure.add_argument("run", metavar="RUN", help="directory of checkpoints")
    measure.add_argument("-o", "--output", required=True, metavar="FILE", help="record to write (Parquet)")
    measure.add_argument("--base", metavar="PATH", help="where W0 comes from")
    measure.add_argument(
        "--suite", action="append", default=[], metavar="NAME-OR-PATH", help="measure what this suite needs"
    )
    measure.add_argument("--reference", metavar="RUN", help="run to compare masks with")
    measure.add_argument("--workers", type=_positive, metavar="N", help="local workers")
    measure.set_defaults(command=_measure)
    report = commands.add_parser("report", help="write an HTML report of records or runs; several are compared")
    report.add_argument("runs", nargs="+", metavar="RECORD", help="record file, or directory of checkpoints")
    report.add_argument("-o", "--output", required=True, metavar="FILE", help="page to write (HTML)")
    report.add_argument("--base", metavar="PATH", help="where W0 comes from, for directories")
    report.add_argument("--suite", action="append", default=[], metavar="NAME-OR-PATH", help="judge by this suite")
    report.add_argument("--reference", metavar="RECORD", help="record that `like: reference` compares with")
    report.add_argument("--workers", type=_positive, metavar="N", help="local workers")
    report.set_defaults(command=_report)
    metrics = commands.add_parser("metrics", help="list the metrics with their definitions and parameters")
    metrics.set_defaults(command=_metrics)
    suites = commands.add_parser("suites", help="list the shipped suites")
    suites.set_defaults(command=_suites)
    schema = commands.add_parser("schema", help="print the JSON Schema of suites, for editors")
    schema.set_defaults(command=_schema)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return number


def _measure(options: argparse.Namespace) -> None:
    output = Path(options.output)
    suites = [geomcheck.load_suite(source) for source in options.suite]
    bases = {options.base, *(suite.base for suite in suites)} - {None}
    inputs = [("the run", options.run), *(("W0", base) for base in bases), *(("a suite", s.file) for s in suites)]
    inputs += [("the reference", options.reference)] if options.reference else []
    require_writable(output, inputs=[(f"{what} {place}", Path(place)) for what, place in inputs])
    record = geomcheck.measure(
        options.run, base=options.base, suites=suites, reference=options.reference, workers=options.workers
    )
    geomcheck.write_record(record, output)
    print(f"{output}: {len(record.points)} checkpoints, {len(record.measured_weights())} weights measured")
    for name, reason in record.skipped.items():
        print(f"  left out {name}: {reason}")


def _report(options: argparse.Namespace) -> None:
    from geomcheck.report_command import report

    output = Path(options.output)
    report(options.runs, output, options.suite, base=options.base, reference=options.reference, workers=options.workers)
    print(output)


def _metrics(_: argparse.Namespace) -> None:
    from geomcheck.diagnostics import load_metrics

    for metric in load_metrics():
        print(f"{metric.name}: {metric.definition}")
        low, high = metric.range({})
        print(f"    unit {metric.unit.value}, {low:g} to {high:g}; fold {metric.fold}; source: {metric.source}")
        if metric.undefined:
            print(f"    undefined where {metric.undefined}")
        for parameter in metric.parameters:
            choices = f" ({', '.join(parameter.choices)})" if parameter.choices else ""
            print(f"    {parameter.name} = {parameter.default}{choices}: {parameter.about}")


def _suites(_: argparse.Namespace) -> None:
    from geomcheck.suite import shipped_suites

    for name, path in sorted(shipped_suites().items()):
        suite = geomcheck.load_suite(path)
        print(f"{name:12} {len(suite.expectations)} expectations, applies to {' '.join(suite.applies_to)}")
        print(f"{'':12} {suite.about}")


def _schema(_: argparse.Namespace) -> None:
    from geomcheck.suite import json_schema

    print(json.dumps(json_schema(), indent=2))
