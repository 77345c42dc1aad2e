"""A watch in words: what is settled, what may still turn, what is not due yet; as lines or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import geomcheck
from geomcheck.report.document import FORMAT, OUTCOMES, run_of
from geomcheck.report.text.screen import Screen
from geomcheck.report.text.summary import table
from geomcheck.report.text.verdicts import OUTCOME_WORDS, failure

if TYPE_CHECKING:
    from geomcheck.live.directory import End, Look
    from geomcheck.suite import SoFar

NOT_DUE = "not due yet"
_STANDING_WIDTH = len("provisional")
_WORD_WIDTH = max(map(len, OUTCOME_WORDS.values()))
_MARGIN = 2 + _STANDING_WIDTH + 1 + _WORD_WIDTH + 1


def heading(look: Look) -> str:
    """Where the run is, and how its expectations stand."""
    point, record = look.record.points[-1], look.record
    of = f" of {look.run.planned} ({point.progress:.0%})" if look.run.planned is not None else ""
    counts = Counter[str](entry.standing for entry in look.entries)
    stand = ", ".join(f"{counts[name]} {name}" for name in ("settled", "provisional", NOT_DUE) if counts[name])
    return f"{record.run}: {point.name}, step {point.step}{of}: {stand}"


def lines(entries: Sequence[SoFar], screen: Screen) -> list[tuple[str, str]]:
    """A line per expectation, with its outcome; an empty outcome where it is not due yet."""
    judged = [(entry, entry.verdict.to_dict()) for entry in entries if entry.verdict is not None]
    narrow = replace(screen, width=screen.width - _MARGIN) if screen.terminal else screen
    tabled = table([facts for _, facts in judged], narrow) if judged else []
    shown = {id(entry): (facts["outcome"], rows) for (entry, facts), rows in zip(judged, tabled, strict=True)}
    found = []
    for entry in entries:
        outcome, rows = shown.get(id(entry), ("", [f"{entry.due.expectation.id}: waits for {entry.due.waits_for}"]))
        word = OUTCOME_WORDS.get(outcome, "")
        start = f"  {entry.standing:{_STANDING_WIDTH}} {word:{_WORD_WIDTH}} "
        found += [(outcome, f"{start if index == 0 else ''}{row}") for index, row in enumerate(rows)]
    return found


def failures(look: Look, screen: Screen) -> Iterator[str]:
    """The whole text of each expectation that is violated for good."""
    for entry in look.violated:
        assert entry.verdict is not None
        name = f" {entry.due.expectation.id} "
        yield f"{name:_^{min(screen.width, 80)}}\n{failure(entry.verdict.to_dict(), screen)}"


def document(look: Look, end: End | None) -> dict[str, Any]:
    """The look in the shape of ``--geom-json``; expectations carry ``standing`` and ``waits_for`` too.

    What is not due yet has the outcome null. ``end`` is null until the watch has ended.
    """
    suites = [
        {"name": suite.name, "path": suite.path, "expectations": [_entry(entry) for entry in entries]}
        for suite, entries in look.found
    ]
    counts = Counter[str](entry.verdict.outcome for entry in look.entries if entry.verdict is not None)
    return {
        "format": FORMAT,
        "geomcheck": geomcheck.__version__,
        "runs": [run_of(look.record, name=look.record.run, path=look.record.path, suites=suites)],
        "errors": [],
        "summary": {outcome: counts[outcome] for outcome in OUTCOMES},
        "finished": look.finished,
        "end": None if end is None else {"code": int(end.code), "why": end.why},
    }


def _entry(entry: SoFar) -> dict[str, Any]:
    expectation = entry.due.expectation
    facts = (
        entry.verdict.to_dict()
        if entry.verdict is not None
        else {"id": expectation.id, "metric": expectation.metric, "level": expectation.level, "outcome": None}
    )
    return {**facts, "standing": entry.standing, "waits_for": entry.due.waits_for}
