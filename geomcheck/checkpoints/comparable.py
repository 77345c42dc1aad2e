"""Make a run and its W0 comparable: bring their weights under the same canonical names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from geomcheck._gc import lasting
from geomcheck.checkpoints.adapted import Adapted
from geomcheck.checkpoints.canonical import canonical, canonical_each, holds_scaled_fp8, tied_once, ties
from geomcheck.checkpoints.canonical.numbers import disagreement, section
from geomcheck.checkpoints.changes import equal
from geomcheck.checkpoints.formats.adapter import Adapter, holds_factors, is_wrapped, of_wrapped, open_adapter
from geomcheck.checkpoints.formats.beside import beside
from geomcheck.checkpoints.pairing import absent_parts, paired
from geomcheck.checkpoints.run import BaseWeights, Checkpoint, Run
from geomcheck.checkpoints.source import Stored, WeightSource, Wrapped
from geomcheck.errors import RunError, UsageError

ADAPTED = 4
"""How many weights tell whether an adapter is merged into the model beside it: rounding may hide it in one."""

_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")


class Comparable(Wrapped):
    """A source that `comparable` has been through, and the config by which that made its weights, its own or a borrowed
    one. It goes through once: W0 may serve several runs, with each without the parts that the run does not have.

    Args:
        source: it, under canonical names.
        config: the architecture by which the weights were made.
        absent: how the names of weights begin that are left out.
    """

    def __init__(self, source: WeightSource, config: Mapping[str, Any], absent: Sequence[str] = ()) -> None:
        super().__init__(source)
        self.whole = source
        self._config = config
        weights = source.weights  # now, as an adapter may not fit W0
        parts = tuple(absent)
        self.weights: Mapping[str, Stored] = (
            {name: stored for name, stored in weights.items() if not name.startswith(parts)} if parts else weights
        )

    @property
    def config(self) -> Mapping[str, Any]:
        """The architecture by which the weights were made."""
        return self._config


@lasting()
def comparable(run: Run, base: BaseWeights, *, dequantize: bool = False) -> tuple[Run, BaseWeights]:
    """`run` and `base` with canonical weights, so that a name means the same matrix in both; adapters over W0.

    A checkpoint that says nothing of its architecture has that of W0, and W0 that of the run.

    Args:
        run: as it was opened.
        base: W0, as it was opened, or as it was made comparable with another run.
        dequantize: make fp32 of fp8 weights and their scales. The run's notes then say so.

    Raises:
        RunError: a header or config cannot be read, two tensors are one weight, or weights are quantized.
        UsageError: W0 is an adapter, its config is of another architecture than a checkpoint's, or an adapter is of
            another model.
    """
    if isinstance(base.source, Adapter) or is_wrapped(base.source):
        raise UsageError(f"W0: {base.source.path} ({base.how}) is an adapter; give the model that it was trained on")
    _require_agreement(run, base)
    sources = [of_wrapped(checkpoint.source) for checkpoint in run.checkpoints]
    bound = [source.on(base.source) if isinstance(source, Adapter) else source for source in sources]
    _require_one_adapter([source for source in bound if isinstance(source, Adapter)])
    stored = [base.source, *bound]
    known = next((source.config for source in stored if source.config.get("model_type")), {})
    configs = [source.config if source.config.get("model_type") else {**known, **source.config} for source in stored]
    if isinstance(base.source, Comparable):
        seen = [base.source.whole, *canonical_each(bound, configs[1:], dequantize=dequantize)]
    else:
        seen = canonical_each(stored, configs, dequantize=dequantize)
    seen, pairing = _paired(seen, run.checkpoints)
    _require_merged(stored, seen, configs[0])
    seen = [
        Adapted(seen[0], named, source.scaling.is_target) if isinstance(source, Adapter) else named
        for source, named in zip(stored, seen, strict=True)
    ]
    if any(ties(config) for config in configs):
        seen = tied_once(seen)
    absent = absent_parts(seen[0].weights, [source.weights for source in seen[1:]], configs)
    w0 = Comparable(seen[0], configs[0], absent)
    trained = (Comparable(source, config) for source, config in zip(seen[1:], configs[1:], strict=True))
    checkpoints = (replace(c, source=source) for c, source in zip(run.checkpoints, trained, strict=True))
    notes = [
        *(f"W0: {note}" for note in beside(base.source, published=True)),
        *_together(run.checkpoints, [beside(source) for source in bound]),
        *(_dequantized(run, stored) if dequantize else ()),
        *_mixed(run.checkpoints),
        *pairing,
        *_left_out(seen[0], absent),
    ]
    after = replace(run, checkpoints=tuple(checkpoints), notes=(*run.notes, *notes), dequantized=dequantize)
    return after, replace(base, source=w0)


def _paired(
    seen: Sequence[WeightSource], checkpoints: Sequence[Checkpoint]
) -> tuple[list[WeightSource], tuple[str, ...]]:
    """`seen`, W0 and then the checkpoints, with the latter under W0's names; and what to say of that, once for all the
    checkpoints of which it is true."""
    w0, *trained = seen
    found = [paired(source, w0.weights) for source in trained]
    return [w0, *(source for source, _ in found)], _together(checkpoints, [notes for _, notes in found])


def _together(checkpoints: Sequence[Checkpoint], notes: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The notes on each checkpoint, once for all of which one is true."""
    where: dict[str, list[str]] = {}
    for checkpoint, those in zip(checkpoints, notes, strict=True):
        for note in those:
            where.setdefault(note, []).append(checkpoint.name)
    every = len(checkpoints)
    return tuple(note if len(of) == every else f"{', '.join(of)}: {note}" for note, of in where.items())


def _require_merged(stored: Sequence[WeightSource], seen: Sequence[WeightSource], config: Mapping[str, Any]) -> None:
    """Refuse whole models beside an adapter that is not merged into them: they are W0 wherever the adapter trained."""
    w0 = seen[0]
    for source, named in zip(stored[1:], seen[1:], strict=True):
        if isinstance(source, Adapter) or not holds_factors(source.path):
            continue
        adapter = canonical(open_adapter(source.path).on(stored[0]), config)
        names = sorted(adapter.weights.keys() & w0.weights.keys() & named.weights.keys())[:ADAPTED]
        if names and all(equal(w0.read(name), named.read(name)) for name in names):
            raise RunError(
                f"{source.path}: a model beside an adapter that is not merged into it: {names[0]} is W0's, though the "
                "adapter trains it. Move the model's files elsewhere, so that the adapter is read"
            )


def _left_out(w0: WeightSource, absent: Sequence[str]) -> Iterator[str]:
    """A note on the parts of W0 that no checkpoint has."""
    if absent:
        counts = (sum(name.startswith(part) for name in w0.weights) for part in absent)
        parts = ", ".join(f"{part}* ({count} weights)" for part, count in zip(absent, counts, strict=True))
        yield f"left out, as W0 has them and no checkpoint does: {parts}"


def _require_one_adapter(adapters: Sequence[Adapter]) -> None:
    """Refuse a run whose adapters change other weights, or are scaled otherwise, than its first."""
    for adapter in adapters[1:]:
        odd = sorted(adapter.weights.keys() ^ adapters[0].weights.keys())
        if odd:
            here, there = (adapter, adapters[0]) if odd[0] in adapter.weights else (adapters[0], adapter)
            raise RunError(f"{there.path}: does not adapt {odd[0]}, which {here.path} does; a part of it is missing")
        if adapter.scaling != adapters[0].scaling:
            raise RunError(
                f"{adapter.path}: its r, lora_alpha, rank and alpha patterns or use_rslora are not those of "
                f"{adapters[0].path}; one run has one scaling"
            )


def _require_agreement(run: Run, base: BaseWeights) -> None:
    """Refuse configs that would split the same tensor differently."""
    for checkpoint in run.checkpoints:
        mine, theirs = checkpoint.source.config, base.source.config
        key = disagreement(mine, theirs)
        if key is not None:
            raise UsageError(
                f"W0 ({base.source.path}, {base.how}) does not belong to run {run.path}: {key} is "
                f"{section(theirs, '')[key]!r} in its config, and {section(mine, '')[key]!r} in that of "
                f"{checkpoint.name}. Give the model that this run started from, with --geom-base"
            )


def _dequantized(run: Run, stored: Sequence[WeightSource]) -> Iterator[str]:
    names = ["W0", *(checkpoint.name for checkpoint in run.checkpoints)]
    places = [name for name, source in zip(names, stored, strict=True) if holds_scaled_fp8(source)]
    if places:
        yield f"fp8 weights of {', '.join(places)} were dequantized to fp32; their rounding is part of the figures"


def _mixed(checkpoints: Sequence[Checkpoint]) -> Iterator[str]:
    """A note where checkpoints of one run store their weights in several manners; to lack some is none."""
    manners: dict[frozenset[str], str] = {}
    for before, checkpoint in zip([None, *checkpoints], checkpoints, strict=False):
        if before is not None and _names_alike(before.source, checkpoint.source):
            continue
        manner = _manner(checkpoint)
        if not any(manner <= known or known <= manner for known in manners):
            manners[manner] = checkpoint.name
    if len(manners) > 1:
        first, second, *_ = manners
        own = {name: min(manner - (second if manner is first else first)) for manner, name in manners.items()}
        shown = ", ".join(f"{name} has {what}" for name, what in own.items())
        yield f"stored differently along the run: {shown}; the weights are compared under one naming"


def _names_alike(one: WeightSource, other: WeightSource) -> bool:
    return one.layout == other.layout and one.weights.keys() == other.weights.keys()


def _manner(checkpoint: Checkpoint) -> frozenset[str]:
    """How a checkpoint stores weights: its layout, and the names of its tensors without their numbers."""
    source = checkpoint.source
    return frozenset({f"layout {source.layout}", *(_NUMBER.sub("#", name) for name in source.weights)})
