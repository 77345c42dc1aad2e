"""Early verdicts against the exact ones, over populations that are drawn from the figures of real runs.

``python -m tests.reliability.early [RUN...] [--sessions 10000] [--confidence 0.99]`` prints how many are wrong, by fold
and condition, and how many weights clear runs take. A session is one expectation with an edge near a folded figure,
where an early verdict is most easily wrong; figures are spread, skewed or on their bounds, a layer or a weight is bad.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import geomcheck
from geomcheck.checkpoints.weights import Weight, describe
from geomcheck.diagnostics import FOLDS, Fold, Unit, load_metrics
from geomcheck.errors import Position
from geomcheck.measurement.execute import ALWAYS
from geomcheck.record import Origin, Point, Record, Request
from geomcheck.record.column import Column
from geomcheck.suite import Expectation, judge
from geomcheck.suite.conditions import FigureCondition
from geomcheck.suite.conditions.bands import Bands
from geomcheck.suite.conditions.like import Like
from geomcheck.suite.conditions.within import AboveBelow, Near, Within
from geomcheck.suite.early.doubt import Doubt
from geomcheck.suite.early.frame import frame, limit_of
from geomcheck.suite.early.sampling import ROUND
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import ALL, Place
from geomcheck.suite.language.quantities import Quantity, Scale
from geomcheck.suite.language.selection import Selection

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
RUNS = tuple(FIXTURES / name for name in ("tiny-opd", "tiny-sft", "tiny-rlvr"))
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SHAPES = ((256, 128), (64, 128), (64, 128), (128, 256), (384, 128), (384, 128), (128, 384))
"""As those of a small model: sizes of 1 to 6, for folds that are weighted."""

METRICS: Mapping[str, Mapping[str, Any]] = {
    "subspace_alignment": {"k": 4, "to": {"step": 100}},
    "spectral_share": {},
    "stable_rank": {},
    "principal_angle": {"k": 8},
    "spectral_shift": {},
}
SIZES = (14, 14, 28, 28, 56, 56, 112, 196, 399)
CONDITIONS = ("within", "above", "below", "near", "bands", "like")
SPOILT = ("as it is", "spread", "skewed", "at the bound", "one bad layer", "one bad weight", "all alike", "two kinds")


CEILING = 0.05
"""How far ceilings of clear stable ranks lie above them at the most."""


@dataclass(frozen=True)
class Outcome:
    """What an early verdict came to: how many weights of how many it took, and whether it was the exact one."""

    fold: Fold
    condition: str
    per: str
    weights: int
    total: int
    wrong: bool

    @property
    def early(self) -> bool:
        """Whether it came before the last weight."""
        return self.weights < self.total


@cache
def pool(runs: tuple[Path, ...] = RUNS) -> dict[str, np.ndarray]:
    """Figures of every weight of real runs at every checkpoint, by metric."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        record = geomcheck.measure(run, metrics=[*METRICS, "relative_update_norm"], cache=None)
        for (request, stat), column in record.columns.items():
            if request.metric in METRICS and stat == load_metrics()[request.metric].stat({}):
                found[request.metric] += column.values[np.isfinite(column.values)].tolist()
    return {metric: np.array(values) for metric, values in found.items()}


@cache
def names_of(count: int) -> dict[str, Weight]:
    """`count` weights of a model, layer by layer."""
    where = ("self_attn",) * 4 + ("mlp",) * 3
    return {
        name: describe(name, SHAPES[i % 7], ("bf16", "bf16"))
        for i in range(count)
        for name in [f"model.layers.{i // 7}.{where[i % 7]}.{MODULES[i % 7]}.weight"]
    }


@cache
def ranges(metric: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest that the figures of `count` weights can be."""
    declared = load_metrics()[metric]
    params = {**declared.defaults, **METRICS[metric]}
    of_shape = [declared.range(params, shape) for shape in SHAPES]
    low, high = np.array([of_shape[i % len(SHAPES)] for i in range(count)]).T
    return low, high


def record_of(weights: Mapping[str, Weight], figures: Mapping[str, Mapping[int, np.ndarray]]) -> Record:
    """A record with `figures` by metric and step, in the order of the weights."""
    steps = sorted({step for of_metric in figures.values() for step in of_metric})
    record = Record(
        run="drawn",
        path="/drawn",
        layout="hf",
        points=tuple(Point(f"checkpoint-{step}", step, step / steps[-1]) for step in steps),
        origin=Origin("/base", "--geom-base"),
        weights=dict(weights),
    )
    names, metrics = tuple(weights), load_metrics()
    all_of = {step: np.zeros(len(names)) for step in steps}
    for name, of_metric in {"frozen_share": all_of, **figures}.items():
        params = {**metrics[name].defaults, **METRICS.get(name, {})}
        record.columns[Request.of(metrics[name], params), metrics[name].stat(params)] = Column(
            np.repeat(np.array(list(of_metric)), len(names)),
            names,
            np.tile(np.arange(len(names), dtype=np.int32), len(of_metric)),
            np.concatenate(list(of_metric.values())),
            {},
        )
        record.versions[name] = metrics[name].version
    return record


def spoilt(values: np.ndarray, how: str, low: np.ndarray, high: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Figures of weights, layer by layer, made worse; all in their ranges."""
    values, count, middle = values.copy(), len(values), float(np.median(values))
    match how:
        case "spread":
            values = middle + 4 * (values - middle)
        case "skewed":
            values = values * np.exp(chance.exponential(1.0, count))
        case "at the bound":
            bound = high if chance.random() < 0.5 else low
            values = np.where(chance.random(count) < chance.choice([0.02, 0.2, 0.6]), bound, values)
        case "one bad layer":
            start = 7 * int(chance.integers(max(1, count // 7)))
            values[start : start + 7] = high[start : start + 7] if chance.random() < 0.5 else low[start : start + 7]
        case "one bad weight":
            place = int(chance.integers(count))
            values[place] = high[place] if chance.random() < 0.5 else low[place]
        case "all alike":
            values[:] = middle
        case "two kinds":
            values = np.where(chance.random(count) < chance.choice([0.1, 0.5]), high, low)
    return np.clip(values, low, high)


def draw(metric: str, count: int, how: str, chance: np.random.Generator) -> tuple[dict[str, Weight], dict[str, Any]]:
    """Weights, and their figures at some checkpoints, by metric."""
    weights = names_of(count)
    declared, steps = load_metrics()[metric], (20,)[: int(chance.integers(2))]
    low, high = ranges(metric, count)
    figures: dict[str, Any] = {metric: {}}
    drawn = chance.choice(pool()[metric], count)
    if declared.limited_by:
        high = np.fmin(high, drawn * chance.choice([chance.uniform(1, 1.1, count), chance.uniform(2, 10, count)]))
        figures[declared.limited_by] = dict.fromkeys((20, 40, 100), high)
    for step in (*steps, 100):
        figures[metric][step] = spoilt(np.fmin(drawn, high), how, low, high, chance)
    return weights, figures


def near_edge(value: float, scale: float, chance: np.random.Generator) -> float:
    """An edge close to a folded figure, on either side of it."""
    return value + float(chance.choice([1e-9, 0.01, 0.05, 0.2, 1.0]) * chance.choice([-1, 1]) * max(scale, 1e-12))


def condition_of(kind: str, folded: Mapping[int, float], scale: float, chance: np.random.Generator) -> FigureCondition:
    """A condition with an edge near one of the `folded` figures, and the other edges further away."""
    unit, shown = Unit.NUMBER, Scale(Unit.NUMBER)
    value = float(chance.choice(list(folded.values())))
    edge, width = near_edge(value, scale, chance), float(chance.uniform(1, 20)) * max(scale, 1e-6)
    lower, upper = (edge, edge + width) if chance.random() < 0.5 else (edge - width, edge)
    match kind:
        case "within":
            return Within.of({"within": (Quantity(lower), Quantity(upper))}, None, unit, shown)
        case "above":
            return AboveBelow.of({"above": Quantity(edge)}, None, unit, shown)
        case "below":
            return AboveBelow.of({"below": Quantity(edge)}, None, unit, shown)
        case "near":
            return Near.of({"near": Quantity((lower + upper) / 2)}, (upper - lower) / 2, unit, shown)
        case "bands":
            bands = {Place(step=step): (Quantity(lower), Quantity(upper)) for step in folded}
            return Bands.of({"bands": bands}, None, unit, shown)
        case _:
            return Like.of({}, max(abs(edge - value), 1e-9), unit, shown)


def session(chance: np.random.Generator, how_fold: Fold, kind: str, confidence: float) -> Outcome | None:
    """One early verdict beside the exact one; None where that is an error."""
    metric, count = str(chance.choice(list(METRICS))), int(chance.choice(SIZES))
    weights, figures = draw(metric, count, str(chance.choice(SPOILT)), chance)
    per = str(chance.choice(["run", "run", "run", "module", "layer", "weight"]))
    own = figures[metric]
    record = record_of(weights, figures)
    group = {"run": slice(None), "module": slice(0, None, 7), "layer": slice(0, 7), "weight": slice(0, 1)}[per]
    members = list(weights)[group]
    folded = {
        step: fold(dict(zip(members, values[group].tolist(), strict=True)), how_fold, weights)
        for step, values in own.items()
    }
    scale = float(np.std(np.concatenate(list(own.values())))) / (1 if per == "weight" else 3)
    reference, condition = None, condition_of(kind, folded, scale, chance)
    if kind == "like":
        shift = near_edge(0.0, scale, chance)
        other = {step: values + shift for step, values in own.items()}
        reference = record_of(weights, {**figures, metric: other})
    expectation = expectation_of(metric, condition, how_fold, per, float(chance.choice([0, 0, 0.05, 0.2])))
    exact = judge(expectation, record, reference)
    if exact.outcome == "error":
        return None
    early = decided(expectation, record, reference, chance, 1 - confidence)
    return Outcome(
        how_fold, kind, per, early[1], count, early[0] is not None and early[0] != (exact.outcome == "passed")
    )


def expectation_of(metric: str, condition: FigureCondition, how: Fold, per: str, allow: float) -> Expectation:
    """An expectation as a suite states it."""
    return Expectation(
        id="it",
        metric=metric,
        params={**load_metrics()[metric].defaults, **METRICS[metric]},
        condition=condition,
        at=condition.own_places or ALL,
        per=per,
        fold=how,
        weights=Selection(),
        allow=allow if per != "run" else 0.0,
        position=Position("drawn", 1, 1),
    )


def decided(
    expectation: Expectation, record: Record, reference: Record | None, chance: np.random.Generator, alpha: float
) -> tuple[bool | None, int]:
    """What is decided early, None for nothing, and by how many weights.

    What limits figures is learned after some weights, where it may decide, unless every run has it.
    """
    question = expectation.questions()[0]
    key = question.request, question.metric.stat(question.params)
    limit = limit_of(question)
    later = {key, (limit, "value")} if limit and limit.metric not in ALWAYS else {key}
    start = replace(record, columns={k: column for k, column in record.columns.items() if k not in later})
    framed = frame(expectation, start, reference)
    names = list(record.weights)
    if framed is None:
        return None, len(names)
    doubt = Doubt(framed, start, reference, alpha)
    when, limits = int(chance.integers(1, ROUND + 1)), record.figures(limit, "value") if limit else {}
    values = {(step, name): figure.value for (step, name), figure in record.figures(*key).items()}
    steps = [point.step for point in record.points]
    for seen, place in enumerate(chance.permutation(len(names)).tolist()[:-1], 1):
        name = names[place]
        doubt.see(name, {step: float(values[step, name] or 0.0) for step in steps if (step, name) in values})
        if doubt.decision(1 - alpha) is None and seen == when and doubt.awaits_limits:
            doubt.limit({place: float(figure.value or 0.0) for place, figure in limits.items()})
        if doubt.decision(1 - alpha) is not None:
            return doubt.holds, seen
    return None, len(names)


def simulate(sessions: int, confidence: float, seed: int = 0) -> list[Outcome]:
    """So many sessions, of every fold with every condition."""
    chance, found = np.random.default_rng(seed), list[Outcome]()
    kinds = [(how, kind) for how in FOLDS for kind in CONDITIONS]
    while len(found) < sessions:
        outcome = session(chance, *kinds[len(found) % len(kinds)], confidence)
        found += [outcome] if outcome is not None else []
    return found


CLEAR: Sequence[tuple[str, str, Fold, dict[str, float], float, float]] = (
    ("alignment of 0.8, above 0.5", "subspace_alignment", "mean", {"above": 0.5}, 0.8, 0.08),
    ("alignment of 0.8, above 0.5, weighted", "subspace_alignment", "weighted", {"above": 0.5}, 0.8, 0.08),
    ("alignment of 0.8, below 0.5: violated", "subspace_alignment", "mean", {"below": 0.5}, 0.8, 0.08),
    ("spectral share of 0.15, below 0.4", "spectral_share", "mean", {"below": 0.4}, 0.15, 0.04),
    ("stable rank of 25, above 15", "stable_rank", "mean", {"above": 15.0}, 25.0, 4.0),
    ("stable rank of 40, below 30: violated", "stable_rank", "mean", {"below": 30.0}, 40.0, 4.0),
    ("stable rank of 25, within 20 to 30", "stable_rank", "mean", {"above": 20.0, "below": 30.0}, 25.0, 4.0),
    ("stable rank of 25, below 27", "stable_rank", "mean", {"below": 27.0}, 25.0, 4.0),
    ("largest stable rank of some 25, below 60", "stable_rank", "max", {"below": 60.0}, 25.0, 4.0),
    ("median stable rank of 25, below 30", "stable_rank", "median", {"below": 30.0}, 25.0, 2.0),
    ("median angle of 0.2 deg, below 0.3 deg", "principal_angle", "median", {"below": 0.3}, 0.2, 0.03),
)
"""Runs that are clear: what, its metric and fold, its bounds, the mean of its weights' figures and their spread."""

UNCLEAR: Sequence[tuple[str, str, Fold, dict[str, float], float, float]] = (
    ("mean angle of 0.2 deg, below 0.3 deg", "principal_angle", "mean", {"below": 0.3}, 0.2, 0.03),
    ("stable rank of 25, below 25.3", "stable_rank", "mean", {"below": 25.3}, 25.0, 4.0),
    ("largest alignment of 0.7, below 0.99", "subspace_alignment", "max", {"below": 0.99}, 0.7, 0.05),
)
"""Runs in which one bad matrix that was not seen could turn the verdict."""


def share_needed(
    metric: str, how: Fold, given: Mapping[str, float], mean: float, spread: float, count: int, alpha: float, seed: int
) -> float:
    """The share of weights until such a run is decided."""
    chance = np.random.default_rng(seed)
    weights = names_of(count)
    low, high = ranges(metric, count)
    steps = (20, 40, 60, 80, 100)
    figures = {metric: {step: np.clip(chance.normal(mean, spread, count), low, high) for step in steps}}
    if metric == "stable_rank":
        ceilings = {step: own * (1 + CEILING * chance.random(count)) for step, own in figures[metric].items()}
        figures["stable_rank_ceiling"] = ceilings
    condition = AboveBelow.of({key: Quantity(x) for key, x in given.items()}, None, Unit.NUMBER, Scale(Unit.NUMBER))
    expectation = expectation_of(metric, condition, how, "run", 0.0)
    return decided(expectation, record_of(weights, figures), None, chance, alpha)[1] / count


def report(found: Iterable[Outcome], confidence: float) -> list[str]:
    """Wrong verdicts and weights needed, by fold and by condition."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        for group in (f"fold: {outcome.fold}", outcome.condition, f"per: {outcome.per}", "all"):
            groups[group].append(outcome)
    lines = [f"{'':14} sessions  early  wrong  (at most {1 - confidence:.2%} of all)"]
    for group, own in groups.items():
        wrong, early = sum(one.wrong for one in own), sum(one.early for one in own)
        lines.append(f"{group:14} {len(own):8}  {early / len(own):5.0%}  {wrong:5}  {wrong / len(own):.3%}")
    return lines


def main() -> int:
    """Print the tables; 1 where more verdicts were wrong than may be."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.early", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="runs whose figures are drawn from (default: the fixtures)")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--confidence", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.runs:
        measured = pool.__wrapped__(tuple(given.runs))
        globals()["pool"] = lambda: measured
    found = simulate(given.sessions, given.confidence, given.seed)
    print("\n".join(report(found, given.confidence)))
    for title, cases in (("clear", CLEAR), ("not clear", UNCLEAR)):
        for what, *case in cases:
            shares = [np.mean([share_needed(*case, n, 0.001, s) for s in range(20)]) for n in (196, 252)]
            print(f"{title}: {what}: {shares[0]:.0%} of 196 weights, {shares[1]:.0%} of 252")
    return int(sum(outcome.wrong for outcome in found) > (1 - given.confidence) * len(found))


if __name__ == "__main__":
    sys.exit(main())
