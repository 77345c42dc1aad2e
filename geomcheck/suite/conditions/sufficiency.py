"""Whether training inside a small channel suffices: the share of the free run's gain that a constrained run keeps.

The causal test of arXiv 2606.07082: train freely for 20% of the steps, then confine every update to the directions
V_K learned by then. On-policy distillation goes on to gain; supervised fine-tuning does not. A channel drawn at random
is the control: without it the finding could be that any K directions do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field

from geomcheck.diagnostics import Unit, Words
from geomcheck.record import Record
from geomcheck.suite.conditions import wording
from geomcheck.suite.conditions.band import Band, Offence, bounds
from geomcheck.suite.conditions.gain import Gain, Retention, retention
from geomcheck.suite.conditions.profile import Profile
from geomcheck.suite.conditions.subject import SubjectCondition
from geomcheck.suite.expectation import Expectation, Finding
from geomcheck.suite.language import fields
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.places import LAST, At
from geomcheck.suite.language.quantities import Quantity, Refusal, Scale, quantity, spelled, wide_share
from geomcheck.suite.language.statement import TEXT_SCHEMA, TEXTS_SCHEMA, Statement, Text
from geomcheck.suite.sampling import Question
from geomcheck.suite.verdict import Bounds, Observed, Worst

SUFFICIENCY = "functional_sufficiency"

FALLING = ("loss", "perplexity", "ppl", "_nll", "_wer", "_cer")
"""Ends of the names of scores of which less is better."""

BETTER = {"higher": "A higher score is better, as of an accuracy.", "lower": "A lower score is better, as of a loss."}
SINCE = {
    "start": "The whole training: the score at step 0, or what `start` gives.",
    "constraint": "What the constraint can touch: each run's own score at the step where the constraint began.",
}


def _controls(raw: Any) -> list[str]:
    paths = [raw] if isinstance(raw, str) else raw
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path.strip() for path in paths):
        raise Refusal(f"expected a path, or a list of them such as `[../random-0, ../random-1]`; found {spelled(raw)}")
    if len(set(paths)) < len(paths):
        raise Refusal("a control is named twice; keep one")
    return paths


def _number(raw: Any) -> float:
    return quantity(raw, Unit.NUMBER).value


def _not_negative(read: Callable[[Any], float], what: str, raw: Any) -> float:
    value = read(raw)
    if value < 0:
        raise Refusal(f"{what} is not negative; found {spelled(raw)}")
    return value


_SHARE = fields.read_by(wide_share, fields.RATIO_SCHEMA)
_GAIN = fields.read_by(partial(_not_negative, _number, "a gain that is asked for"), {"type": "number", "minimum": 0})
_MARGIN = fields.read_by(
    partial(_not_negative, lambda raw: wide_share(raw).value, "a margin above random channels"), fields.RATIO_SCHEMA
)


class SufficiencyStatement(Statement):
    """An expectation about what training inside a small channel keeps of the free run's gain."""

    metric: Annotated[str, *fields.one_of((SUFFICIENCY,))] = Field(
        description="The share of the free run's gain in a score that training inside a learned channel keeps."
    )
    score: Text = Field(
        description="Name of the score: an `eval...` entry of log_history, or of scores.json or scores.csv in the run.",
        examples=["eval_accuracy"],
    )
    better: Annotated[str, *fields.one_of(BETTER)] = Field(
        "higher", description="Which scores are better: `higher` or `lower`. Default: higher."
    )
    free: Text = Field(
        "",
        description="The run without constraint, or its record, relative to this file. Default: --geom-reference.",
        examples=["../opd-free"],
    )
    random: Annotated[list[str], *fields.read_by(_controls, {"anyOf": [TEXT_SCHEMA, TEXTS_SCHEMA]})] = Field(
        description="Runs in random channels of the same K, or their records, relative to this file.",
        examples=[["../opd-random-0", "../opd-random-1"]],
    )
    start: Annotated[float | None, *fields.read_by(_number, {"type": "number"})] = Field(
        None, description="The score before training. Default: each run's own at step 0.", examples=[0.11]
    )
    since: Annotated[str, *fields.one_of(SINCE)] = Field(
        "start", description="Where the gain is counted from: `start` of the training, or `constraint`. Default: start."
    )
    min_gain: Annotated[float, *_GAIN] = Field(
        0.0,
        description="What the free run must have gained for a share of it to mean anything. Default: 0.",
        examples=[0.02],
    )
    above: Annotated[Quantity | None, *_SHARE] = Field(
        None, description="More of the gain is kept; may be combined with `below`."
    )
    below: Annotated[Quantity | None, *_SHARE] = Field(
        None, description="Less of the gain is kept; may be combined with `above`."
    )
    over_random: Annotated[float | None, *_MARGIN] = Field(
        None, description="By how much the best random channel must be exceeded. Default: 0 with `above`."
    )
    at: Annotated[At, *fields.AT] = Field(
        At(LAST, LAST, single=True), description="The checkpoints; each must hold. Default: last."
    )


@dataclass(frozen=True, kw_only=True)
class Sufficiency(SubjectCondition):
    """The share of the free run's gain in a score that is kept lies in `band`.

    The share at a step is ``(constrained - start) / (free - start)``, with `start` the score before training; or, of
    what was gained since the constraint began, each run less its own score at that step.

    Attributes:
        band: of the share; above 1 where the constrained run gains more.
        gain: which gain, and in which runs.
        over_random: by how much the share must exceed that of the best control; None does not ask. The claim is about
            the learned directions, and they must beat the best of a few random draws, not their mean.
    """

    band: Band
    gain: Gain
    over_random: float | None = None

    keyword = SUFFICIENCY
    folds = False
    answers_later = True
    statement = SufficiencyStatement
    words = Words(
        "How much of the free run's gain in a score is kept when training may only move in a few directions, learned "
        "early in the run. Random directions are the control.",
        "A few early directions suffice for this training, which they should not.",
        "A few early directions do not suffice for this training, or random ones do as well.",
    )

    @classmethod
    def of(cls, statement: SufficiencyStatement, node: Node, profiles: Sequence[Profile]) -> Self:
        _require_sense(statement, node)
        asked = statement.over_random if statement.over_random is not None else 0.0
        condition = cls(
            band=bounds(statement.above, statement.below, Scale(Unit.FRACTION, percent=True)),
            gain=Gain(
                score=statement.score,
                lower=statement.better == "lower",
                free=_beside(node, "free", statement.free) if statement.free else None,
                random=tuple(_beside(node, "random", path) for path in statement.random),
                start=statement.start,
                since_constraint=statement.since == "constraint",
                least=statement.min_gain,
            ),
            over_random=None if statement.above is None else asked,
        )
        fault = condition.band.fault(-math.inf, math.inf)
        if fault:
            key = "above" if "above" in node.value else "below"
            raise Refusal(f"`{condition.text}` {fault}", path=(key,))
        return condition

    @classmethod
    def params(cls, statement: SufficiencyStatement) -> dict[str, Any]:
        free = statement.free or "--geom-reference"
        given = {"score": statement.score, "better": statement.better, "since": statement.since, "free": free}
        optional = {"random": statement.random, "start": statement.start, "min_gain": statement.min_gain or None}
        return given | {key: value for key, value in optional.items() if value is not None}

    @property
    def text(self) -> str:
        if self.over_random is None:
            return self.band.text
        margin = f"more than {self.over_random * 100:.10g} points above" if self.over_random else "above"
        return f"{self.band.text}, and {margin} random channels"

    @property
    def percent(self) -> bool:
        return self.band.scale.percent

    @property
    def bounds(self) -> Bounds:
        return self.band.bounds

    @property
    def compares(self) -> bool:
        return self.gain.free is None

    @property
    def parties(self) -> tuple[Path, ...]:
        return (*([self.gain.free] if self.gain.free else []), *self.gain.random)

    def unit(self, metric: str) -> str:
        return self.band.scale.unit.value

    def questions(self, expectation: Expectation) -> list[Question]:
        return []

    def offence(self, share: float, best: float) -> Offence:
        """Whether a share is on the wrong side, beside that of the best control, and how far."""
        wrong, far = self.band.offence(share)
        if self.over_random is None:
            return wrong, far
        short = self.over_random - (share - best)
        return wrong or not short < 0, max(far, short)

    def judge(self, expectation: Expectation, record: Record, reference: Record | None) -> Finding:
        steps = [point.step for point in expectation.at.select(record.points)]
        found = retention(self.gain, record, reference, steps, expectation.weights)

        def observe(step: int, share: float) -> Observed:
            best = found.best(step)
            return Observed(step, None, share, not self.offence(share, best)[0], random=best)

        observed = tuple(observe(step, share) for step, share in found.own.shares.items())
        extreme = max(observed, key=lambda o: self.offence(o.value, found.best(o.step)))
        beside = ((found.own, "learned"), *((control, "random") for control in found.controls))
        worst = tuple(
            Worst(extreme.step, f"{run.name} ({how}, K = {found.constraint.k})", run.shares[extreme.step])
            for run, how in beside
        )
        side = self.band.side(extreme.value)
        holds = all(o.holds for o in observed)
        return Finding(holds, self._sentence(found, observed, extreme), observed, extreme, worst, side=side)

    def _sentence(self, found: Retention, observed: tuple[Observed, ...], extreme: Observed) -> str:
        """What a constrained run kept, with what its controls kept beside it."""
        step, gain = extreme.step, self.gain
        (start, free_start), (own, free) = found.scores[found.origin], found.scores[step]
        whose = f"gain in {gain.score}{f' since step {found.origin}' if gain.since_constraint else ''}"
        free_path = f"{free:.4g}" if free_start == start else f"{free_start:.4g} to {free:.4g}"
        broken = sum(not o.holds for o in observed)
        many = f" at {broken} of {len(observed)} checkpoints, furthest" if broken > 1 else ""
        count = len(found.controls)
        controls = "the random channel keeps" if count == 1 else f"the best of {count} random channels keeps"
        seen = wording.against(extreme.value, self.band.bounds, self.band.scale)
        return (
            f"{SUFFICIENCY} {'left' if broken else 'keeps'} {self.text}{many} at step {step}: "
            f"{seen} of the free run's {whose} is kept inside K = "
            f"{found.constraint.k} directions learned by step {found.constraint.start_step}, {controls} "
            f"{self.band.scale.show(found.best(step))} ({start:.4g} to {own:.4g}; free {free_path})"
        )


def _require_sense(statement: SufficiencyStatement, node: Node) -> None:
    """Refuse a statement that contradicts itself. Raises Refusal."""
    if statement.above is None and statement.below is None:
        raise Refusal(f"expectation {spelled(statement.id)} has no condition; give `above`, `below` or both")
    if "better" not in node.value and statement.score.lower().endswith(FALLING):
        message = f"`{statement.score}` looks like a score that falls in training; say `better: lower`, or `higher`"
        raise Refusal(message, path=("score",))
    if statement.over_random is not None and statement.above is None:
        message = "`over_random` goes with `above`: that less than a share is kept says nothing of more than random"
        raise Refusal(message, path=("over_random",))
    if statement.start is not None and statement.since == "constraint":
        raise Refusal("`start` is not looked at with `since: constraint`; remove one", path=("start",))


def _beside(node: Node, key: str, path: str) -> Path:
    """A path relative to the file that names it, which may be one that the suite extends."""
    file = Path(node.value[key].position.path)
    return (file.resolve().parent / Path(path).expanduser()).resolve()
