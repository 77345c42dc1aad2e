"""Refuse figures that cannot be those of one run against its W0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from geomcheck.checkpoints import BaseWeights
from geomcheck.checkpoints.weights import Layers
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError
from geomcheck.measurement.content import fingerprint
from geomcheck.measurement.measured import W0, Snapshot
from geomcheck.record import Record, Request
from geomcheck.record.column import Table

ANOTHER_MODEL = 1.0
"""Relative update norm from which W_t counts as another model than W0; two unrelated models are sqrt(2) apart."""

FOREIGN = 10
"""From how many times the median of the weights that moved a relative norm shows that W0 is another model there."""

HALF = 0.5
"""From what share of the matrices, all of which had moved at every checkpoint, standing still at once is refused."""

UNLIKE = 2
"""From what factor such a norm must grow unlike the median along the run; training moves all weights at one pace."""

Digests = Mapping[Snapshot, Mapping[str, str]]
"""Digests of tensors by snapshot and name, as far as they are known."""


def require_sound(record: Record, base: BaseWeights, digests: Digests | None = None) -> tuple[str, ...]:
    """Refuse figures that cannot be those of one run against its W0.

    Args:
        digests: of everything that was read, measured or not.

    Returns:
        What a reader of the figures should know.

    Raises:
        RunError: two checkpoints hold the same matrices, or half of them; one is of another model than W0, or in part;
            weights that had moved equal W0 again; or nothing but a cast lies between W0 and a checkpoint.
    """
    if not record.measured_weights():
        return ()
    _require_distinct(record, digests or {})
    _require_motion(record, digests or {})
    if not _measured(record):
        return ()
    _require_no_return(record)
    _require_more_than_a_cast(record, base)
    return (*_of_another_model(record, base), *_standing_still(record, digests or {}))


def _require_distinct(record: Record, digests: Digests) -> None:
    """Refuse checkpoints with the same matrices: one was copied. Those of W0 are frozen: vectors alone may train."""
    matrices = _matrices(record)
    start = digests.get(W0, {})
    seen = {record.fingerprints["W0"]: "", fingerprint({n: start[n] for n in matrices if n in start}): ""}
    for index, point in enumerate(record.points):
        known = digests.get(("run", index), {})
        whole = fingerprint({name: known[name] for name in matrices if name in known}) if known else ""
        twin = seen.setdefault(whole or record.fingerprints[point.name], point.name)
        if twin not in ("", point.name) and record.fingerprints[point.name] != record.fingerprints["W0"]:
            earlier = next(at for at, other in enumerate(record.points) if other.name == twin)
            everything = bool(known) and known == digests.get(("run", earlier), {})
            read = sum(name in known for name in matrices) or len(record.measured_weights())
            where = "" if everything else f" in the {read} matrices that were read, and differ elsewhere"
            raise RunError(
                f"{twin} and {point.name} hold the same weights{where}: one is a copy, or training stood still"
            )


def _require_motion(record: Record, digests: Digests) -> None:
    """Refuse a checkpoint where half of the matrices stand still that had all moved from each checkpoint to the next.

    Training that changes a part at a time is another matter: there, some always stand still. This is of all matrices,
    whatever is requested of them, so that a verdict does not depend on what else is measured.
    """
    snapshots: list[Snapshot] = [W0, *(("run", index) for index in range(len(record.points)))]
    known = [digests.get(snapshot, {}) for snapshot in snapshots]
    names = [name for name in _matrices(record) if all(name in held for held in known)]
    dense, *moves = ({name for name in names if here[name] != before[name]} for before, here in pairwise(known))
    for index, moving in enumerate(moves, 1):
        still = dense - moving
        if moving == dense:
            continue
        if moving <= dense and len(still) >= max(1, HALF * len(dense)):
            raise RunError(
                f"{record.points[index].name}: {len(still)} of {len(dense)} matrices are those of "
                f"{record.points[index - 1].name} to the bit, such as {min(still)}, though all had moved before: a "
                "stale file, or a save that was not finished"
            )
        return


def _require_no_return(record: Record) -> None:
    """Refuse a checkpoint where weights equal W0 again that had moved before: a wrong file, or half of one."""
    names = _measured(record)
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


def _require_more_than_a_cast(record: Record, base: BaseWeights) -> None:
    """Refuse a checkpoint none of whose weights visibly changed, though they differ: W0, written through another format
    than its own. Its update is rounding, which bands of any metric would judge."""
    if "update_support" not in record.measured_metrics():
        return
    names = _measured(record)
    supports = _table(record, "update_support", names)
    norms = _table(record, "relative_update_norm", names).values
    for point, visible, there, norm in zip(record.points, supports.values, supports.there, norms, strict=True):
        moved = there & (norm > 0)
        if moved.any() and not visible[moved].any():
            raise RunError(
                f"{point.name}: {int(moved.sum())} weights differ from W0 ({base.source.path}, {base.how}), by "
                f"{norm[moved].max():.2g} of their norm, but in no entry visibly: after a cast to bf16 they are W0's. "
                "This is W0 written in another format, such as the base beside an adapter; give what was trained"
            )


def _of_another_model(record: Record, base: BaseWeights) -> Iterator[str]:
    """A remark on matrices that differ from W0 by more than themselves while others hardly move. Raises RunError if it
    is half of them, or they do not move as the others do, so that no training explains it."""
    names = _measured(record)
    norms = np.nan_to_num(_table(record, "relative_update_norm", names).values)
    usual = np.array([float(np.median(row[row > 0])) if (row > 0).any() else 0.0 for row in norms])
    in_layers = np.array([record.weights[name].role in ("attention", "mlp", "router") for name in names])
    for point, row in zip(record.points, norms, strict=True):
        median = float(np.median(row))
        if median >= ANOTHER_MODEL:
            raise RunError(
                f"W0 ({base.source.path}, {base.how}) and {point.name} are different models: half of the weights "
                f"differ by {median:.2f} times their own norm or more. Give the model that this run started from"
            )
    foreign = in_layers & (norms >= np.maximum(ANOTHER_MODEL, FOREIGN * usual)[:, None])
    if not foreign.any():
        return
    pace = np.ma.masked_equal(norms, 0) / np.maximum(usual, np.finfo(float).tiny)[:, None]
    unlike = foreign.any(axis=0) & (pace.max(axis=0) >= UNLIKE * pace.min(axis=0)).filled(False)
    worst = foreign & (unlike if unlike.any() else True)
    row, column = (int(index) for index in np.argwhere(worst)[0])
    what = (
        f"W0 ({base.source.path}, {base.how}) and {record.points[row].name} are different models in "
        f"{int(worst[row].sum())} of {len(names)} weights: {names[column]} differs by {norms[row, column]:.3g} times "
        f"its own norm, and half of those that moved by {usual[row]:.2g} at most. A part of W0, or of the checkpoint, "
        "is another model's, or damaged"
    )
    if unlike.any():
        raise RunError(what)
    yield f"{what}; or these weights were initialised anew before training"


def _standing_still(record: Record, digests: Digests) -> Iterator[str]:
    """A remark on matrices that are those of an earlier checkpoint, to the bit, though they had moved by then."""
    names = _measured(record)
    moved = _table(record, "frozen_share", names).values == 0
    seen: dict[tuple[str, str], int] = {}
    repeats: dict[tuple[int, int], list[str]] = {}
    for index in range(len(record.points)):
        here = digests.get(("run", index), {})
        for name, has_moved in zip(names, moved[index].tolist(), strict=True):
            if not has_moved or name not in here:
                continue
            before = seen.get((name, here[name]))
            if before is not None:
                repeats.setdefault((index, before), []).append(name)
            seen[name, here[name]] = index
    if not repeats:
        return
    index, before = max(repeats, key=lambda pair: (len(repeats[pair]), -pair[0]))
    still, others = repeats[index, before], len({at for at, _ in repeats}) - 1
    more = f" (and so at {others} more checkpoint{'s' if others > 1 else ''})" if others else ""
    yield (
        f"{record.points[index].name}: {len(still)} of {int(moved[before].sum())} weights are those of "
        f"{record.points[before].name} to the bit, {_named(record, still)}{more}: a stale file, or a part that was not "
        "trained in between"
    )


def _named(record: Record, names: Sequence[str]) -> str:
    """`names` in words: the layer of which they are all weights, or the first of them."""
    layers = Layers(record.weights.values())
    by_layer: dict[str, set[str]] = {}
    for name in record.measured_weights():
        if record.weights[name].layer is not None:
            by_layer.setdefault(layers.label(record.weights[name]), set()).add(name)
    whole = next((layer for layer, held in by_layer.items() if held == set(names)), None)
    if whole is not None:
        return f"all of {whole}"
    return f"such as {names[0]}"


def _matrices(record: Record) -> list[str]:
    """All matrices of the run, whatever is requested of them."""
    return [name for name, weight in record.weights.items() if weight.is_matrix]


def _measured(record: Record) -> list[str]:
    """The matrices that have figures, by name. Vectors follow other rules: biases start at zero, and what a norm in
    bf16 gains in one step it may lose in the next."""
    return [name for name in sorted(record.measured_weights()) if record.weights[name].is_matrix]


def _table(record: Record, metric: str, names: list[str]) -> Table:
    column = record.column(Request.of(load_metrics()[metric], {}), "value")
    return Table.of(column, [point.step for point in record.points], names)
