"""Pair the weights of checkpoints with those of W0 by structure, where wrappers lie between their names, or parts are
missing on one side.

A stack is what numbers its layers: all that begins with ``model.layers.``. Weights are paired stack by stack, by name
and shape; what is inside a layer, or which layer it is, is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile

from geomcheck.checkpoints.canonical import layer_count
from geomcheck.checkpoints.canonical.parts import Part, parts_of, taken_apart
from geomcheck.checkpoints.roles import role_of
from geomcheck.checkpoints.source import Stored, WeightSource

COMPANIONS = {
    "v_head.": "a value head",
    "value_head.": "a value head",
    "value_model.": "a value model",
    "critic.": "a critic",
    "critic_model.": "a critic",
    "ref_model.": "a reference model",
    "reference_model.": "a reference model",
    "reward_model.": "a reward model",
    "teacher_model.": "a teacher",
    "teacher.": "a teacher",
}
"""How the weights begin that a trainer saves beside the trained model's: none of them is paired with W0."""

MAX_PREFIX = 8
"""Components of a prefix that may differ."""

_NUMBER = re.compile(r"(?<=\.)[0-9]+\.")
_LAYER = re.compile(r"\.[0-9]+\.[^.]+\.[^.]")
"""Where a name enters a layer, and not a plain sequence of modules."""

Weights = Mapping[str, Stored]
Move = tuple[str, str]
"""How a name begins in a checkpoint, and how in W0."""


def paired(source: WeightSource, w0: Weights) -> tuple[WeightSource, tuple[str, ...]]:
    """`source` under the names of `w0`, and what to say of it: without the companions that a trainer saves beside the
    model, and with every stack that W0 has under another prefix moved there. Raises RunError as `parts_of`."""
    if source.weights.keys() == w0.keys():
        return source, ()
    starts = COMPANIONS.keys() - {_start(name) for name in w0}
    beside = {name: start for name in source.weights if (start := _start(name)) in starts}
    if len(beside) == len(source.weights):
        beside = {}  # a companion that was trained itself
    if beside:
        source = taken_apart(source, lambda name, _: [] if name in beside else None)
    moves = _moves(source.weights, w0)
    notes = [
        f"{COMPANIONS[start]} ({start}*) is saved beside the model; it is not compared with W0"
        for start in dict.fromkeys(beside.values())
    ]
    if moves:
        new = _moved(source.weights, w0, moves)
        source = parts_of(source, ((new.get(n, n), Part(n, stored)) for n, stored in source.weights.items()))
        notes += [
            f"paired with W0 by structure: {old or 'no prefix'} here is {new or 'no prefix'} there"
            for old, new in dict.fromkeys(moves.values())
        ]
    return source, tuple(notes)


def absent_parts(w0: Weights, checkpoints: Sequence[Weights], configs: Iterable[Mapping[str, object]]) -> list[str]:
    """How the names begin of whole parts of W0 that no checkpoint has: stacks of their own, with what belongs to them
    (``mtp.``, ``vision_tower.``), or layers behind the last that a config counts.

    A layer that is missing from a stack is none, nor is an embedding, a head or a norm by itself: that was lost.
    """
    held = set().union(*checkpoints)
    if w0.keys() <= held:
        return []
    there = {name[:cut] for name in held for cut in _cuts(name)}
    counts = [count for config in configs if (count := layer_count(config))]
    missing: dict[str, list[str]] = {}
    for name in w0:
        if name not in held:
            part = next((name[:cut] for cut in _cuts(name) if name[:cut] not in there), name)
            missing.setdefault(part, []).append(name)
    stacks = {_stack(name) for name in held if _LAYER.search(name)}
    own = {part for part, names in missing.items() if _is_stack(part, names, stacks) or _is_behind(part, counts)}
    attached = {part for part, names in missing.items() if own and _is_attached(part, names)}
    return sorted(own | attached)


def likeness(name: str, w0: Weights) -> str:
    """The weight of W0 that is most like one called `name`, as the end of a clause; empty where W0 has that name."""
    if name in w0 or not w0:
        return ""
    parts = name.split(".")

    def alike(other: str) -> tuple[int, int]:
        theirs = other.split(".")
        return _common(parts[::-1], theirs[::-1]), _common(parts, theirs)

    closest = max(sorted(w0), key=alike)
    return f", where the nearest name is {closest} {w0[closest].shape}"


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _start(name: str) -> str:
    """The first component of a name, with its dot."""
    return name[: name.find(".") + 1]


def _moves(weights: Weights, w0: Weights) -> dict[str, Move]:
    """By stack: how its prefix changes. Every matrix of the stack is then one of W0's, of the same shape and not
    another's; there is no second place for it in W0, and no second stack for that place."""
    lone = [name for name, stored in weights.items() if name not in w0 and len(stored.shape) > 1 and _stack(name)]
    if not lone:
        return {}
    free: dict[str, list[str]] = {}
    for name in w0:
        if name not in weights and (stack := _stack(name)):
            for cut in _prefixes(stack):
                free.setdefault(name[cut:], []).append(name[:cut])
    found: dict[str, set[Move | None]] = {}
    for name in lone:
        found.setdefault(_stack(name), set()).add(_move(name, weights, w0, free))
    moves = {stack: move for stack, all_of in found.items() if len(all_of) == 1 and (move := next(iter(all_of)))}
    places = [new + stack[len(old) :] for stack, (old, new) in moves.items()]
    return {stack: move for (stack, move), place in zip(moves.items(), places, strict=True) if places.count(place) == 1}


def _move(name: str, weights: Weights, w0: Weights, free: Mapping[str, Sequence[str]]) -> Move | None:
    """The least change of its prefix that makes a weight one of W0's; None where there is none, or no single one."""
    for cut in _prefixes(_stack(name)):
        new = [p for p in free.get(name[cut:], ()) if w0[p + name[cut:]].shape == weights[name].shape]
        if new:
            return (name[:cut], new[0]) if len(new) == 1 else None
    return None


def _moved(weights: Weights, w0: Weights, moves: Mapping[str, Move]) -> dict[str, str]:
    """The new names: of every weight of a stack that moves, and of those beside it with the same prefix."""
    prefixes = sorted(set(moves.values()), key=lambda move: (-len(move[0]), move))
    new = {}
    for name in weights:
        stack = _stack(name)
        if stack in moves:
            new[name] = moves[stack][1] + name[len(moves[stack][0]) :]
        elif not stack and name not in w0:
            places = {start + name[len(old) :]: old for old, start in prefixes if name.startswith(old)}
            place = next((p for p in places if p in w0), next((p for p, old in places.items() if old), name))
            new[name] = name if place in weights else place
    return new


def _stack(name: str) -> str:
    """What the names of all layers beside this one begin with; empty where the weight is in no layer."""
    number = _NUMBER.search(name)
    return name[: number.start()] if number else ""


def _prefixes(stack: str) -> list[int]:
    """Where a prefix of a stack's name may end: before each of its components, of which files may have any number."""
    return [0, *(cut for cut in islice(_cuts(stack), MAX_PREFIX) if cut < len(stack))]


def _cuts(name: str) -> Iterator[int]:
    """The places behind the dots in a name."""
    return (match.end() for match in re.finditer(r"\.", name))


def _is_stack(part: str, names: Collection[str], held: Collection[str]) -> bool:
    """Whether what is missing is a part with layers of its own, beside a stack that is `held`: not some layers of a
    stack, nor all of the only one there was."""
    above = part[: part.rfind(".", 0, -1) + 1]
    layered = part.endswith(".") and not _inside(part) and any(_LAYER.search(name) for name in names)
    return layered and any(stack.startswith(above) for stack in held)


def _is_behind(part: str, counts: Collection[int]) -> bool:
    """Whether what is missing is a layer that no config counts: of multi-token prediction, as DeepSeek keeps it."""
    layer = re.fullmatch(r"model\.layers\.([0-9]{1,6})\.", part)
    return layer is not None and bool(counts) and int(layer[1]) >= max(counts)


def _is_attached(part: str, names: Collection[str]) -> bool:
    """Whether what is missing can belong to another part that is: a projector, the head of a talker."""
    roles = {role_of(name, 2) for name in names}
    return part.endswith(".") and not _inside(part) and part.count(".") == 1 and not roles & {"embedding", "head"}


def _inside(part: str) -> bool:
    """Whether a part lies in a numbered layer, or is one."""
    return any(component.isdecimal() for component in part.split("."))
