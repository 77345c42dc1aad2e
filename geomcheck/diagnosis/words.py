"""Sets of weights, and of checkpoints, in the words that an engineer would use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from geomcheck.checkpoints import Weight
from geomcheck.checkpoints.weights import Layers, in_network
from geomcheck.record import Point

MOST = 4
"""Things that are told one by one."""

PLURALS = {"embedding": "embeddings", "head": "heads", "bias": "biases", "router": "routers", "norm": "norms"}


class Phrase(NamedTuple):
    """Weights in words."""

    text: str
    plural: bool = False

    def __str__(self) -> str:
        return self.text

    def verb(self, singular: str, plural: str) -> str:
        """The words with a verb behind them."""
        return f"{self.text} {plural if self.plural else singular}"


class Vocabulary:
    """What can be called by a word among `weights`: layers, modules, roles.

    Args:
        weights: all of which a set may be told from.
    """

    def __init__(self, weights: Iterable[Weight]) -> None:
        self._weights = {weight.name: weight for weight in sorted(weights, key=in_network)}
        self._layers = Layers(self._weights.values())

    def phrase(self, names: Collection[str]) -> Phrase:
        """`names` in words: of all ways that name exactly these, the shortest; else the first and how many."""
        wanted = set(names) & self._weights.keys()
        every = self._weights.keys()
        matrices = {name for name in every if self._weights[name].is_matrix}
        if len(wanted) == 1:
            return Phrase(next(iter(wanted)))
        if wanted == every:
            return Phrase("every weight")
        if wanted == matrices:
            return Phrase("every matrix")
        for partial, of_what in ((every, ""), (matrices, "every matrix of ")):
            found = self._in_words(wanted, partial, of_what)
            if found is not None:
                return found
        left = every - wanted
        if len(left) <= len(wanted):
            found = next((f for part in (every, matrices) if (f := self._in_words(left, part, "")) is not None), None)
            if found is not None or len(left) == 1:
                return Phrase(f"every weight but {found or next(iter(left))}")
        ordered = [name for name in self._weights if name in wanted]
        kind, among = ("matrices", matrices) if wanted <= matrices else ("weights", every)
        return Phrase(f"{len(wanted)} of {len(among)} {kind}, such as {ordered[0]},", plural=True)

    def _in_words(self, wanted: set[str], among: Collection[str], of_what: str) -> Phrase | None:
        """As whole layers, whole roles, whole modules, or modules of some layers, of the weights that are `among`."""
        held = [self._weights[name] for name in self._weights if name in among]
        layers = _whole(wanted, held, self._label)
        if layers is not None and all(label.startswith("layer") or " layer " in label for label in layers):
            text = numbered(layers)
            return Phrase(of_what + text, plural=len(layers) > 1 and not of_what)
        if of_what:
            return None
        roles = _whole(wanted, held, lambda weight: str(weight.role))
        if roles is not None:
            single = [_count(held, role) == 1 for role in roles]
            told = [role if one else _plural(role) for role, one in zip(roles, single, strict=True)]
            if len(told) == 1:
                return Phrase(f"the {told[0]}") if single[0] else Phrase(f"all {told[0]}", plural=True)
            return Phrase(listed(told), plural=True)
        modules = _whole(wanted, held, lambda weight: weight.module)
        if modules is not None and len(modules) <= MOST:
            return Phrase(f"all {listed(modules)}", plural=True)
        return self._product(wanted, held)

    def _product(self, wanted: set[str], held: Sequence[Weight]) -> Phrase | None:
        """As all weights of some roles or modules in some layers."""
        chosen = [weight for weight in held if weight.name in wanted]
        labels = list(dict.fromkeys(map(self._label, chosen)))
        if not chosen or any(weight.layer is None for weight in chosen):
            return None
        inside = [weight for weight in held if self._label(weight) in labels]
        for key in (lambda weight: str(weight.role), lambda weight: weight.module):
            parts = _whole(wanted, inside, key)
            if parts is not None and len(parts) <= MOST:
                return Phrase(f"{listed(parts)} of {numbered(labels)}", plural=len(chosen) > 1)
        return None

    def _label(self, weight: Weight) -> str:
        return self._layers.label(weight)


def _whole(wanted: set[str], held: Iterable[Weight], key: Callable[[Weight], str]) -> list[str] | None:
    """The values of `key` whose weights together are exactly those that are wanted; None where there are none such."""
    groups: dict[str, set[str]] = {}
    for weight in held:
        groups.setdefault(key(weight), set()).add(weight.name)
    parts = [value for value, names in groups.items() if names <= wanted]
    return parts if parts and set().union(*(groups[part] for part in parts)) == wanted else None


def _count(held: Iterable[Weight], role: str) -> int:
    return sum(weight.role == role for weight in held)


def _plural(role: str) -> str:
    return PLURALS.get(role, f"{role} weights")


def numbered(labels: Sequence[str]) -> str:
    """``layer 1``; ``layers 1 and 2``; ``layers 3 to 8`` and the like, from labels that end in numbers."""
    if len(labels) == 1:
        return labels[0]
    stem = labels[0].rpartition(" ")[0]
    numbers = [label.rpartition(" ")[2] for label in labels]
    if any(label.rpartition(" ")[0] != stem for label in labels) or not all(n.isdecimal() for n in numbers):
        return listed(labels)
    return f"{stem}s {listed(list(_ranges(sorted(map(int, numbers)))))}"


def _ranges(numbers: Sequence[int]) -> Iterator[str]:
    """``3 to 8`` for three or more in a row."""
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            run = numbers[start:end]
            if len(run) > 2:
                yield f"{run[0]} to {run[-1]}"
            else:
                yield from map(str, run)
            start = end


def listed(things: Sequence[str]) -> str:
    """``a``; ``a and b``; ``a, b and c``; of many the first and how many more."""
    if len(things) > MOST:
        return f"{', '.join(things[: MOST - 1])} and {len(things) - MOST + 1} more"
    *first, last = things
    return f"{', '.join(first)} and {last}" if first else last


def when(points: Sequence[Point], indices: Collection[int]) -> str:
    """``at checkpoint-60``; ``from checkpoint-60 on``; ``at every checkpoint``; as an adverb, of these checkpoints."""
    at = sorted(indices)
    if len(points) == 1 or len(at) == 1:
        return f"at {points[at[0]].name}"
    if len(at) == len(points):
        return "at every checkpoint"
    if at == list(range(at[0], len(points))):
        return f"from {points[at[0]].name} on"
    if at == list(range(at[-1] + 1)):
        return f"up to {points[at[-1]].name}"
    return f"at {listed([points[index].name for index in at])}"
