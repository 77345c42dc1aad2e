"""``geomcheck history``: the figures across merges, and what drifts."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from geomcheck.api import records_of
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON, MEASURING, WEIGHTS, add_command, selection
from geomcheck.cli.show import CSV, METRICS, metrics_of, write_csv
from geomcheck.files import replacing, require_writable
from geomcheck.history import History, history
from geomcheck.options import Option
from geomcheck.record.long import unit_of
from geomcheck.report.text.history import lines
from geomcheck.report.text.screen import Screen
from geomcheck.suite.language.selection import DEFAULT

HTML = Option(name="html", metavar="FILE", path=True, help="write a page with a chart per figure")


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "hold the records of many merges side by side, and tell what drifts"
    metrics = replace(METRICS, otherwise="all that two records or more hold")
    csv = replace(CSV, help="write the figures, a row per record and metric")
    given = "records, in the order of the merges; run directories are measured"
    add_command(commands, "history", run, about, metrics, WEIGHTS, csv, HTML, JSON, *MEASURING, runs=given)


def run(options: argparse.Namespace) -> None:
    """Read, compare and show. Raises GeomcheckError."""
    means, metrics = Means(options, options.runs), metrics_of(options.metrics)
    files = [Path(given) for given in (options.csv, options.html) if given]
    for path in files:
        require_writable(path, inputs=means.inputs())
    weights = selection(options.weights) if options.weights else DEFAULT
    with means.measuring() as how:
        records = records_of(options.runs, base=means.base, metrics=metrics, **how)
    names = [Path(given).stem for given in options.runs]
    found = history(records, names=names, metrics=metrics, weights=weights)
    if options.csv:
        with replacing(Path(options.csv)) as partial:
            write_csv(_table(found), partial)
    if options.html:
        from geomcheck.report.html.history import write_history  # with jinja2

        write_history(Path(options.html), found)
    if options.json:
        print(json.dumps(found.to_dict(), indent=1, allow_nan=False))
        return
    print("\n".join(lines(found, Screen.of_stream(sys.stdout))))
    for path in files:
        print(path)


def _table(found: History) -> pa.Table:
    rows = [
        {
            "record": number,
            "name": entry.name,
            "run": entry.run,
            "step": entry.step,
            "metric": one.metric.name,
            "params": one.request.params,
            "value": value,
            "unit": unit_of(one.metric.name),
            "undefined": reason or None,
        }
        for one in found.series
        for number, (entry, value, reason) in enumerate(zip(found.entries, one.values, one.reasons, strict=True), 1)
    ]
    return pa.Table.from_pylist(rows)
