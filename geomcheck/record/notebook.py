"""A record as HTML for a notebook: its provenance, and the spread of its last figures over the weights."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from geomcheck._html import paragraph, table
from geomcheck._text import plural
from geomcheck.diagnostics import load_metrics
from geomcheck.record.long import unit_of
from geomcheck.record.tabular import Measured

ROWS = 40

HEAD = ("metric", "parameters", "step", "weights", "lowest", "median", "highest", "unit", "undefined")


def html_of(record: Measured) -> str:
    """The record as a short piece of HTML, which loads nothing."""
    steps = [point.step for point in record.points]
    span = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}"
    weights = plural(len(record.measured_weights()), "measured weight")
    head = paragraph(f"Record of {record.run}", f"{span}; W0: {record.origin.how}; {weights}")
    rows = list(_rows(record))
    more = f"<p>and {len(rows) - ROWS} more statistics</p>" if len(rows) > ROWS else ""
    whole = "<p><code>record.to_pandas()</code> has every figure.</p>"
    return f"<div>{head}{table(HEAD, rows[:ROWS], left=2)}{more}{whole}</div>"


def _rows(record: Measured) -> Iterator[tuple[object, ...]]:
    """Of each statistic that stands for its metric, the last checkpoint that has figures of it."""
    for request, stat in record.measured():
        column, known = record.column(request, stat), load_metrics().get(request.metric)
        if not len(column.steps) or (known is not None and stat != known.stat({})):
            continue
        step = int(column.steps.max())
        at = column.steps == step
        values = [value for value in column.values[at].tolist() if value == value]
        ends = [f"{f(values):.4g}" for f in (min, median, max)] if values else ["-"] * 3
        name = request.metric if stat == "value" else f"{request.metric} ({stat})"
        params = ", ".join(f"{key}={value}" for key, value in request.parameters().items() if value != "none")
        yield name, params, step, len(values), *ends, unit_of(request.metric), int(at.sum()) - len(values) or ""
