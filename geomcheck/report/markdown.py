"""The verdicts as a Markdown table, for the summary page of a GitHub Actions step."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from geomcheck.report.text import OUTCOME_WORDS, printable, shown

_ACTIVE = re.compile(r"([\\`*_{}\[\]<>()#+!|&~-])")


def append_step_summary(verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Append the table to the file that ``$GITHUB_STEP_SUMMARY`` names; nothing where it is not set."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with open(path, "a", encoding="utf-8") as summary:
            summary.write(table(verdicts))


def table(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """One row per expectation."""
    if not verdicts:
        return "### geomcheck\n\nNothing was checked.\n"
    lines = ["### geomcheck", "", "| | run | expectation | metric | condition | last value |", "|---" * 6 + "|"]
    for verdict in verdicts:
        values = [entry["value"] for entry in verdict["observed"] if entry["value"] is not None]
        cells = [
            OUTCOME_WORDS[verdict["outcome"]],
            verdict["run"],
            f"{verdict['suite']}::{verdict['id']}",
            verdict["metric"],
            verdict["condition"],
            shown(values[-1], verdict) if values else verdict["message"],
        ]
        lines.append("| " + " | ".join(escape(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` as literal Markdown on one line."""
    return _ACTIVE.sub(r"\\\1", printable(text).replace("\n", " "))
