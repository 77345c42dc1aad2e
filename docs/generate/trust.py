"""The table of all metrics with what each says, and when not to trust it."""

from __future__ import annotations

from docs.generate.plain import words
from docs.generate.text import cell, prose
from geomcheck.diagnostics import load_metrics


def trust_table() -> str:
    """One row per metric."""
    rows = []
    for metric in load_metrics():
        said = words(metric)
        rows.append(f"| [`{metric.name}`](../metrics/{metric.name}.md) | {cell(said.shows)} | {prose(said.doubt)} |")
    return "\n".join(["| metric | what it says | when not to trust it |", "|---|---|---|", *rows])
