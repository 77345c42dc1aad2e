"""The figures behind a verdict as a table: a column per checkpoint, a row per group, violations marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from geomcheck.report.facts import by_group, groups_outside, known, shown
from geomcheck.report.text.screen import ELLIPSIS, GAP, Screen, aligned, elided
from geomcheck.report.text.sparkline import sparkline
from geomcheck.suite.verdict import Facts, ObservedFacts

GROUPS_SHOWN = 8
CHECKPOINTS_SHOWN = 10
LABEL_SHARE = 3
"""A group's name keeps at least one part in so many of the screen, and as much more as the figures leave."""

_BESIDE: tuple[Literal["reference", "random", "low", "high"], ...] = ("reference", "random", "low", "high")
"""What a figure may be printed beside, where its checkpoint has one of its own."""


@dataclass(frozen=True)
class Series:
    """A row of a table: its label, a cell per checkpoint, and the sparkline behind them."""

    label: str
    cells: list[str]
    spark: str = ""
    named: bool = False
    """Whether the label is the name of a group, which may be elided."""


def grid(facts: Facts, screen: Screen, *, margin: int) -> list[str]:
    """The table in lines that fit beside `margin`; nothing where nothing was observed.

    The groups that violate the condition are listed, the furthest off first, or the closest to it when none does. Of a
    long run the checkpoints in the middle are left out; ``-vv`` shows all, in as many tables as they need.
    """
    groups, violated = by_group(facts["observed"]), groups_outside(facts)
    if not groups:
        return []
    listed = sorted(violated or groups, key=lambda group: -_distance(groups[group], facts))[:GROUPS_SHOWN]
    steps = sorted({entry["step"] for entry in facts["observed"]})
    rows = [Series("step", [f"{step} " for step in steps])]
    for group in listed:
        rows += _rows(group or "value", {entry["step"]: entry for entry in groups[group]}, steps, screen.levels, facts)
    lines = laid_out(rows, screen.width - margin, whole=screen.verbosity > 1)
    if len(violated) > len(listed):
        lines.append(f"and {len(violated) - len(listed)} more {facts['per']}s of {len(groups)}")
    return lines


def _rows(
    label: str, found: Mapping[int, ObservedFacts], steps: Sequence[int], levels: str, facts: Facts
) -> list[Series]:
    """A group's figures, marked where they violate the condition, and what each is compared with."""
    entries = [found.get(step) for step in steps]
    spark = sparkline([entry["value"] if entry else None for entry in entries], levels=levels)
    marks = ["!" if entry and entry["holds"] is False else " " for entry in entries]
    cells = [f"{shown(e['value'] if e else None, facts)}{mark}" for e, mark in zip(entries, marks, strict=True)]
    names = [name for name in _BESIDE if any(name in entry for entry in found.values())]
    return [
        Series(label, cells, spark if len(steps) > 1 else "", named=True),
        *(Series(name, [f"{shown(e.get(name) if e else None, facts)} " for e in entries]) for name in names),
    ]


def laid_out(rows: Sequence[Series], room: int, *, whole: bool) -> list[str]:
    """The rows in lines of at most `room` columns: sparklines go first, then checkpoints in the middle."""
    count, spark = len(rows[0].cells), max(len(row.spark) for row in rows)
    cell = len(GAP) + max(len(text) for row in rows for text in row.cells)
    most = max(room // LABEL_SHARE, room - cell * min(count, CHECKPOINTS_SHOWN + 1))
    labels = dict(zip(names := [row.label for row in rows if row.named], elided(names, most), strict=True))
    rows = [replace(row, label=labels.get(row.label, row.label)) for row in rows]
    label = max(len(row.label) for row in rows)
    fitting = max(3, (room - label) // cell)
    columns = _columns(count, min(CHECKPOINTS_SHOWN, fitting if count <= fitting else fitting - 1))
    if whole:
        tables = [list(range(start, min(start + fitting, count))) for start in range(0, count, fitting)]
        return [line for table in tables for line in _printed(rows, table, sparks=False)]
    return _printed(rows, columns, sparks=label + len(columns) * cell + len(GAP) + spark <= room)


def _printed(rows: Sequence[Series], columns: Sequence[int | None], *, sparks: bool) -> list[str]:
    figures = [[ELLIPSIS if i is None else row.cells[i] for i in columns] for row in rows]
    table = [[row.label, *cells, row.spark if sparks else ""] for row, cells in zip(rows, figures, strict=True)]
    return aligned(table, right=range(1, len(columns) + 1))


def _columns(count: int, most: int) -> list[int | None]:
    """Which checkpoints to print; None stands for those left out."""
    if count <= most:
        return list(range(count))
    half = max(1, most // 2)
    return [*range(half), None, *range(count - half, count)]


def _distance(found: Sequence[ObservedFacts], facts: Facts) -> float:
    """How far a group is outside its bounds at its worst, below 0 where it is inside; 0 without fixed bounds."""
    bounds = facts["bounds"]
    low, high = (bounds["low"], bounds["high"]) if bounds else (None, None)
    distances = []
    for entry, value in known(found):
        least, most = entry.get("low", low), entry.get("high", high)
        distances += [least - value] if least is not None else []
        distances += [value - most] if most is not None else []
    return max(distances, default=0.0)
