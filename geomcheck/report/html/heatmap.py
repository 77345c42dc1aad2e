"""The data behind the map of the network: layer by module, every figure, a bounded number of checkpoints.

The page draws the map itself, from JSON whose size has a bound whatever the run: weights that share a layer and a
module (experts) are folded here, and only the highest and lowest of a cell keep their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

import numpy as np

from geomcheck.checkpoints.roles import Role
from geomcheck.checkpoints.weights import OUTSIDE, Layers, Weight
from geomcheck.report.figures import Figures, Statistic
from geomcheck.report.html.metrics import SPECTRUM, trajectories
from geomcheck.report.html.trajectories import shows
from geomcheck.report.text.screen import elide

MAX_LAYERS = 120
MAX_MODULES = 16
MAX_FIGURES = 20
MAX_VALUES = 250_000
"""Figures in the JSON of one page: with their digits about 2 MB."""
NAME_LENGTH = 120
OTHERS = "other modules"
LABEL = 24
"""Characters in the name of a row or a column."""
ROLES = ("embedding", *get_args(Role))
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NOT_SHOWN = ("frozen_share", SPECTRUM)
NORM = "update_norm"
ENERGY = "energy share"
SHARED = ("metric", "title", "shows", "fold", "percent", "degrees")
"""What a figure is in every run."""
_FOLDED = {"weighted": "mean by size"}


def payload(name: str, figures: Figures, runs: int) -> dict[str, Any]:
    """What the page's script needs of one run, of `runs` in the page; plain JSON types."""
    layers, modules, cells, member = _cells(figures.weights, Layers(figures.record.weights.values()))
    shown = sorted((s for s in figures.principal() if s.request.metric not in NOT_SHOWN), key=_familiar)[:MAX_FIGURES]
    per_checkpoint = max(1, len(cells) * len(shown) * runs)
    kept = spaced(len(figures.steps), max(2, MAX_VALUES // per_checkpoint))
    members, names = [np.flatnonzero(member == i).tolist() for i in range(len(cells))], _Names()
    frozen = [figures.frozen[kept][:, held].sum(axis=1).tolist() for held in members]

    def at_last(metric: str, stat: str) -> list[list[float | None]]:
        found = figures.of(metric, stat)
        return [_numbers(row) for row in _per_cell(figures, found, member, [-1])] if found else []

    return {
        "name": name,
        "steps": [figures.steps[i] for i in kept],
        "progress": [round(figures.record.points[i].progress, 4) for i in kept],
        "layers": layers,
        "modules": modules,
        "figures": [
            _figure(figures, statistic, member, kept, names)
            for statistic in shown
            if not np.isnan(figures.values(statistic)).all()
        ]
        + _energy(figures, member, kept, names),
        "cells": [
            {
                "at": list(cell),
                "count": len(held),
                "name": names[held[0]] if len(held) == 1 else None,
                **({"frozen": still} if any(still) else {}),
            }
            for cell, held, still in zip(cells, members, frozen, strict=True)
        ],
        "spectrum": [row for i in range(1, 17) for row in at_last(SPECTRUM, f"s{i:02d}")],
        "angles": {
            side: [row for stat in ("median", "p95", "max") for row in at_last("principal_angle", f"{side}.{stat}")]
            for side in ("left", "right")
        },
        "names": [elide(figures.weights[place].name, NAME_LENGTH, "…") for place in names],
    }


def _familiar(statistic: Statistic) -> tuple[int, Statistic]:
    """The metrics of the trajectories first, in their order."""
    name = statistic.request.metric
    return [*trajectories(), name].index(name), statistic


def spaced(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` places, evenly spaced, with the first and the last."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})


def _cells(weights: Sequence[Weight], called: Layers) -> tuple[list[str], list[str], list[tuple[int, int]], np.ndarray]:
    """Labels of rows and columns, the places of the cells that hold weights, and the cell of each weight."""
    layers = list(dict.fromkeys(called.number(weight) for weight in weights if weight.layer is not None))
    width = -(-len(layers) // MAX_LAYERS) or 1
    chunks = [layers[i : i + width] for i in range(0, len(layers), width)]
    row = {layer: index for index, chunk in enumerate(chunks) for layer in chunk}
    labels = [elide(_span(chunk), LABEL, "…") for chunk in chunks]
    labels += [OUTSIDE] if any(weight.layer is None for weight in weights) else []
    modules = list(dict.fromkeys(weight.module for weight in sorted(weights, key=_in_block)))
    kept = modules if len(modules) <= MAX_MODULES else [*modules[: MAX_MODULES - 1], OTHERS]
    place = {module: min(index, len(kept) - 1) for index, module in enumerate(modules)}
    where = [(len(labels) - 1 if w.layer is None else row[called.number(w)], place[w.module]) for w in weights]
    cells = sorted(set(where))
    index = {cell: number for number, cell in enumerate(cells)}
    member = np.array([index[cell] for cell in where], dtype=int)
    return labels, [elide(module, LABEL, "…") for module in kept], cells, member


def _span(layers: Sequence[str]) -> str:
    """The layers of one row: ``3``, ``3–5``, ``encoder 3–5``."""
    first, last = layers[0], layers[-1]
    stack = first.rpartition(" ")[0]
    return first if len(layers) == 1 else f"{first}–{last.removeprefix(f'{stack} ') if stack else last}"


def _in_block(weight: Weight) -> tuple[int, int]:
    """Attention before MLP, each in the order in which signals pass."""
    return ROLES.index(weight.role), [*MODULES, weight.module].index(weight.module)


def _figure(
    figures: Figures, statistic: Statistic, member: np.ndarray, kept: Sequence[int], names: _Names
) -> dict[str, Any]:
    """One metric on the map: the folded figure of each cell at each kept checkpoint, its extremes at the last."""
    folded = _per_cell(figures, statistic, member, kept)
    known, values = folded[~np.isnan(folded)], figures.values(statistic)
    last = np.flatnonzero(~np.isnan(values).all(axis=1))[-1]  # an alignment with the last checkpoint has none there
    return {
        "key": statistic.key,
        "metric": statistic.request.metric,
        "title": statistic.title,
        "shows": shows(statistic),
        "fold": _FOLDED.get(statistic.fold, statistic.fold),
        "percent": statistic.form.percent,
        "degrees": statistic.form.degrees,
        "log": bool(len(known) and known.min() > 0 and known.max() / known.min() > 30),
        "values": [_numbers(row) for row in folded],
        "extremes": _extremes(values[last], member, names),
    }


def _energy(figures: Figures, member: np.ndarray, kept: Sequence[int], names: _Names) -> list[dict[str, Any]]:
    """Which share of ``|D|_F^2`` of all weights that have an update norm lies in each cell; none where none has."""
    norm = figures.of(NORM)
    if norm is None:
        return []
    squares = figures.values(norm) ** 2
    totals = np.nansum(squares, axis=1, keepdims=True)
    if not totals.any():
        return []
    shares = np.where(totals > 0, squares, np.nan) / np.where(totals > 0, totals, 1.0)

    def of_cells(row: np.ndarray) -> np.ndarray:
        known = np.bincount(member, weights=~np.isnan(row))
        return np.where(known > 0, np.bincount(member, weights=np.nan_to_num(row)), np.nan)

    return [
        {
            "key": ENERGY,
            "metric": ENERGY,
            "title": ENERGY,
            "shows": "Which share of the update lies here: of the sum of its squares over all weights.",
            "fold": "sum",
            "percent": True,
            "degrees": False,
            "log": False,
            "values": [_numbers(of_cells(shares[index])) for index in kept],
            "extremes": _extremes(shares[-1], member, names),
        }
    ]


def _per_cell(figures: Figures, statistic: Statistic, member: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The folded figures of each cell's weights, shape (kept checkpoints, cells); NaN where there is none."""
    rows = figures.values(statistic)[list(kept)]
    if statistic.fold not in ("mean", "weighted"):
        members = [np.flatnonzero(member == cell).tolist() for cell in range(member.max() + 1)]
        return np.array([figures.folded_of(statistic, places) for places in members]).T[list(kept)]
    sizes = np.array([weight.numel for weight in figures.weights]) if statistic.fold == "weighted" else 1.0
    share = np.where(np.isnan(rows), 0.0, sizes)
    totals = [np.bincount(member, weights=row) for row in np.nan_to_num(rows) * share]
    counts = [np.bincount(member, weights=row) for row in share]
    with np.errstate(invalid="ignore"):
        return np.array(totals) / np.array(counts)


def _extremes(values: np.ndarray, member: np.ndarray, names: _Names) -> list[list[Any] | None]:
    """Per cell with several weights: name and figure of the lowest and the highest."""
    order = np.lexsort((values, member))
    order = order[~np.isnan(values[order])]
    bounds = np.searchsorted(member[order], np.arange(member.max() + 2))
    found: list[list[Any] | None] = [None] * (len(bounds) - 1)
    for cell, (start, end) in enumerate(pairwise(bounds.tolist())):
        if end - start > 1:
            first, last = int(order[start]), int(order[end - 1])
            found[cell] = [names[first], _digits(values[first]), names[last], _digits(values[last])]
    return found


class _Names(dict[int, int]):
    """The weights that the page names, each with its place in the list of names: the order of their first mention."""

    def __missing__(self, weight: int) -> int:
        self[weight] = len(self)
        return self[weight]


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_digits(value) for value in values]


def _digits(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None
