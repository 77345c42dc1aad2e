"""Measuring the weights of a training at one checkpoint, and the record of all checkpoints so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import torch

from geomcheck.checkpoints import WeightSource
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError
from geomcheck.live.loop.history import History, ObservedWeight, Step
from geomcheck.live.loop.plan import WeightPlan, signature
from geomcheck.live.loop.weight import itinerary_at_newest, observe_weight
from geomcheck.measurement.device import prepared
from geomcheck.measurement.execute import fill
from geomcheck.measurement.measured import BaseStates
from geomcheck.record import Point, Record

HEADROOM = 0.8
"""Share of the budget that the first observation may use, so that the next ones, a little slower, keep its weights."""


def measure_step(
    point: Point,
    history: History,
    asked: WeightPlan,
    changed: Mapping[str, str],
    current: WeightSource,
    base: WeightSource,
    *,
    began: float,
    budget: float | None,
    device: torch.device,
    memory: BaseStates,
) -> Step:
    """Measure the new checkpoint at `point`, of as many weights as the budget allows.

    Args:
        changed: weights that are beyond comparison by now, with the reason.
        current, base: the weights as they are, and W0.
        began: when the observation began, by `time.perf_counter`.
        budget: seconds that it may take.
        memory: factorizations of W0.

    Raises:
        RunError: no weight can be measured.
    """
    itinerary = itinerary_at_newest((*history.points, point), frozenset().union(*asked.values()))
    known, left_out = history.observed, history.skipped
    names = [name for name in known or asked if name not in left_out]
    skipped = {name: f"{point.name}: {changed[name]}" for name in names if name in changed}
    seconds = None if budget is None else budget * (1 if known else HEADROOM)
    observed: dict[str, ObservedWeight] = {}
    with prepared(device):
        for name in (name for name in names if name not in changed):
            if observed and seconds is not None and time.perf_counter() - began > seconds:
                break
            try:
                observed[name] = observe_weight(
                    name,
                    asked[name],
                    itinerary,
                    history.kept(name),
                    base=partial(base.read, name),
                    current=partial(current.read, name),
                    device=device,
                    memory=memory,
                )
            except RunError as error:
                skipped[name] = str(error)
    if not observed:
        odd = next((f"{name}: {reason}" for name, reason in skipped.items()), "none was asked for")
        raise RunError(f"no weight could be measured, such as {odd}")
    return Step(point, signature(asked), observed, skipped)


def complete(record: Record, history: History, asked: WeightPlan, budget: float | None, device: torch.device) -> None:
    """Add the figures of all observations to a record (from `survey`), and leave out the weights that have none."""
    observed, skipped = set(history.observed), history.skipped
    unobserved = asked.keys() - observed - skipped.keys()
    record.weights = {name: weight for name, weight in record.weights.items() if name not in unobserved}
    record.skipped = dict(sorted({**record.skipped, **skipped}.items()))
    if unobserved:
        record.notes += (
            f"measured while training, {len(observed)} of {len(asked)} weights in the {budget:g} s that an "
            "observation may take: figures are of these weights alone",
        )
    fill(record, {name: history.measured(name) for name in observed}, load_metrics(), str(device))
