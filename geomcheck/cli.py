"""The ``geomcheck`` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import geomcheck
from geomcheck.commands import calibrate, compare, regime, report
from geomcheck.errors import GeomcheckError
from geomcheck.files import require_writable
from geomcheck.report.text import printable

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
        print(f"geomcheck: {printable(str(error))}", file=sys.stderr)
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
    measure.add_argument("--workers", metavar="N|ray", help="local workers, or your Ray cluster")
    measure.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="where to compute")
    measure.add_argument("--cache", metavar="PATH", help="directory that remembers what was measured (default: none)")
    measure.add_argument(
        "--dequantize", action="store_true", help="make fp32 of fp8 weights and their scales, and measure those"
    )
    measure.set_defaults(command=_measure)
    inspect = commands.add_parser("inspect", help="say what is in a run and what would be read, from headers only")
    inspect.add_argument("run", metavar="RUN", help="directory of checkpoints, or a record file")
    inspect.add_argument("--base", metavar="PATH", help="where W0 comes from: a directory or a Hub id")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(command=_inspect)
    calibrate.add_to(commands)
    compare.add_to(commands)
    regime.add_to(commands)
    report.add_to(commands)
    metrics = commands.add_parser("metrics", help="list the metrics with their definitions and parameters")
    metrics.set_defaults(command=_metrics)
    suites = commands.add_parser("suites", help="list the shipped suites")
    suites.set_defaults(command=_suites)
    schema = commands.add_parser("schema", help="print the JSON Schema of suites, for editors")
    schema.set_defaults(command=_schema)
    return parser


def _measure(options: argparse.Namespace) -> None:
    from geomcheck.checkpoints import find_base, open_base

    output = Path(options.output)
    suites = [geomcheck.load_suite(source) for source in options.suite]
    run = geomcheck.open_run(options.run)
    of_suites = [suite.base for suite in suites if suite.base is not None]
    given = open_base(options.base, "the given base") if options.base is not None else None
    base = find_base(run, given=given, suite=next(iter(of_suites), None))
    bases = {str(base.source.path), *of_suites}
    inputs = [("the run", options.run), *(("W0", place) for place in bases), *(("a suite", s.file) for s in suites)]
    inputs += [("the reference", options.reference)] if options.reference else []
    require_writable(output, inputs=[(f"{what} {place}", Path(place)) for what, place in inputs])
    record = geomcheck.measure(
        run,
        base=base,
        suites=suites,
        reference=options.reference,
        workers=options.workers,
        device=options.device,
        cache=options.cache,
        dequantize=options.dequantize,
    )
    geomcheck.write_record(record, output)
    print(f"{output}: {len(record.points)} checkpoints, {len(record.measured_weights())} weights measured")
    for note in record.notes:
        print(printable(f"  note: {note}"))
    for name, reason in record.skipped.items():
        print(f"  left out {name}: {reason}")


def _inspect(options: argparse.Namespace) -> None:
    from geomcheck.inspection import inspect
    from geomcheck.report.inspection import lines

    found = inspect(options.run, base=options.base)
    print(json.dumps(found.to_dict(), indent=1) if options.json else "\n".join(lines(found)))


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
