"""The table of all metrics with what each says, and when not to trust it."""

from __future__ import annotations

from docs.generate.text import cell, prose
from geomcheck.diagnostics import load_metrics


def trust_table() -> str:
    """One row per metric."""
    rows = [
        f"| [`{metric.name}`](../metrics/{metric.name}.md) | {cell(metric.plainly.shows)} | {prose(metric.distrust)} |"
        for metric in load_metrics()
    ]
    return "\n".join(["| metric | what it says | when not to trust it |", "|---|---|---|", *rows])
