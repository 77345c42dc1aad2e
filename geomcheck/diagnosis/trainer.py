"""What the trainer logged: numbers that cannot be right, and what differs from the logs of good runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from geomcheck.diagnosis import logged
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind

LAST = 3
"""Entries at the end of a log that must all be the same for the training to have ended so."""

LARGE = 3.0
"""Factor from which loss and gradient norm are of another scale,"""

TOGETHER = 2.0
"""and by how much their two factors may differ."""

COLLAPSED = 0.25
"""Share of its first length that a completion has left where it collapsed."""

FEWEST = 8
"""Entries from which a log has a beginning and an end."""


def _tail(log: Mapping[int, float]) -> list[float]:
    return list(log.values())[-LAST:]


def _since(log: Mapping[int, float], is_odd: Mapping[int, bool]) -> int:
    """The first step from which on every entry is odd."""
    sound = [step for step in log if not is_odd[step]]
    return next(step for step in log if not sound or step > sound[-1])


def _find_not_finite(case: Case) -> Iterator[Finding]:
    for name in ("loss", "gradient norm"):
        log = case.log[name]
        if len(log) >= LAST and not any(map(math.isfinite, _tail(log))):
            since = _since(log, {step: not math.isfinite(value) for step, value in log.items()})
            yield NOT_FINITE.finding(
                case,
                (),
                f"the {name} in the log is no finite number from step {since} on",
                evidence=(f"the last {LAST} entries: {', '.join(f'{value:g}' for value in _tail(log))}",),
            )
            return


def _find_no_gradient(case: Case) -> Iterator[Finding]:
    for name in ("gradient norm", "learning rate"):
        log = case.log[name]
        before = list(log.values())[: -LAST or None]
        if len(log) < LAST or any(_tail(log)) or (name == "learning rate" and any(before)):  # schedules end at 0
            continue
        since = _since(log, {step: value == 0 for step, value in log.items()})
        yield NO_GRADIENT.finding(
            case,
            (),
            f"the {name} in the log is 0 {'throughout' if since == min(log) else f'from step {since} on'}",
            evidence=(f"{len(log)} entries",),
        )
        return


def _find_rate(case: Case) -> Iterator[Finding]:
    difference = logged.rate(case)
    if difference is not None and not case.memory.get(logged.TOLD):
        yield RATE.finding(
            case,
            (),
            f"the learning rate differs from a good run's: {difference.text}",
            evidence=(f"{logged.times(difference.ratio)} as much over all steps that both logged",),
        )


def _find_scaled_loss(case: Case) -> Iterator[Finding]:
    loss, gradient = logged.ratio(case, "loss"), logged.ratio(case, "gradient norm")
    if not (math.isfinite(loss) and math.isfinite(gradient)) or case.memory.get(logged.EXPECTED):
        return
    if min(abs(math.log(loss)), abs(math.log(gradient))) < math.log(LARGE):
        return
    if abs(math.log(loss / gradient)) > math.log(TOGETHER):
        return
    yield LOSS_SCALE.finding(
        case,
        (),
        f"the loss in the log is {logged.times(loss)} a good run's, and the gradient norm {logged.times(gradient)}",
        evidence=("medians over the steps that both logged",),
    )


def _find_collapse(case: Case) -> Iterator[Finding]:
    log = case.log["completion length"]
    lengths = np.array([value for value in log.values() if math.isfinite(value)])
    if len(lengths) < FEWEST or (left := _left(lengths)) >= COLLAPSED:
        return
    for one in case.good:
        good = np.array([value for value in one.log["completion length"].values() if math.isfinite(value)])
        if len(good) >= FEWEST and _left(good) < 2 * COLLAPSED:
            return
    yield COLLAPSE.finding(
        case,
        (),
        f"completions end at {left:.0%} of the length that they began with, by the log",
        evidence=(f"mean length {lengths[0]:.0f} at first, {lengths[-1]:.0f} at last",),
    )


def _left(lengths: np.ndarray) -> float:
    """The length in the last quarter as a share of that in the first."""
    quarter = len(lengths) // 4
    first = float(np.median(lengths[:quarter]))
    return float(np.median(lengths[-quarter:])) / first if first > 0 else math.inf


NOT_FINITE = Kind(
    name="not-finite-log",
    group="D",
    grade="fact",
    title="a loss or gradient that is no number",
    about="The trainer logged NaN or infinity to the end: its steps were skipped, or put NaN into the weights.",
    looks_at=("log",),
    causes=("an overflow, as of fp16 without a loss scale that falls", "a division by a mask or an advantage of zero"),
    next_step="Find the first step at which it is no number, and run that batch alone.",
    find=_find_not_finite,
)

NO_GRADIENT = Kind(
    name="no-gradient",
    group="D",
    grade="fact",
    title="no gradient, or no learning rate",
    about="The trainer logged a gradient norm of zero to the end, or a learning rate of zero throughout.",
    looks_at=("log",),
    causes=("the loss does not reach any trained weight", "all advantages or masks are zero"),
    next_step="Check requires_grad and that the loss depends on the weights; then the mask, and the schedule's steps.",
    source="https://github.com/huggingface/trl/issues/6700",
    find=_find_no_gradient,
)

RATE = Kind(
    name="learning-rate",
    group="D",
    grade="fact",
    title="another learning rate",
    about="The learning rates in the log are not those of the good runs.",
    looks_at=("log", "good"),
    causes=("another learning rate, warm-up or schedule in the configuration", "another number of planned steps"),
    next_step="Compare learning rate, scheduler, warm-up and maximum steps in both configurations.",
    find=_find_rate,
)

LOSS_SCALE = Kind(
    name="loss-scale",
    group="D",
    grade="inference",
    title="a loss of another scale",
    about="Loss and gradient norm are those of good runs times one factor. Clipping and Adam hide it from the weights.",
    looks_at=("log", "good"),
    causes=(
        "a sum over tokens or accumulation steps where a mean was meant, or the reverse",
        "another factor of the loss, or another loss",
    ),
    next_step="Compare how the loss is reduced and by what it is divided; clipping sees it, and so do logged losses.",
    find=_find_scaled_loss,
)

COLLAPSE = Kind(
    name="short-completions",
    group="D",
    grade="inference",
    title="completions that collapse",
    about="The model says less and less, by the trainer's log, and in good runs it does not.",
    looks_at=("log",),
    causes=("the objective rewards short answers", "the end of text is in the loss where it should not, or twice"),
    next_step="Read samples of early and late steps; check masks and how rewards depend on length.",
    find=_find_collapse,
)

KINDS = (NOT_FINITE, NO_GRADIENT, LOSS_SCALE, RATE, COLLAPSE)
