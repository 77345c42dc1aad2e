"""Updates that point elsewhere than those of good runs: reversed, exchanged, pulled to zero, to another objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from geomcheck.diagnosis import logged
from geomcheck.diagnosis.against import Against, against, over_weights
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.words import listed
from geomcheck.diagnostics.sketch import cosines

CLEAR = 0.3
"""Usual cosine of a weight from which its own sign says something."""

WEAK = 0.1
"""Usual cosine of all weights together from which their sign does."""

REVERSED = -0.5
"""Share of the usual cosine at which an update is reversed."""

LOST = 0.3
"""Share of the usual cosine below which an update has nothing of a good run's."""

FOUND = 0.8
"""Share of it that the update has with another weight's."""

MISSIZED = 0.2
"""How far off the log of a size is, at least, where an update is another layer's."""

MISSING = 0.05
"""How much lower than usual the cosine is, at least, where good runs agree fully; where they do not,"""

DISAGREED = 0.2
"""this share of what they miss is added."""

SCALED = 1.5
"""From how many times a good run's size, along it, a lower cosine is what large steps do."""

FOLLOWS = 0.5
"""Share of the log of a ratio of learning rates that the log of a size has, where it follows that."""

UNLIKE = 0.9
"""Cosine with a single good run's update below which they differ."""

PULLED = -0.4
"""Cosine with W0, on average over matrices, from which the update is a pull to zero; usual are -.1 to .1."""


def usual_cosines(found: Against) -> np.ndarray:
    """The usual cosine, and that of good runs of most recipes where it is not known."""
    return np.where(np.isfinite(found.cosines), found.cosines, 1.0 if found.runs == 1 else np.nan)


def _find_sign(case: Case) -> Iterator[Finding]:
    found = against(case)
    if found is None or not (free := found.free).any():
        return
    usual = usual_cosines(found)
    with np.errstate(invalid="ignore"):
        turned = free & (usual >= CLEAR) & (found.seen.cosines <= REVERSED * usual)
    chosen = turned[-1]
    if free[-1].any():  # where good runs hardly agree on single weights, all together may tell
        own, theirs = (float(np.mean(values[-1][free[-1]])) for values in (found.seen.cosines, usual))
        chosen, turned = (free[-1], free) if theirs >= WEAK and own <= REVERSED * theirs else (chosen, turned)
    if not chosen.any():
        return
    cells = found.cells(turned & chosen)
    names = {name for name, _ in cells}
    cosine = float(np.mean(found.seen.cosines[-1, chosen]))
    evidence = [f"cosine with the update of good runs {cosine:.3f}{_as_usual(found, chosen)}", found.evidence()]
    if logged.opposite(case):
        evidence.append("the loss in the log has the other sign than in the good runs")
    yield SIGN.finding(
        case,
        cells,
        f"the update of {case.named(names)} points the other way: its cosine with a good run's is {cosine:.2f}",
        evidence=evidence,
    )


def _as_usual(found: Against, chosen: np.ndarray) -> str:
    usual = float(np.mean(found.cosines[-1, chosen])) if chosen.any() else np.nan
    return f", where theirs among each other is {usual:.3f}" if np.isfinite(usual) else ""


def _find_exchanged(case: Case) -> Iterator[Finding]:
    """Updates that are another weight's of the same shape: the sketches of those are alike. Where good runs hardly
    agree, as adapters do, those of a layer's attention or MLP are so together."""
    found = against(case)
    if found is None or not found.usual:
        return
    lost = _lost(found)
    pairs = _by_sketches(found, lost)
    if not pairs and (pairs := _by_layers(found)):
        lost = found.free
    if pairs:
        chosen = np.array([name in pairs for name in found.names])
        yield EXCHANGED.finding(
            case,
            found.cells(lost & chosen),
            _held(case, pairs),
            evidence=(
                f"{len(pairs)} updates are those of other weights of a good run, and nothing like their own",
                found.evidence(),
            ),
        )


def _held(case: Case, pairs: Mapping[str, str]) -> str:
    """In words, what holds the update of what; by layers, where all modules keep their names."""
    named = case.named(set(pairs))
    weights = [(case.weights[one], case.weights[other]) for one, other in pairs.items()]
    of_layers = {(one.layer, other.layer) for one, other in weights}
    layers = dict(sorted(of_layers, key=str))
    if len(layers) < len(of_layers) or any(one.module != other.module for one, other in weights):
        return f"{named.verb('holds', 'hold')} the update of {case.named(set(pairs.values()))}"
    told = listed([f"layer {here} that of layer {there}" for here, there in layers.items()])
    return f"{named.verb('holds', 'hold')} the update of another layer: {told}"


def _by_sketches(found: Against, lost: np.ndarray) -> dict[str, str]:
    """Of updates that have nothing of a good run's, those that another weight of it has."""
    case, good = found.case, found.case.good[0].record
    pairs: dict[str, str] = {}
    own = case.record.sketches.at(case.points[-1].step, found.names)
    theirs = good.sketches.at(good.points[-1].step, found.names)
    for column in np.flatnonzero(lost[-1]).tolist():
        rivals = _rivals(found, column)
        if not rivals:
            continue
        likeness = cosines(np.repeat(own[column : column + 1], len(rivals), axis=0), theirs[rivals])
        best = int(np.nanargmax(likeness)) if np.isfinite(likeness).any() else -1
        if best >= 0 and likeness[best] >= FOUND * found.cosines[-1, column]:
            pairs[found.names[column]] = found.names[rivals[best]]
    return pairs


def _by_layers(found: Against) -> dict[str, str]:
    """Of layers whose updates have another size than those of good runs, those of which the attention or the MLP has
    the updates of another layer's, on average over its weights and the good runs."""
    case, pairs = found.case, dict[str, str]()
    with np.errstate(invalid="ignore"):
        off = found.free[-1] & (np.abs(found.seen.sizes[-1]) > MISSIZED)
    if not off.any() or not (found.cosines[-1] < 2 * CLEAR).any():
        return {}
    own = case.record.sketches.at(case.points[-1].step, found.names)
    goods = [one.record for one in case.good]
    theirs = [record.sketches.at(record.points[-1].step, found.names) for record in goods]
    columns = {name: column for column, name in enumerate(found.names)}
    for role in ("attention", "mlp"):
        layers: dict[tuple[str, int], dict[str, int]] = {}
        for name, column in columns.items():
            weight = case.weights[name]
            if weight.role == role and weight.layer is not None:
                layers.setdefault((weight.stack, weight.layer), {})[weight.module] = column
        for here, held in layers.items():
            usual = float(np.mean(found.cosines[-1][list(held.values())]))
            if usual < WEAK or not off[list(held.values())].any():
                continue
            alike = {
                there: _alike(own, theirs, held, others)
                for there, others in layers.items()
                if held.keys() == others.keys()
            }
            best = max(alike, key=alike.__getitem__)
            if best != here and alike[best] >= FOUND * usual and alike[here] <= LOST * usual:
                pairs |= {found.names[held[module]]: found.names[layers[best][module]] for module in held}
    return pairs


def _alike(own: np.ndarray, theirs: list[np.ndarray], held: Mapping[str, int], others: Mapping[str, int]) -> float:
    """The cosine of some updates with others of good runs, module by module, on average over these."""
    mine, rows = own[list(held.values())], [others[module] for module in held]
    return float(np.nanmean([cosines(mine, sketches[rows]) for sketches in theirs]))


def _rivals(found: Against, column: int) -> list[int]:
    """The other weights of the same shape."""
    shapes = [found.case.weights[name].shape for name in found.names]
    return [k for k, shape in enumerate(shapes) if shape == shapes[column] and k != column]


def missing_at_least(found: Against) -> float:
    """How much lower than usual the cosine must be."""
    usual = float(np.nanmean(found.cosines)) if np.isfinite(found.cosines).any() else np.nan
    spread = found.cosine_spread if np.isfinite(found.cosine_spread) else 0.0
    return max(MISSING + DISAGREED * (1 - usual), 2 * spread)


def _find_pull(case: Case) -> Iterator[Finding]:
    found = against(case)
    if found is None or not case.has_weights or not (free := found.free).any():
        return
    far = found.missing(free) > missing_at_least(found) if found.usual else _median_cosine(found, free) < UNLIKE
    if not far:
        return
    along = [look.seen[-1].along for look in case.ways.values() if np.isfinite(look.seen[-1].along)]
    if not along or float(np.mean(along)) > PULLED:
        return
    yield PULL.finding(
        case,
        found.cells(free),
        f"the weights were pulled to zero: the cosine of the update with W0 is {np.mean(along):.2f}",
        evidence=(f"over {len(along)} matrices at {case.points[-1].name}", found.evidence()),
    )


def _median_cosine(found: Against, free: np.ndarray) -> float:
    """With a good run's update, at the last checkpoint that can be judged; NaN where there is none."""
    cosines = over_weights(np.where(free, found.seen.cosines, np.nan))
    return float(next(iter(cosines[np.isfinite(cosines)][::-1]), np.nan))


def _find_objective(case: Case) -> Iterator[Finding]:
    found = against(case)
    if found is None or not found.usual or not (free := found.free).any() or _is_of_the_rate(found, free):
        return
    last = int(np.flatnonzero(free.any(axis=1))[-1])
    lost = _lost(found)
    alone = lost[last].any() and 2 * lost[last].sum() <= free[last].sum()
    if not alone and (not found.missing(free) > missing_at_least(found) or along(found) >= SCALED):
        return
    chosen = lost & lost[last] if alone else free
    cells = found.cells(chosen)
    own, usual = (float(np.mean(values[last][chosen[last]])) for values in (found.seen.cosines, found.cosines))
    case.memory[logged.EXPECTED] = True
    yield OBJECTIVE.finding(
        case,
        cells,
        f"the update of {case.named({name for name, _ in cells})} points elsewhere than in good runs: a cosine of "
        f"{own:.2f} with theirs, where {usual:.2f} is usual",
        evidence=(*_changes(case), found.evidence()),
        causes=LOCAL_CAUSES if alone else None,
    )


def _is_of_the_rate(found: Against, free: np.ndarray) -> bool:
    """Whether the log has another learning rate and the sizes follow it: the direction that a way has taken depends on
    how far it went."""
    rate, sizes = logged.rate(found.case), over_weights(np.where(free, found.seen.sizes, np.nan))
    sizes = sizes[np.isfinite(sizes)]
    if rate is None or not len(sizes):
        return False
    wanted = np.log(rate.ratio)
    return bool((np.sign(wanted) * sizes >= FOLLOWS * abs(wanted)).all())


def _lost(found: Against) -> np.ndarray:
    """Updates that have nothing of a good run's: bool, shape (t, w)."""
    with np.errstate(invalid="ignore"):
        lost: np.ndarray = found.free & (found.cosines >= 2 * CLEAR) & (found.seen.cosines < LOST * found.cosines)
    return lost


def _changes(case: Case) -> Iterator[str]:
    """What the log says that may explain another direction."""
    for name in ("loss", "completion length", "entropy"):
        factor = logged.ratio(case, name)
        if factor > 1.3 or factor < 1 / 1.3:
            yield f"{name} in the log {logged.times(factor)} a good run's"


def along(found: Against) -> float:
    """The size of the update along a good run's, in its sizes: the median over weights at the last checkpoint that can
    be judged; NaN where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(found.free, np.exp(found.seen.sizes) * found.seen.cosines / usual_cosines(found), np.nan)
    middle = over_weights(shares)
    known = middle[np.isfinite(middle)]
    return float(known[-1]) if len(known) else np.nan


LOCAL_CAUSES = (
    "these weights started elsewhere, or were saved under each other's names",
    "a loss, an adapter or an optimizer of their own",
)

SIGN = Kind(
    name="sign",
    group="C",
    grade="inference",
    title="the other sign",
    about="The update points where good runs come from.",
    looks_at=("record", "good"),
    causes=(
        "the sign of the loss, of the advantage or of the divergence is flipped",
        "the update was subtracted where it should be added, as in a merge",
    ),
    next_step="Check that the loss of the objective falls, and with which sign deltas are merged.",
    find=_find_sign,
)

EXCHANGED = Kind(
    name="another-update",
    group="C",
    grade="inference",
    title="the update of another weight",
    about="A weight moved as another one moves in a good run.",
    looks_at=("record", "good"),
    causes=("updates or adapters were added under each other's names", "layers or projections are permuted"),
    next_step="Check the name mapping of the merge or the conversion.",
    find=_find_exchanged,
)

PULL = Kind(
    name="decay",
    group="C",
    grade="inference",
    title="a pull to zero",
    about="Much of the update shrinks W0, which in good runs it does not.",
    looks_at=("record", "weights", "good"),
    causes=("weight decay is far stronger than in the good runs", "weights were scaled down, as by a merge"),
    next_step="Compare weight_decay, and what it is multiplied with, in both configurations.",
    find=_find_pull,
)

OBJECTIVE = Kind(
    name="objective",
    group="C",
    grade="inference",
    title="another objective or other data",
    about="The updates point elsewhere than those of good runs do, while successive ones go on as straight as theirs.",
    looks_at=("record", "good"),
    causes=(
        "other data, or another mask of what counts into the loss",
        "another objective: loss, divergence, reward, teacher",
    ),
    next_step="Compare a batch, its loss mask and the settings of the loss between the two, token by token.",
    find=_find_objective,
)
