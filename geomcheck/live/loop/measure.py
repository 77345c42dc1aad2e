"""Measuring the weights of a training at one checkpoint: its figures, and the earlier ones that it changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor

from geomcheck.checkpoints import Change, WeightSource
from geomcheck.checkpoints.weights import is_weight
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.diagnostics.linalg import SMALL
from geomcheck.errors import RunError, Undefined
from geomcheck.live.loop.history import History, ObservedWeight, Step
from geomcheck.live.loop.plan import WeightPlan, signature
from geomcheck.measurement import Cache
from geomcheck.measurement.content import digest
from geomcheck.measurement.device import prepared
from geomcheck.measurement.execute import fill
from geomcheck.measurement.itinerary import Itinerary
from geomcheck.measurement.trajectory import Channel, Trajectory, WeightFiles, follow
from geomcheck.record import Point, Record, Request, is_trivial, locate
from geomcheck.record.points import is_awaited

VECTORS = 1 << 22
"""Entries of vectors that an observation reads, all together."""

HEADROOM = 0.8
"""Share of the budget that the first observation may use, so that the next ones, a little slower, keep its weights."""


@dataclass(frozen=True)
class Means:
    """What measuring may use: a device, factorizations of W0 from before, and seconds per observation."""

    device: torch.device
    cache: Cache
    budget: float | None


def measure_step(
    point: Point,
    history: History,
    asked: WeightPlan,
    changed: Mapping[str, str],
    current: WeightSource,
    base: WeightSource,
    means: Means,
    *,
    began: float,
) -> Step:
    """Measure the checkpoint that has come at `point`, of as many weights as the budget allows.

    Args:
        changed: weights that are beyond comparison by now, with the reason.
        current, base: the weights as they are, and W0.
        began: when the observation began, by `time.perf_counter`.

    Raises:
        RunError: no weight can be measured.
    """
    itinerary = _itinerary((*history.points, point), frozenset().union(*asked.values()))
    known, left_out = history.observed, history.skipped
    names = [name for name in known or asked if name not in left_out]
    skipped = {name: f"{point.name}: {changed[name]}" for name in names if name in changed}
    seconds = None if means.budget is None else means.budget * (1 if known else HEADROOM)
    observed: dict[str, ObservedWeight] = {}
    with prepared(means.device):
        for name in (name for name in names if name not in changed):
            if observed and seconds is not None and time.perf_counter() - began > seconds:
                break
            try:
                observed[name] = observe_weight(name, asked[name], itinerary, history, current, base, means)
            except RunError as error:
                skipped[name] = str(error)
    if not observed:
        odd = next((f"{name}: {reason}" for name, reason in skipped.items()), "none was asked for")
        raise RunError(f"no weight could be measured, such as {odd}")
    return Step(point, signature(asked), observed, skipped)


def observe_weight(
    name: str,
    asked: Set[Request],
    itinerary: Itinerary,
    history: History,
    current: WeightSource,
    base: WeightSource,
    means: Means,
) -> ObservedWeight:
    """Measure what is `asked` of one weight at the last checkpoint of `itinerary`.

    Raises:
        RunError: a tensor cannot be read, or holds NaN or infinity, or is empty where W0 is not.
    """
    points, now = itinerary.points, len(itinerary.points) - 1
    reads: list[Callable[[], Tensor | Change]] = [partial(_gone, point) for point in points[:-1]]
    reads.append(partial(current.read, name))
    files = WeightFiles(name, partial(base.read, name), reads, match=_no_reference, reference=_no_reference)
    trajectory = Trajectory(files, points, means.device, means.cache, history.kept(name))
    own = replace(itinerary, requests=[asked & due for due in itinerary.requests], later=asked & itinerary.later)
    measured = follow(trajectory, own)
    trajectory.remember()
    after = trajectory.kept
    channels = {(k, side): _compact(channel) for (index, k, side), channel in after.channels.items() if index == now}
    return ObservedWeight(measured, channels, now in after.unchanged)


def seen_vectors(
    record: Record, current: WeightSource, base: WeightSource, most: int = VECTORS
) -> dict[str, tuple[str, str]]:
    """The digests in W0 and now of the small tensors that are no matrices: they are cheap, and tell what never moves.

    Raises RunError where one cannot be read.
    """
    found = {}
    for name, weight in record.weights.items():
        if weight.is_matrix or weight.lent or not is_weight(weight) or name in record.skipped or weight.numel > most:
            continue
        before, now = base.read(name), current.read(name)
        if isinstance(before, Tensor) and isinstance(now, Tensor):
            most -= weight.numel
            old = digest(before)
            found[name] = old, old if torch.equal(before.to(now.dtype), now) else digest(now)
    return found


def complete(record: Record, history: History, asked: WeightPlan, means: Means) -> None:
    """Add the figures of all observations to a record (from `survey`), and leave out the weights that have none."""
    observed, skipped = set(history.observed), history.skipped
    unobserved = asked.keys() - observed - skipped.keys()
    record.weights = {name: weight for name, weight in record.weights.items() if name not in unobserved}
    record.skipped = dict(sorted({**record.skipped, **skipped}.items()))
    if unobserved:
        record.notes += (
            f"measured while training, {len(observed)} of {len(asked)} weights in the {means.budget:g} s that an "
            "observation may take: figures are of these weights alone",
        )
    record.contents = history.contents(record.weights)
    fill(record, {name: history.measured(name) for name in observed}, load_metrics(), str(means.device))


def _itinerary(points: Sequence[Point], requests: Set[Request]) -> Itinerary:
    """What to measure of `requests` at each checkpoint when the last of `points` has come.

    At the last one that is everything, and at earlier ones what is now compared with another checkpoint than before.
    What later checkpoints may be compared with stays in memory.
    """
    metrics, last = load_metrics(), len(points) - 1
    now, before = (Itinerary(seen, [requests] * len(seen), metrics) for seen in (points, points[:-1]))

    def is_new(request: Request, index: int) -> bool:
        if is_trivial(metrics[request.metric], request.parameters(), points, index):
            return False
        return index == last or now.targets(request, index) != before.targets(request, index)

    wanted = [{request for request in requests if is_new(request, index)} for index in range(len(points))]
    later = {request for request in requests if _may_compare_later(metrics[request.metric], request, points)}
    return Itinerary(points, wanted, metrics, later)


def _may_compare_later(metric: Metric, request: Request, points: Sequence[Point]) -> bool:
    """Whether a later figure of `request` may need the channel of the last of `points`."""
    if not metric.across:
        return False
    newest, places = len(points) - 1, metric.places(request.parameters()).values()
    # With "previous", the next one is compared with this one; with one that is awaited, this one is with that.
    return any(at == "previous" or is_awaited(points, at) or locate(points, at, newest) == newest for at in places)


def _compact(channel: Channel) -> Channel:
    """A channel of a large matrix in float32: half the memory, for 1e-7 of a figure."""
    return channel.float() if isinstance(channel, Tensor) and len(channel) >= SMALL else channel


def _gone(point: Point) -> NoReturn:
    raise Undefined(
        f"the weights of {point.name} are needed again, and a watched training keeps only channels of them; measure "
        "the saved checkpoints"
    )


def _no_reference(_: float) -> NoReturn:
    raise Undefined("a training reads no weights of a reference run")
