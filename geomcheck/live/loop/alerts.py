"""What a person should hear at once of a training: findings, violations, and verdicts that turned."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from geomcheck.diagnosis import Finding
from geomcheck.live.snapshot import Snapshot
from geomcheck.report.findings import headline
from geomcheck.report.safe import printable
from geomcheck.report.text.verdicts import failure
from geomcheck.suite import SoFar

Level = Literal["info", "warn", "error"]

_FAILING = ("failed", "warned", "error")

WANDB_TITLE = 64
"""Characters that a title in W&B stays below."""


@dataclass(frozen=True)
class Alert:
    """One thing to hear.

    Attributes:
        title: what it is, in a line.
        text: the figures behind it; may be empty.
        level: ``error`` where an expectation of that level is violated for good; ``warn`` for any other violation, for
            what cannot be judged, and for a finding; ``info`` for what holds again.
    """

    title: str
    text: str
    level: Level


class News:
    """Tells of each thing once, and of a verdict whenever it turns."""

    def __init__(self) -> None:
        self._told: set[object] = set()
        self._failing: dict[tuple[str, str], bool] = {}

    def of(self, step: int, found: Snapshot, findings: Sequence[Finding], *, stops: bool) -> Iterator[Alert]:
        """What is new at this step; `stops` says whether the training ends by it."""
        for finding in findings:
            if self._first(finding.kind, finding.weights):
                likely = f" (likely {'; or '.join(finding.causes)})" if finding.causes else ""
                text = "; ".join(finding.evidence)
                yield Alert(printable(f"at step {step}: {headline(finding)}{likely}"), printable(text), "warn")
        for suite, entries in found.judged:
            for entry in entries:
                yield from self._turned(step, suite.path, entry, stops=stops)

    def _turned(self, step: int, suite: str, entry: SoFar, *, stops: bool) -> Iterator[Alert]:
        """A verdict that fails and did not at the last step, or is now certain to; or that holds again."""
        verdict = entry.verdict
        if verdict is None:
            return
        settled, name = entry.standing == "settled", verdict.id
        fails = verdict.outcome in _FAILING
        before = self._failing.get((suite, name), False)
        self._failing[suite, name] = fails
        if not fails:
            if before:
                yield Alert(f"{name} holds again at step {step}", printable(verdict.message), "info")
        elif verdict.outcome == "error":
            # which passes by itself where later checkpoints can be judged
            if settled and self._first(suite, name, verdict.message):
                yield Alert(f"{name} cannot be judged at step {step}", failure(verdict.to_dict()), "warn")
        elif settled and self._first(suite, name, "settled"):
            stopped = ", and the training is stopped" if stops and verdict.outcome == "failed" else ""
            level: Level = "error" if verdict.outcome == "failed" else "warn"
            yield Alert(f"{name} is violated at step {step}{stopped}", failure(verdict.to_dict()), level)
        elif not settled and not before:
            text = failure(verdict.to_dict())
            yield Alert(f"{name} does not hold at step {step}, which later checkpoints may mend", text, "warn")

    def _first(self, *what: object) -> bool:
        new = what not in self._told
        self._told.add(what)
        return new


def _to_trackio(trackio: Any, alert: Alert) -> None:
    if trackio.context_vars.current_run.get() is not None:
        trackio.alert(alert.title, alert.text or None, trackio.AlertLevel[alert.level.upper()])


def _to_wandb(wandb: Any, alert: Alert) -> None:
    if wandb.run is not None:
        title = alert.title if len(alert.title) < WANDB_TITLE else f"{alert.title[: WANDB_TITLE - 4]}..."
        text = f"{alert.title}\n{alert.text}" if alert.text or title != alert.title else alert.title
        # by default W&B drops an alert whose title another had in the last minute
        wandb.run.alert(title, text, wandb.AlertLevel[alert.level.upper()], wait_duration=0.001)


_TAKERS: dict[str, Callable[[Any, Alert], None]] = {"trackio": _to_trackio, "wandb": _to_wandb}
"""Trackers that have alerts, by their names in ``report_to=`` and as modules."""


def send(alert: Alert, tracker: str) -> None:
    """Hand an alert to a tracker that has alerts, where a run of it goes on. Raises whatever the tracker raises."""
    if tracker in _TAKERS and tracker in sys.modules:
        _TAKERS[tracker](sys.modules[tracker], alert)
