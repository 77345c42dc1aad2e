"""Sets of weights, and of checkpoints, in the words that an engineer would use."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from geomcheck.checkpoints import Weight
from geomcheck.checkpoints.weights import Layers, in_network
from geomcheck.record import Point

MOST = 4
"""Things that are told one by one."""

MOST_ROLES = 2

_EXPERT = re.compile(r"experts?\.([0-9]{1,6})\.")

PLURALS = {
    "embedding": "embeddings",
    "head": "heads",
    "bias": "biases",
    "router": "routers",
    "norm": "norms",
    "mlp": "MLPs",
    "convolution": "convolutions",
    "projection": "projections",
}
"""Of roles that can be counted."""


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
        """`names` in words, the plainest that name exactly these; else the first of them and how many."""
        wanted = set(names) & self._weights.keys()
        every = list(self._weights.values())
        matrices = [weight for weight in every if weight.is_matrix]
        if len(wanted) == 1:
            return Phrase(next(iter(wanted)))
        for held, all_of in ((every, "every weight"), (matrices, "every matrix")):
            if wanted == {weight.name for weight in held}:
                return Phrase(all_of)
        for held, all_of in ((every, "every weight"), (matrices, "every matrix")):
            found = self._in_words(wanted, held, of_layers="" if held is every else f"{all_of} of ")
            if found is not None:
                return found
            left = {weight.name for weight in held} - wanted
            if wanted <= {weight.name for weight in held} and len(left) < len(wanted):
                some = self._in_words(left, held) or self._product(left, held)
                missing = Phrase(min(left)) if len(left) == 1 else some
                if missing is not None:
                    return Phrase(f"{all_of} but {missing.text.removeprefix('all ')}")
        found = self._product(wanted, every)
        if found is not None:
            return found
        outside = {name for name in wanted if self._weights[name].layer is None}
        if outside and wanted - outside and not (inside := self.phrase(wanted - outside)).text[:1].isdigit():
            return Phrase(f"{inside} and {self.phrase(outside)}", plural=True)
        first = next(name for name in self._weights if name in wanted)
        are_matrices = all(self._weights[name].is_matrix for name in wanted)
        among = f"{len(matrices)} matrices" if are_matrices else f"{len(every)} weights"
        return Phrase(f"{len(wanted)} of {among}, such as {first},", plural=True)

    def _in_words(self, wanted: set[str], held: Sequence[Weight], *, of_layers: str = "") -> Phrase | None:
        """As whole layers, whole roles or whole modules of what is `held`."""
        layers = _whole(wanted, [weight for weight in held if weight.layer is not None], self._label)
        if layers is not None:
            return Phrase(of_layers + numbered(layers), plural=len(layers) > 1 and not of_layers)
        roles = _whole(wanted, held, lambda weight: str(weight.role))
        if roles is not None and len(roles) <= MOST_ROLES:
            single = [sum(weight.role == role for weight in held) == 1 for role in roles]
            told = [role if one else PLURALS.get(role, role) for role, one in zip(roles, single, strict=True)]
            return Phrase(f"all {told[0]}" if len(told) == 1 else listed(told), plural=True)
        experts = _whole(wanted, held, _expert)
        if experts is not None and "" not in experts:
            return Phrase(f"{numbered(experts)} of every layer", plural=len(experts) > 1)
        modules = _whole(wanted, held, lambda weight: weight.module)
        if modules is not None and len(modules) <= MOST:
            return Phrase(f"all {listed(sorted(modules))}", plural=True)
        return None

    def _product(self, wanted: set[str], held: Sequence[Weight]) -> Phrase | None:
        """As all weights of some roles or modules in some layers."""
        chosen = [weight for weight in held if weight.name in wanted]
        labels = list(dict.fromkeys(map(self._label, chosen)))
        if any(weight.layer is None for weight in chosen):
            return None
        inside = [weight for weight in held if self._label(weight) in labels]
        for key in (lambda weight: str(weight.role), _expert, lambda weight: weight.module):
            parts = _whole(wanted, inside, key)
            if parts is not None and len(parts) <= MOST and "" not in parts:
                told = [PLURALS.get(part, part) if len(chosen) > len(parts) else part for part in parts]
                one = key is _expert and len(parts) == len(labels) == 1
                return Phrase(f"{listed(told)} of {numbered(labels)}", plural=not one and len(chosen) > 1)
        return None

    def _label(self, weight: Weight) -> str:
        return self._layers.label(weight)


def _expert(weight: Weight) -> str:
    """``expert 3``; empty for a weight of none."""
    found = _EXPERT.search(weight.name)
    return f"expert {found[1]}" if found else ""


def _whole(wanted: set[str], held: Iterable[Weight], key: Callable[[Weight], str]) -> list[str] | None:
    """The values of `key` whose weights together are exactly those that are wanted; None where there are none such."""
    groups: dict[str, set[str]] = {}
    for weight in held:
        groups.setdefault(key(weight), set()).add(weight.name)
    parts = [value for value, names in groups.items() if names <= wanted]
    return parts if parts and set().union(*(groups[part] for part in parts)) == wanted else None


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


def span(figures: Iterable[float]) -> str:
    """``0.0013``; ``0.0013 to 0.0028``."""
    held = list(figures)
    low, high = f"{min(held):.2g}", f"{max(held):.2g}"
    return low if low == high else f"{low} to {high}"
