"""Groups of weights, as `per` makes them, and their folded figures."""

from __future__ import annotations

from collections.abc import Sequence

from geomcheck._text import and_more, plural
from geomcheck.checkpoints.weights import Layers, Weight, in_network
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.folds import fold
from geomcheck.suite.sampling import Sample
from geomcheck.suite.verdict import Unanswerable

Groups = dict[str | None, dict[int, float]]
"""Folded figures by group, then by step; the group of a whole run is None."""


def group_of(weight: Weight, per: str, layers: Layers) -> str | None:
    """The group of a weight, as `per` makes them; None for the whole run."""
    match per:
        case "layer":
            return layers.label(weight)
        case "module":
            return weight.module
        case "weight":
            return weight.name
        case _:
            return None


def require_groups(weights: Sequence[Weight], expectation: Expectation) -> None:
    """Raise Unanswerable where `per` finds nothing to group by, and would make one group of all."""
    if expectation.per == "layer" and weights and all(weight.layer is None for weight in weights):
        raise Unanswerable(
            f"`per: layer` finds no layers: none of the {plural(len(weights), 'selected weight')} lies in one "
            f"(such as {weights[0].name}); select weights of layers, or judge `per: module` or `per: weight`"
        )


def fold_groups(found: Sample, expectation: Expectation, layers: Layers) -> Groups:
    """The folded figures of each group of weights, in the order of the network; `layers` are the judged run's."""
    members: dict[str | None, list[str]] = {}
    for weight in sorted(found.used.values(), key=in_network):
        members.setdefault(group_of(weight, expectation.per, layers), []).append(weight.name)
    groups: Groups = {}
    for label, names in members.items():
        for step, values in found.cells.items():
            part = {name: values[name] for name in names if name in values}
            if part:
                groups.setdefault(label, {})[step] = fold(part, expectation.fold, found.used)
    return groups


def gaps(groups: Groups, found: Sample, expectation: Expectation, layers: Layers) -> tuple[str, ...]:
    """A sentence on groups that have no figure at some judged checkpoint.

    Raises Unanswerable where no weight of a group ever changed, and the metric has no figure of unchanged ones.
    """
    if expectation.per == "run":
        return ()
    members = sorted({**found.used, **found.frozen}.values(), key=in_network)
    expected = dict.fromkeys(group_of(weight, expectation.per, layers) for weight in members)
    used = {group_of(weight, expectation.per, layers) for weight in found.used.values()}
    frozen = [label for label in expected if label not in used]
    if frozen:
        raise Unanswerable(
            f"{frozen[0]}{and_more(len(frozen))} never changed, and has no {expectation.metric}: exclude it with "
            "`weights`, or judge what an unchanged weight has: relative_update_norm, update_support, frozen_share"
        )
    partial = [label for label in expected if len(groups.get(label, {})) < len(found.cells)]
    if not partial:
        return ()
    some = plural(len(partial), expectation.per)
    return (f"{some} had not changed at every judged checkpoint, and could not be judged there",)
