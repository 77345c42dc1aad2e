"""Every defect that a suite is tried with, from its declaration."""

from __future__ import annotations

from docs.generate.text import cell
from geomcheck.defects.registry import load_defects


def defect_table() -> str:
    """A row per defect."""
    rows = [f"| `{defect.name}` | {cell(defect.about)} |" for defect in load_defects()]
    return "\n".join(["| defect | what is wrong |", "|---|---|", *rows])
