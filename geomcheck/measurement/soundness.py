"""Figures that cannot be those of one run against its W0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from geomcheck.checkpoints import BaseModel
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError
from geomcheck.measurement.measured import Place
from geomcheck.measurement.record import Record
from geomcheck.measurement.request import Request
from geomcheck.measurement.table import Table

ANOTHER_MODEL = 1.0
"""Relative update norm at which W_t is of another model than W0: two unrelated ones are about sqrt(2) apart."""

FOREIGN = 10
"""How many times the median of those that moved a relative norm is where W0 is of another model in this weight."""

HALF = 0.5
"""Share of the matrices in motion that may stand still between two checkpoints while others move."""

Digests = Mapping[Place, Mapping[str, str]]
"""Contents of tensors by place and name, as far as they are known."""


def require_sound(record: Record, base: BaseModel, digests: Digests | None = None) -> tuple[str, ...]:
    """Refuse figures that cannot be those of one run against its W0.

    Args:
        digests: of everything that was read, measured or not.

    Returns:
        What a reader of the figures should know.

    Raises:
        RunError: two checkpoints hold the same weights, or half of them; one is of another model than W0, or in part;
            or weights that had moved equal W0 again.
    """
    if not record.measured_weights():
        return ()
    _require_distinct(record, digests or {})
    _require_no_return(record)
    _require_same_model(record, base)
    return tuple(_standing_still(record, digests or {}))


def _require_distinct(record: Record, digests: Digests) -> None:
    """Refuse checkpoints with the same weights: comparing them says nothing, and one was likely copied."""
    seen: dict[str, tuple[str, int]] = {record.fingerprints["W0"]: ("", 0)}
    for index, point in enumerate(record.points):
        twin, at = seen.setdefault(record.fingerprints[point.name], (point.name, index))
        others = [digests.get(("run", place), {}) for place in (at, index)]
        if twin not in ("", point.name) and others[0] == others[1]:
            raise RunError(f"{twin} and {point.name} hold the same weights: one is a copy, or training stood still")


def _require_no_return(record: Record) -> None:
    """Refuse a checkpoint where weights equal W0 again that had moved before: a wrong file, or half of one."""
    names = sorted(record.measured_weights())
    frozen = _table(record, "frozen_share", names)
    moved = np.zeros(len(names), dtype=bool)
    for point, shares, there in zip(record.points, frozen.values, frozen.there, strict=True):
        back = np.flatnonzero(moved & (shares == 1)).tolist()
        if back:
            raise RunError(
                f"{point.name}: {len(back)} of {int(there.sum())} weights equal W0 again, though they had moved "
                f"before, such as {names[back[0]]}: a wrong file, or one that was not written to the end"
            )
        moved |= shares == 0


def _require_same_model(record: Record, base: BaseModel) -> None:
    """Refuse a W0, or a checkpoint, that must be of another model, as a whole or in some matrices."""
    names = sorted(record.measured_weights())
    norms = _table(record, "relative_update_norm", names)
    in_layers = np.array([record.weights[name].kind in ("attention", "mlp") for name in names])
    for point, values in zip(record.points, norms.values, strict=True):
        known = values[~np.isnan(values)]
        if not len(known):
            continue
        median = float(np.median(known))
        if median >= ANOTHER_MODEL:
            raise RunError(
                f"W0 ({base.source.path}, {base.how}) and {point.name} are different models: half of the weights "
                f"differ by {median:.2f} times their own norm or more. Give the model that this run started "
                "from"
            )
        usual = float(np.median(known[known > 0])) if (known > 0).any() else 0.0
        foreign = np.flatnonzero(in_layers & (np.nan_to_num(values) >= max(ANOTHER_MODEL, FOREIGN * usual))).tolist()
        if foreign:
            raise RunError(
                f"W0 ({base.source.path}, {base.how}) and {point.name} are different models in {len(foreign)} of "
                f"{len(names)} weights: {names[foreign[0]]} differs by {values[foreign[0]]:.3g} times its own norm, "
                f"and half of those that moved by {usual:.2g} at most. A part of W0, or of the checkpoint, is another "
                "model's, or damaged"
            )


def _standing_still(record: Record, digests: Digests) -> Iterator[str]:
    """A remark on matrices that are those of the checkpoint before, to the bit, while others move on.

    Raises:
        RunError: it is half of all that had moved before, or more.
    """
    names = sorted(record.measured_weights())
    moved = _table(record, "frozen_share", names).values == 0
    for index in range(1, len(record.points)):
        before, here = (digests.get(("run", place), {}) for place in (index - 1, index))
        moving = [name for name, has_moved in zip(names, moved[index - 1].tolist(), strict=True) if has_moved]
        still = [name for name in moving if name in here and here[name] == before.get(name)]
        if not still:
            continue
        point, earlier = record.points[index].name, record.points[index - 1].name
        what = (
            f"{point}: {len(still)} of {len(moving)} weights are those of {earlier} to the bit, {_named(record, still)}"
        )
        if len(still) >= HALF * len(moving):
            raise RunError(f"{what}: a stale file, or a save that was not finished")
        yield f"{what}: a stale file, or a part that no longer trains"


def _named(record: Record, names: Sequence[str]) -> str:
    """`names` in words: the layers that they are all of, or the first of them."""
    by_layer: dict[tuple[str, int | None], set[str]] = {}
    for name in record.measured_weights():
        by_layer.setdefault((record.weights[name].scope, record.weights[name].layer), set()).add(name)
    layers = [place for place, held in by_layer.items() if place[1] is not None and held <= set(names)]
    whole = [f"{scope} layer {number}".strip() for scope, number in sorted(layers, key=str)]
    if len(whole) == 1 and len(by_layer[layers[0]]) == len(names):
        return f"all of {whole[0]}"
    return f"such as {names[0]}"


def _table(record: Record, metric: str, names: list[str]) -> Table:
    column = record.column(Request.of(load_metrics()[metric], {}), "value")
    return Table.of(column, [point.step for point in record.points], names)
