"""The data behind the map of the network: layer by module, every figure, a bounded number of checkpoints.

The page draws the map itself, from JSON whose size has a bound whatever the run: weights that share a layer and a
module (experts) are folded here, and only the highest and lowest of a cell keep their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geomcheck.checkpoints.weights import Weight
from geomcheck.record import Request
from geomcheck.report.html.columns import Column, Columns
from geomcheck.report.html.wanted import SPECTRUM, trajectories

MAX_LAYERS = 120
MAX_MODULES = 16
MAX_FIGURES = 20
MAX_VALUES = 250_000
"""Figures in the JSON of one page: with their digits about 2 MB."""
NAME_LENGTH = 120
OUTSIDE = "outside layers"
OTHERS = "other modules"
KINDS = ("embedding", "attention", "mlp", "norm", "other", "head")
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NOT_SHOWN = ("frozen_share", SPECTRUM)


def payload(name: str, columns: Columns, runs: int) -> dict[str, Any]:
    """What the page's script needs of one run, of `runs` in the page; plain JSON types."""
    layers, modules, cells, member = _cells(columns)
    shown = sorted((p for p in columns.principal() if p[0].metric not in NOT_SHOWN), key=_familiar)[:MAX_FIGURES]
    per_checkpoint = max(1, len(cells) * len(shown) * runs)
    kept = spaced(len(columns.steps), max(2, MAX_VALUES // per_checkpoint))
    names = _Names(columns)
    figures = [_figure(columns.column(*pair), member, len(cells), kept, names) for pair in shown]
    spectrum = [c for i in range(1, 17) if (c := columns.of(SPECTRUM, f"s{i:02d}")) is not None]
    angles = {
        side: [
            _numbers(_per_cell(column, member, len(cells), [-1])[0])
            for stat in ("median", "p95", "max")
            if (column := columns.of("principal_angle", f"{side}.{stat}")) is not None
        ]
        for side in ("left", "right")
    }
    return {
        "name": name,
        "steps": [columns.steps[i] for i in kept],
        "progress": [round(columns.record.points[i].progress, 4) for i in kept],
        "layers": layers,
        "modules": modules,
        "cells": [
            {"at": list(cell), "count": int((member == i).sum()), "name": names.only(member, i)}
            for i, cell in enumerate(cells)
        ],
        "figures": [figure for figure in figures if figure is not None],
        "spectrum": [_numbers(_per_cell(column, member, len(cells), [-1])[0]) for column in spectrum],
        "angles": angles,
        "names": names.listed,
    }


def _familiar(pair: tuple[Request, str]) -> tuple[int, tuple[Request, str]]:
    """The metrics of the trajectories first, in their order."""
    names, name = trajectories(), pair[0].metric
    return names.index(name) if name in names else len(names), pair


def spaced(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` places, evenly spaced, with the first and the last."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})


def _cells(columns: Columns) -> tuple[list[str], list[str], list[tuple[int, int]], np.ndarray]:
    """Labels of rows and columns, the places of the cells that hold weights, and the cell of each weight."""
    layers = sorted({weight.layer for weight in columns.weights if weight.layer is not None})
    width = -(-len(layers) // MAX_LAYERS) or 1
    chunks = [layers[i : i + width] for i in range(0, len(layers), width)]
    row = {layer: index for index, chunk in enumerate(chunks) for layer in chunk}
    labels = [str(chunk[0]) if len(chunk) == 1 else f"{chunk[0]}–{chunk[-1]}" for chunk in chunks]
    if any(weight.layer is None for weight in columns.weights):
        labels.append(OUTSIDE)
    modules = list(dict.fromkeys(weight.module for weight in sorted(columns.weights, key=_in_block)))
    kept = modules if len(modules) <= MAX_MODULES else [*modules[: MAX_MODULES - 1], OTHERS]
    place = {module: min(index, len(kept) - 1) for index, module in enumerate(modules)}
    where = [
        (len(labels) - 1 if weight.layer is None else row[weight.layer], place[weight.module])
        for weight in columns.weights
    ]
    cells = sorted(set(where))
    index = {cell: number for number, cell in enumerate(cells)}
    return labels, [cut(module, 24) for module in kept], cells, np.array([index[cell] for cell in where], dtype=int)


def _in_block(weight: Weight) -> tuple[int, int]:
    """Attention before MLP, each in the order in which signals pass."""
    order = MODULES.index(weight.module) if weight.module in MODULES else len(MODULES)
    return KINDS.index(weight.kind), order


def _figure(
    column: Column, member: np.ndarray, cells: int, kept: Sequence[int], names: _Names
) -> dict[str, Any] | None:
    """One metric on the map: the mean of each cell at each kept checkpoint, its extremes at the last."""
    if np.isnan(column.values).all():
        return None
    means = _per_cell(column, member, cells, kept)
    known = means[~np.isnan(means)]
    last = column.values[_last_with_figures(column)]
    return {
        "key": column.key,
        "metric": column.request.metric,
        "title": column.title,
        "shows": column.words.shows,
        "percent": column.form.percent,
        "degrees": column.form.degrees,
        "log": bool(len(known) and known.min() > 0 and known.max() / known.min() > 30),
        "values": [_numbers(row) for row in means],
        "extremes": _extremes(last, member, cells, names),
    }


def _last_with_figures(column: Column) -> int:
    """The last checkpoint with any figure: an alignment with the last checkpoint has none there."""
    return int(np.nonzero(~np.isnan(column.values).all(axis=1))[0][-1])


def _per_cell(column: Column, member: np.ndarray, cells: int, kept: Sequence[int]) -> np.ndarray:
    """The mean over the weights of each cell, shape (kept checkpoints, cells); NaN where there is no figure."""
    rows = []
    for values in column.values[list(kept)]:
        present = ~np.isnan(values)
        total = np.bincount(member[present], weights=values[present], minlength=cells)
        count = np.bincount(member[present], minlength=cells)
        rows.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.array(rows)


def _extremes(values: np.ndarray, member: np.ndarray, cells: int, names: _Names) -> list[list[Any] | None]:
    """Per cell with several weights: name and figure of the lowest and the highest."""
    order = np.lexsort((values, member))
    order = order[~np.isnan(values[order])]
    found: list[list[Any] | None] = [None] * cells
    bounds = np.searchsorted(member[order], np.arange(cells + 1))
    for cell in range(cells):
        low, high = bounds[cell], bounds[cell + 1] - 1
        if high > low:
            first, last = int(order[low]), int(order[high])
            found[cell] = [names.place(first), _digits(values[first]), names.place(last), _digits(values[last])]
    return found


class _Names:
    """The weight names that the page needs, each once."""

    def __init__(self, columns: Columns) -> None:
        self._weights = columns.weights
        self._places: dict[int, int] = {}
        self.listed: list[str] = []

    def place(self, weight: int) -> int:
        """Where the name of a weight stands in `listed`."""
        if weight not in self._places:
            self._places[weight] = len(self.listed)
            self.listed.append(cut(self._weights[weight].name, NAME_LENGTH))
        return self._places[weight]

    def only(self, member: np.ndarray, cell: int) -> int | None:
        """The place of a cell's name, if it holds one weight."""
        found = np.nonzero(member == cell)[0]
        return self.place(int(found[0])) if len(found) == 1 else None


def cut(name: str, length: int) -> str:
    """`name` with its middle left out where it is longer than `length`."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_digits(value) for value in values]


def _digits(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None
