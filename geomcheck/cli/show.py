"""``geomcheck show``: the figures of one run, as a table, CSV, Parquet or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from geomcheck._version import VERSION
from geomcheck.api import records_of
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON, MEASURING, WEIGHTS, add_command, selection
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import UsageError
from geomcheck.files import replacing, require_writable
from geomcheck.options import Option
from geomcheck.record import Record
from geomcheck.record.long import long_rows
from geomcheck.report.figures import Figures
from geomcheck.report.series import Trajectory, trajectories
from geomcheck.report.text.figures import lines
from geomcheck.report.text.screen import Screen
from geomcheck.suite.language.names import metric_hint

PER = Option(
    name="per",
    choices=("run", "layer", "module", "weight"),
    default="run",
    help="of what a row is: of the run, each folded over weights as suites fold it; of each layer, module or weight",
)
METRICS = Option(name="metrics", metavar="NAME,...", help="metrics to show", otherwise="all that are measured")
CSV = Option(name="csv", metavar="FILE", path=True, help="write the same figures in long form, a row each")
PARQUET = Option(name="parquet", metavar="FILE", path=True, help="the same as Parquet")

FORMULA = r"\A([=+\-@\t\r])"
"""How a text begins that a spreadsheet would calculate."""


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "show the figures of one run, as a table or a file"
    weights = replace(WEIGHTS, default=None, otherwise="linear")
    options = (PER, METRICS, weights, CSV, PARQUET, JSON, *MEASURING)
    add_command(commands, "show", run, about, *options, run="run directory or record")


def run(options: argparse.Namespace) -> None:
    """Measure or read, and show. Raises GeomcheckError."""
    means, metrics = Means(options, [options.run]), metrics_of(options.metrics)
    outputs = (options.csv, write_csv), (options.parquet, pq.write_table)
    files = [(Path(given), write) for given, write in outputs if given]
    for path, _ in files:
        require_writable(path, inputs=means.inputs())
    weights = selection(options.weights) if options.weights else None
    with means.measuring() as how:
        (record,) = records_of([options.run], base=means.base, metrics=metrics, weights=weights, **how)
    _require_measured(record, metrics)
    found = trajectories(Figures(record), per=options.per, metrics=metrics or (), weights=weights)
    if not found:
        raise UsageError(f"{options.run}: no figure of these weights is in the record; measure the run with --weights")
    for path, write in files:
        with replacing(path) as partial:
            write(_table(record, found), partial)
    if options.json:
        print(json.dumps(_document(record, found, options), indent=1, allow_nan=False))
        return
    print("\n".join(lines(record, found, Screen.of_stream(sys.stdout))).rstrip())
    for path, _ in files:
        print(path)


def metrics_of(text: str | None) -> list[str] | None:
    """The metrics that are named, each once. Raises UsageError where there is none such."""
    if text is None:
        return None
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in load_metrics():
            raise UsageError(f"no metric is called {name!r}{metric_hint(name)}")
    return names


def _require_measured(record: Record, metrics: list[str] | None) -> None:
    missing = [name for name in metrics or () if name not in record.measured_metrics()]
    if missing:
        held = ", ".join(sorted(record.measured_metrics())) or "nothing"
        raise UsageError(f"the record of {record.run} holds no {missing[0]}; it holds {held}. Show the run instead")


def _table(record: Record, found: list[Trajectory]) -> pa.Table:
    return long_rows([row for one in found for row in one.rows(record.run)])


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a table as CSV, its texts as texts: one that a spreadsheet would take for a formula is marked with `'`."""
    texts = [pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in table.schema]
    table = table.cast(pa.schema(texts))
    for index, one in enumerate(texts):
        if pa.types.is_string(one.type) or pa.types.is_large_string(one.type):
            marked = pc.replace_substring_regex(table.column(index), pattern=FORMULA, replacement=r"'\1")
            table = table.set_column(index, one, marked)
    pyarrow.csv.write_csv(table, path)


def _document(record: Record, found: list[Trajectory], options: argparse.Namespace) -> dict[str, Any]:
    points = record.points
    return {
        "format": 1,
        "geomcheck": VERSION,
        "run": record.run,
        "path": record.path,
        "base": {"path": record.origin.path, "how": record.origin.how},
        "checkpoints": [{"name": p.name, "step": p.step, "progress": p.progress} for p in points],
        "per": options.per,
        "metrics": [one.to_dict() for one in found],
    }
