"""The figures of a run as tables of 80 columns: a row per metric, layer, module or weight, a column per checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from geomcheck.record import Record
from geomcheck.record.points import early_end
from geomcheck.report.facts import grouped
from geomcheck.report.safe import printable
from geomcheck.report.series import Cell, Trajectory
from geomcheck.report.text.grid import Series, laid_out
from geomcheck.report.text.screen import GAP, Screen
from geomcheck.report.text.sparkline import sparkline

MARK = "*"
INDENT = "  "
GAPS_TOLD = 8

MOST_IN_TABLES = 30
"""Checkpoints that are all printed; of more, those in the middle are left to files."""


def lines(record: Record, found: Sequence[Trajectory], screen: Screen) -> list[str]:
    """All that was `found`, for people; where a figure is missing or not of all weights, a note says why."""
    text = [f"{record.run}: {span(record)}, W0: {record.origin.how}"]
    by_metric = grouped((one.statistic, one) for one in found)
    if any(one.group is not None for one in found):
        for own in by_metric.values():
            text += ["", own[0].name, *_table(own, [one.group or "run" for one in own], screen)]
    elif found:
        text += ["", *_table(found, [one.name for one in found], screen)]
    text += ["", *_gaps(found, screen)]
    return [printable(line) for line in text]


def span(record: Record) -> str:
    """Which checkpoints a record has."""
    steps = [point.step for point in record.points]
    told = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}"
    end = early_end(record.points)
    return f"{told} (ended at {end})" if end else told


def _table(found: Sequence[Trajectory], labels: Sequence[str], screen: Screen) -> list[str]:
    """One table where its checkpoints fit, if need be with a digit less; else several, or the ends of a long run."""
    room = screen.width - len(INDENT)
    tables = [_rows(found, labels, screen, digits) for digits in (4, 3)]
    rows = next((rows for rows in tables if _width(rows) <= room), tables[0])
    return [INDENT + line for line in laid_out(rows, room, whole=_width(rows) > room and _is_short(found[0]))]


def _rows(found: Sequence[Trajectory], labels: Sequence[str], screen: Screen, digits: int) -> list[Series]:
    pad = " " if any(_is_marked(cell) for one in found for cell in one.cells) else ""
    rows = [Series("step", [f"{cell.point.step}{pad}" for cell in found[0].cells])]
    for one, label in zip(found, labels, strict=True):
        cells = [f"{one.shown(cell.value, digits)}{MARK if _is_marked(cell) else pad}" for cell in one.cells]
        spark = sparkline(one.values, levels=screen.levels) if len(one.cells) > 1 else ""
        rows.append(Series(label, cells, spark, named=True))
    return rows


def _width(rows: Sequence[Series]) -> int:
    """Columns of a table with every checkpoint, without sparklines."""
    cell = len(GAP) + max(len(text) for row in rows for text in row.cells)
    return max(len(row.label) for row in rows) + cell * len(rows[0].cells)


def _is_marked(cell: Cell) -> bool:
    return bool(cell.gap) and cell.value is not None


def _is_short(one: Trajectory) -> bool:
    return len(one.cells) <= MOST_IN_TABLES


def _gaps(found: Sequence[Trajectory], screen: Screen) -> Iterator[str]:
    """Why figures are missing, the first of many; a checkpoint where one is fixed by definition is a word alone."""
    gaps = [(one, cell) for one in found for cell in one.cells if cell.gap and not cell.trivial]
    trivial = any(cell.trivial for one in found for cell in one.cells)
    if any(cell.value is not None for _, cell in gaps):
        yield f"{MARK} of those weights that have a figure"
    for one, cell in gaps[:GAPS_TOLD]:
        group = f" of {one.group}" if one.group else ""
        yield from screen.wrapped(f"{one.name}{group} at step {cell.point.step}: {cell.gap}", hang=2)
    if len(gaps) > GAPS_TOLD:
        yield f"and {len(gaps) - GAPS_TOLD} more; --json and --csv have all"
    if trivial:
        yield "- without a note: fixed by definition, as of a checkpoint compared with itself"
    if found and not _is_short(found[0]):
        yield "checkpoints in the middle are left out; --json and --csv have all"
