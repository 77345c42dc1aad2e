"""How much of the free run's gain in a score a constrained run, and its random controls, retain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geomcheck.checkpoints.constraint import Constraint
from geomcheck.record import Record
from geomcheck.suite.conditions import parties
from geomcheck.suite.conditions.parties import Party, constraint_of, named_party, party_of
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.verdict import Unanswerable


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Which gain is looked at, and in which runs.

    Attributes:
        score: name of the score.
        lower: whether a lower score is better.
        free: run or record of the free training; None for ``--geom-reference``.
        random: runs or records of the training in random channels, at least one.
        start: the score before training; None takes each run's own at step 0.
        since_constraint: count what was gained since the constraint began, which is what it can touch.
        least: what the free run must have gained for a share of it to mean anything.
    """

    score: str
    lower: bool = False
    free: Path | None = None
    random: tuple[Path, ...]
    start: float | None = None
    since_constraint: bool = False
    least: float = 0.0


@dataclass(frozen=True)
class Retained:
    """What one run kept of the free run's gain, by step."""

    name: str
    shares: Mapping[int, float]


@dataclass(frozen=True)
class Retention:
    """The run and its controls against the free run.

    Attributes:
        constraint: of the run.
        own: the run.
        controls: the runs in random channels, in the suite's order.
        scores: by step, (the run's, the free run's) score; with that of `origin`.
        origin: the step from which the gain is counted.
    """

    constraint: Constraint
    own: Retained
    controls: tuple[Retained, ...]
    scores: Mapping[int, tuple[float, float]]
    origin: int

    def best(self, step: int) -> float:
        """What the control that kept most kept at `step`."""
        return max(control.shares[step] for control in self.controls)


def retention(
    asked: Gain, record: Record, reference: Record | None, steps: Sequence[int], weights: Selection
) -> Retention:
    """What the run of `record` and its controls kept at `steps`, as far as the constraint was in force there.

    Args:
        reference: the free run, where the suite names none.
        steps: the checkpoints that are judged.
        weights: what must have been confined, and to fewer directions than it has inputs.

    Raises Unanswerable where a score is missing or no number, the free run did not gain, the run or a control was not
    constrained as it should be, or the free run was.
    """
    own = party_of(f"run {record.run!r}", record.run, record.account)
    free = _free(asked, reference)
    controls = [named_party("random", path) for path in asked.random]
    constraint = constraint_of(own, "learned")
    parties.require_confined(constraint, record, weights)
    parties.require_free(free, constraint.start_step)
    parties.require_another(own, free, constraint.start_step)
    parties.require_controls(constraint, controls)
    after = [step for step in steps if step > constraint.start_step]
    if not after:
        raise Unanswerable(
            f"the constraint began at step {constraint.start_step}, and no later checkpoint is judged: until then the "
            "run was free itself; judge later ones, such as `at: last`"
        )
    for party in (own, *controls):
        parties.require_in_force(party, constraint.start_step, max(after))
    origin = constraint.start_step if asked.since_constraint else 0
    _require_likely_start(asked, (own, free, *controls))
    scores = {party.name: _scores(party, asked, (origin, *after)) for party in (own, free, *controls)}
    if not asked.since_constraint:
        _require_one_start(asked, scores)
    gains = {step: _gain(asked, scores[free.name], origin, step) for step in after}
    kept = [
        Retained(party.title, {step: _change(asked, scores[party.name], origin, step) / gains[step] for step in after})
        for party in (own, *controls)
    ]
    pairs = {step: (scores[own.name][step], scores[free.name][step]) for step in (origin, *after)}
    return Retention(constraint, kept[0], tuple(kept[1:]), pairs, origin)


def _free(asked: Gain, reference: Record | None) -> Party:
    if asked.free is not None:
        return named_party("free", asked.free)
    if reference is None:
        raise Unanswerable("it needs the free run: name it with `free: PATH` or --geom-reference=PATH")
    return party_of(f"the reference {reference.run!r}", reference.run, reference.account)


def _scores(party: Party, asked: Gain, steps: Sequence[int]) -> dict[int, float]:
    """The scores of a run at `steps`, of which 0 is before training."""
    held = party.account.scores.get(asked.score)
    if held is None:
        there = ", ".join(sorted(party.account.scores)) or "none"
        raise Unanswerable(
            f"{party.name} has no score `{asked.score}`; it has: {there} (`eval...` entries of log_history in "
            "trainer_state.json, and those of scores.json or scores.csv)"
        )
    wanted = held if asked.start is None else {**held, 0: asked.start}
    found = {}
    for step in steps:
        if step not in wanted:
            hint = "; evaluate before training (eval_on_start), or give `start`" if step == 0 else ""
            listed = ", ".join(map(str, sorted(held)))
            raise Unanswerable(f"{party.name} has no {asked.score} at step {step}; it has steps {listed}{hint}")
        if not math.isfinite(wanted[step]):
            raise Unanswerable(f"{asked.score} of {party.name} at step {step} is {wanted[step]}, not a number")
        found[step] = wanted[step]
    return found


def _require_likely_start(asked: Gain, several: Sequence[Party]) -> None:
    """Raise Unanswerable where the score before training that the suite gives is none that the runs could have had."""
    told = [party.account.scores.get(asked.score, {}) for party in several]
    known = [by_step[0] for by_step in told if 0 in by_step]
    if asked.start is not None and known and not min(known) <= asked.start <= max(known):
        raise Unanswerable(
            f"`start` is {asked.start:g}, but before training the runs scored {min(known):g} to {max(known):g} in "
            f"{asked.score}; remove `start`"
        )


def _require_one_start(asked: Gain, scores: Mapping[str, Mapping[int, float]]) -> None:
    (first, start), *others = ((name, by_step[0]) for name, by_step in scores.items())
    for name, other in others:
        if not math.isclose(start, other, rel_tol=1e-9, abs_tol=1e-12):
            raise Unanswerable(
                f"the runs do not start alike: {asked.score} at step 0 is {start:g} in {first} and {other:g} in "
                f"{name}; start them from the same weights, or, where only the evaluation varies, give `start`"
            )


def _change(asked: Gain, scores: Mapping[int, float], origin: int, step: int) -> float:
    change = scores[step] - scores[origin]
    return -change if asked.lower else change


def _gain(asked: Gain, scores: Mapping[int, float], origin: int, step: int) -> float:
    """What the free run gained by `step`, which must be something."""
    gain = _change(asked, scores, origin, step)
    if not gain > asked.least:
        least = f", not above `min_gain` {asked.least:g}" if asked.least else ""
        raise Unanswerable(
            f"the free run gained {gain:.4g} in {asked.score} by step {step} ({scores[origin]:g} to "
            f"{scores[step]:g}){least}: there is no gain of which a share could be kept"
        )
    return gain
