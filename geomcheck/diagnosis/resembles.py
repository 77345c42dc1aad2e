"""Weights that are far from what they are in W0: whether they are another of it, or a matrix in another order.

W0 is read once more for that, and only where some matrix is far from itself. Of each matrix that it holds, and of its
transpose, some entries are compared; the rows and columns of a matrix are matched by some of them. Where very many are
far, as with the W0 of another model, some of them speak for all, unless one of these is found elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from geomcheck.diagnosis.case import DIFFERENT, Case, median
from geomcheck.diagnosis.finding import Cell, Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.words import MOST, listed, numbered, span

ENTRIES = 512
"""Of each matrix, that are compared."""

NEAR = 0.5
"""Distance, relative to the norm, up to which a matrix is another one after training; unrelated ones are sqrt(2)."""

MANY = 256
"""Weights of one cause that are looked at before all of them are."""

READ = 1 << 33
"""Entries of W0 that are read to find what a weight is: of the same layer first, then of the same module."""

OWN = 0.25
"""Share of the distance to itself in W0 up to which a vector is another one."""

PROBES = 8
"""Of those that are only odd, the largest, that are looked at before all are."""

LINES = 48
"""Rows and columns that are matched; each with all of W0."""

ALIKE, AGREED = 0.9, 0.9
"""Cosine of a row with the row that it was, and the share of rows that must have found one."""

ANEW = 0.7
"""Relative norm of an update from which a matrix that resembles nothing was made anew."""

FOREIGN = 10
"""From how many times the usual relative norm."""

FAR = 100
"""How many times as far as those of the matrices the entries of a norm must have moved, to be made anew."""

UNLIKE = 0.2
"""Cosine with itself in W0 up to which a matrix is another one."""

HEADS = (8, 16, 32, 64, 80, 96, 128, 192, 256)
"""Rows of a head."""


class Likeness(NamedTuple):
    """What a matrix is: another weight of W0, or itself in another order; neither where it resembles nothing."""

    weight: str = ""
    order: str = ""


def likenesses(case: Case) -> Mapping[str, Likeness]:
    """What each weight that is far from itself is, at the first checkpoint where it is."""
    if not case.has_weights:
        return {}
    if "resembles" not in case.memory:
        of = {**case.different, **case.strayed}
        far = {n: at[0] for n, at in of.items() if not {(n, i) for i in at} <= case.explained}
        case.memory["resembles"] = {**_of_odd(case), **_likenesses(case, far)}
    found: Mapping[str, Likeness] = case.memory["resembles"]
    return found


def _of_odd(case: Case) -> dict[str, Likeness]:
    """Those that are odd and another weight."""
    odd = {n: at[0] for n, at in case.odd.items() if n not in case.different and (n, at[0]) not in case.explained}
    ordered = sorted(odd, key=lambda name: -case.size(name, odd[name]))
    found: dict[str, Likeness] = {}
    for names in (ordered[:PROBES], ordered[PROBES:]):
        likes = _likenesses(case, {name: odd[name] for name in names})
        found |= {name: like for name, like in likes.items() if like.weight}
        if not found:
            break
    return found


def _likenesses(case: Case, far: Mapping[str, int]) -> dict[str, Likeness]:
    """What these weights are at a checkpoint of each. Where `MANY` spread over them resemble nothing, so do all."""
    some = _spread(far)
    found = _looked_up(case, {name: far[name] for name in some})
    if len(some) < len(far) and any(like != Likeness() for like in found.values()):
        found |= _looked_up(case, {name: far[name] for name in far.keys() - found.keys()})
    return {name: found.get(name, Likeness()) for name in far}


def _spread(names: Collection[str]) -> list[str]:
    """`MANY` of these weights or fewer, evenly spaced in the order of their names."""
    ordered = sorted(names)
    return ordered if len(ordered) <= MANY else [ordered[index * len(ordered) // MANY] for index in range(MANY)]


def _looked_up(case: Case, far: Mapping[str, int]) -> dict[str, Likeness]:
    held, found, names = _held(case, far), dict[str, Likeness](), sorted(far)
    for start in range(0, len(names), MANY):
        together = {name: far[name] for name in names[start : start + MANY]}
        nearest = _nearest(case, together, held)
        for name, index in together.items():
            found[name] = nearest.get(name) or Likeness(order=_own_order(case, name, index))
    return found


class _Held(NamedTuple):
    """Of the weights of one shape in W0: names, and some entries of each, shape (names, ENTRIES)."""

    names: tuple[str, ...]
    entries: Tensor

    def distances(self, entries: Sequence[Tensor]) -> Tensor:
        """From some entries of other weights, relative to the norm, shape (others, names); infinite from zero."""
        relative = torch.cdist(torch.stack([*entries]), self.entries) / torch.linalg.vector_norm(self.entries, dim=1)
        return relative.nan_to_num(math.inf, math.inf)


def _held(case: Case, far: Mapping[str, int]) -> dict[tuple[int, ...], _Held]:
    """By shape, what `far` weights may be: these themselves, and as many others as `READ` allows."""
    shapes = {case.weights[name].shape for name in far}
    shapes |= {shape[::-1] for shape in shapes}
    layers = {case.weights[name].layer for name in far}
    modules = {case.weights[name].module for name in far}
    rank = {
        name: (name not in far, weight.layer not in layers, weight.module not in modules, name)
        for name, weight in case.weights.items()
        if weight.shape in shapes and case.lies_everywhere(name)
    }
    left, by_shape = READ, dict[tuple[int, ...], dict[str, Tensor]]()
    for name in sorted(rank, key=rank.__getitem__):
        left -= case.weights[name].numel
        if left > 0 or name in far:
            by_shape.setdefault(case.weights[name].shape, {})[name] = _sketch(case.matrix(name))
    return {shape: _Held(tuple(held), torch.stack([*held.values()])) for shape, held in by_shape.items()}


def _nearest(case: Case, far: Mapping[str, int], held: Mapping[tuple[int, ...], _Held]) -> dict[str, Likeness]:
    """Those that are another weight, or themselves transposed; and the vectors, which have no order."""
    found: dict[str, Likeness] = {}
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name in far:
        by_shape.setdefault(case.weights[name].shape, []).append(name)
    for shape, names in by_shape.items():
        others, turned = held[shape], held.get(shape[::-1])
        sketches = [(_sketch(after), _sketch(after.T)) for after in (case.matrix(name, far[name]) for name in names)]
        distances, place_of = others.distances([one for one, _ in sketches]), dict(zip(others.names, count()))
        itself = range(len(names)), [place_of[name] for name in names]
        own = distances[itself].tolist()
        if not case.weights[names[0]].is_matrix:  # most are near one value, and so near each other
            least, at = distances.min(1)
            for name, near, place, to_itself in zip(names, least.tolist(), at.tolist(), own, strict=True):
                found[name] = Likeness(others.names[place] if near <= OWN * to_itself else "")
            continue
        distances[itself] = math.inf
        candidates = [Likeness(name) for name in others.names]
        if turned:
            distances = torch.cat([distances, turned.distances([two for _, two in sketches])], dim=1)
            candidates += [Likeness(name, "transposed") for name in turned.names]
        least, at = distances.min(1)
        for name, near, place, to_itself in zip(names, least.tolist(), at.tolist(), own, strict=True):
            if near < min(NEAR, to_itself / 2):
                like = candidates[place]
                found[name] = Likeness("", like.order) if like.weight == name else like
    return found


def _sketch(matrix: Tensor) -> Tensor:
    """`ENTRIES` of its entries, at places that depend on its shape alone, shape (entries,), float64."""
    generator = torch.Generator().manual_seed(matrix.shape[0])
    places = [torch.randint(size, (ENTRIES,), generator=generator) for size in matrix.shape]
    return matrix[places[0], places[1]].double()


# ---- itself in another order


def _own_order(case: Case, name: str, index: int) -> str:
    """How the rows or columns of a matrix are those of W0 in another order; empty where they are not."""
    before, after = case.matrix(name), case.matrix(name, index)
    for side, one, other in (("rows", before, after), ("columns", before.T, after.T)):
        places = _places(one, other)
        if places is not None and len(one) > 1:
            chosen, found = places
            told = _pattern(chosen.tolist(), found.tolist(), len(one))
            if told:
                return f"{side} {told}"
    return ""


def _places(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor] | None:
    """Some rows of `after`, and which row of `before` each of them is; None where most are none."""
    count = len(after)
    chosen = torch.unique(torch.linspace(0, count - 1, min(LINES, count)).round().long())
    wanted = torch.nn.functional.normalize(after[chosen].float())
    best, at = torch.full((len(chosen),), -2.0), torch.zeros(len(chosen), dtype=torch.int64)
    for start in range(0, count, 1 << 14):
        cosines = wanted @ torch.nn.functional.normalize(before[start : start + (1 << 14)].float()).T
        here, there = cosines.max(1)
        at = torch.where(here > best, there + start, at)
        best = torch.maximum(best, here)
    alike = best >= ALIKE
    if float(alike.double().mean()) < AGREED:
        return None
    return chosen[alike], at[alike]


def _pattern(chosen: list[int], found: list[int], count: int) -> str:
    """The order in words; empty where it is the same order."""
    pairs = list(zip(chosen, found, strict=True))

    def is_all(move: Callable[[int], int]) -> bool:
        return all(move(here) == there for here, there in pairs)

    if is_all(lambda i: i):
        return ""
    if count % 2 == 0 and is_all(lambda i: (i + count // 2) % count):
        return "with their halves exchanged"
    for head in (size for size in HEADS if count % size == 0):
        if is_all(partial(_from_pairs, head)):
            return f"in the other layout of rotary embeddings: halves instead of pairs in each head of {head}"
        if is_all(partial(_from_halves, head)):
            return f"in the other layout of rotary embeddings: pairs instead of halves in each head of {head}"
    if is_all(lambda i: count - 1 - i):
        return "in reverse"
    shifts = {(there - here) % count for here, there in pairs}
    return f"shifted by {shifts.pop()}" if len(shifts) == 1 else "in another order"


def _from_pairs(head: int, row: int) -> int:
    """Where a row was if pairs of a head became its halves."""
    place, half = row % head, head // 2
    return row - place + place % half * 2 + place // half


def _from_halves(head: int, row: int) -> int:
    """Where a row was if the halves of a head became pairs."""
    place, half = row % head, head // 2
    return row - place + place % 2 * half + place // 2


# ---- findings


def _cells(case: Case, names: Iterable[str]) -> set[Cell]:
    """Where each of these is far from itself."""
    return {(n, index) for n in names for far in (case.different, case.odd, case.strayed) for index in far.get(n, ())}


def _find_another(case: Case) -> Iterator[Finding]:
    of = {name: like.weight for name, like in likenesses(case).items() if like.weight}
    for at, names in case.grouped(_cells(case, of)):
        turned = any(likenesses(case)[name].order for name in names)
        told = _exchange(case, {name: of[name] for name in names}, at)
        examples = [f"{name} is near W0's {of[name]}" for name in sorted(names)[:2]]
        yield ANOTHER.finding(
            case,
            {(name, index) for name in names for index in at},
            f"{told}{', transposed' if turned else ''}",
            evidence=(*examples, f"{len(names)} of {len(case.weights)} tensors"),
        )


def _exchange(case: Case, of: Mapping[str, str], at: tuple[int, ...]) -> str:
    """In words, what holds what."""
    when = case.when(at)
    if of.keys() == set(of.values()) and all(of[of[name]] == name for name in of):
        pairs = sorted({tuple(sorted(pair)) for pair in of.items()})
        one, other = ({pair[side] for pair in pairs} for side in (0, 1))
        layers = {tuple(case.weights[name].layer for name in pair) for pair in pairs}
        modules = sorted({tuple(sorted(case.weights[name].module for name in pair)) for pair in pairs})
        if all(first == second for first, second in modules) and len(layers) == 1:
            first, second = sorted(str(number) for number in next(iter(layers)))
            return f"layers {first} and {second} are exchanged {when}"
        if len(modules) == 1 and all(first == second for first, second in layers):
            held = {case.weights[name].layer for name in of}
            every = {weight.layer for weight in case.weights.values() if weight.layer is not None}
            where = "" if held == every else f" in {numbered([f'layer {number}' for number in held])}"
            return f"{modules[0][0]} and {modules[0][1]} are exchanged{where} {when}"
        return f"{case.named(one)} and {case.named(other)} are exchanged {when}"
    layers = {(case.weights[name].layer, case.weights[other].layer) for name, other in of.items()}
    same = all(case.weights[name].module == case.weights[other].module for name, other in of.items())
    if same and len({here for here, _ in layers}) == len(layers) <= MOST and (None, None) not in layers:
        told = [f"layer {here} holds what is layer {there} in W0" for here, there in sorted(layers, key=str)]
        return f"{listed(told)} {when}"
    return f"{case.named(of.keys()).verb('holds', 'hold')} what {case.named(set(of.values()))} is in W0 {when}"


def _find_reordered(case: Case) -> Iterator[Finding]:
    orders = {n: like.order for n, like in likenesses(case).items() if like.order and not like.weight}
    by_order: dict[str, set[str]] = {}
    for name, order in orders.items():
        by_order.setdefault(order, set()).add(name)
    for order, all_of in sorted(by_order.items(), key=lambda item: -len(item[1])):
        for at, names in case.grouped(_cells(case, all_of)):
            named = case.named(names)
            told = (
                f"{named.verb('is', 'are')} transposed {case.when(at)}"
                if order == "transposed"
                else f"{named.verb('has', 'have')} W0's {order} {case.when(at)}"
            )
            yield REORDERED.finding(
                case,
                {(name, index) for name in names for index in at},
                told,
                evidence=(f"the update has {span(case.size(name, at[0]) for name in names)} times the norm of W0",),
            )


class _New(NamedTuple):
    """The matrices that resemble nothing in W0, and the cosines with themselves there of those that were compared."""

    names: frozenset[str]
    cosines: Mapping[str, float]

    def told(self, names: Collection[str]) -> str:
        """The cosines of some of them, as evidence."""
        known = [self.cosines[name] for name in names if name in self.cosines]
        only = f", in {len(known)} that were compared entry by entry" if len(known) < len(names) else ""
        return f"cosine of the weights with W0's {span(known)}{only}" if known else ""


def _new(case: Case) -> _New:
    if "new" not in case.memory:
        alone = (name for name, like in likenesses(case).items() if like == Likeness() and name in case.different)
        large = {name for name in alone if case.size(name, case.different[name][0]) >= ANEW}
        some = _spread(large)
        unlike = _unlike(case, some)
        if len(unlike) < len(some):  # they do not speak for the others
            unlike |= _unlike(case, large.difference(some))
            large = set(unlike)
        case.memory["new"] = _New(frozenset(large), unlike)
    found: _New = case.memory["new"]
    return found


def _unlike(case: Case, names: Iterable[str]) -> dict[str, float]:
    """The cosines of these matrices with themselves in W0, where they have nothing in common with that."""
    looks = ((name, case.look(name)) for name in names)
    cosines = {name: look.likeness(case.different[name][0]) for name, look in looks if look is not None}
    return {name: cosine for name, cosine in cosines.items() if cosine <= UNLIKE}


def _find_model(case: Case) -> Iterator[Finding]:
    new = _new(case)
    matrices = [name for name, weight in case.weights.items() if weight.is_matrix]
    if 2 * len(new.names) < len(matrices) or len(new.names) < 2:
        return
    for at, names in case.grouped(_cells(case, new.names)):
        which = "W0 and the run are different models" if len(at) == len(case.points) else "another model's weights"
        where = "" if len(at) == len(case.points) else f" lie {case.when(at)}"
        yield MODEL.finding(
            case,
            {(name, index) for name in names for index in at},
            f"{which}{where}: {len(names)} of {len(matrices)} matrices have nothing in common with W0's",
            evidence=(new.told(names),),
        )


def _strides(case: Case, name: str, index: int) -> float:
    """How many times as far as those of the matrices the entries of a vector moved."""
    look = case.examined[name]
    return look.seen[index].moved / math.sqrt(look.numel) / case.pace(index)


def _new_norms(case: Case) -> set[Cell]:
    """Where norms resemble nothing in W0; biases may start near zero, and grow."""
    return {
        (name, index)
        for name, like in likenesses(case).items()
        if like == Likeness() and case.weights[name].role == "norm"
        for index in case.strayed.get(name, ())
        if case.size(name, index) >= DIFFERENT and _strides(case, name, index) >= FAR
    }


def _find_new(case: Case) -> Iterator[Finding]:
    new, norms = _new(case), _new_norms(case)
    for at, names in case.grouped(_cells(case, new.names) | norms):
        usual = median(sizes[at[0]] for name, sizes in case.sizes.items() if name not in new.names)
        foreign = {name for name in names & new.names if case.size(name, at[0]) >= FOREIGN * usual}
        moved = sorted(name for name in names if (name, at[0]) in norms)
        found = foreign.union(moved)
        if not found:
            continue
        why = "nothing in common with W0" if foreign else "no training moves a norm so far"
        evidence = [f"updates {span(case.size(name, at[0]) for name in found)} times W0's norm, others {usual:.2g}"]
        if told := new.told(foreign):
            evidence.insert(0, told)
        if moved:
            strides = span(_strides(case, name, at[0]) for name in moved)
            evidence.append(f"entries of {case.named(moved)} moved {strides} times as far as those of the matrices")
        yield NEW.finding(
            case,
            {(name, index) for name in found for index in at},
            f"{case.named(found).verb('is', 'are')} made anew {case.when(at)}: {why}",
            evidence=evidence,
        )


ANOTHER = Kind(
    name="another-weight",
    group="A",
    grade="fact",
    title="a weight under another's name",
    about="A weight is near another one of W0, and far from the one of its own name.",
    looks_at=("record", "weights"),
    causes=("a conversion maps names wrongly", "a fused tensor was split in another order"),
    next_step="Check the name mapping of the conversion, and the order in which fused tensors are split.",
    find=_find_another,
)

REORDERED = Kind(
    name="reordered",
    group="A",
    grade="fact",
    title="rows or columns in another order",
    about="A matrix is W0's with its rows or columns in another order, or transposed.",
    looks_at=("record", "weights"),
    causes=(
        "tensor-parallel shards were put together in the wrong order",
        "the layout of rotary embeddings was converted once too often, or not at all",
        "a layer that stores its weight transposed was not turned",
    ),
    next_step="Check the conversion of these tensors on the base model: it should give the base back, to the bit.",
    find=_find_reordered,
)

MODEL = Kind(
    name="another-model",
    group="A",
    grade="fact",
    title="another model than W0",
    about="Half of the matrices or more have nothing in common with those of W0.",
    looks_at=("record", "weights"),
    causes=("W0 is not the model that this run started from", "the run was trained from scratch"),
    next_step="Give the model that this run started from, with --base.",
    find=_find_model,
)

NEW = Kind(
    name="made-anew",
    group="A",
    grade="fact",
    title="a weight made anew",
    about="A weight has nothing in common with W0's, nor with another of its shape there, while the rest moved little.",
    looks_at=("record", "weights"),
    causes=(
        "it was missing where the model was loaded, and initialised at random",
        "it was replaced on purpose, as heads of classifiers are",
    ),
    next_step="Look for warnings of newly initialised weights where the model was loaded.",
    find=_find_new,
)

KINDS = (ANOTHER, REORDERED, MODEL, NEW)
