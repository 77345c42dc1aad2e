"""How a followed run is shown: as lines for people, or as JSON documents for programs."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from geomcheck.live.directory.follow import Code, End
from geomcheck.live.directory.run import ShowProgress
from geomcheck.live.snapshot import Snapshot
from geomcheck.measurement import Progress
from geomcheck.report.document import OUTCOMES, enclosed, run_of
from geomcheck.report.findings import Diagnosis, Explained, headline
from geomcheck.report.safe import printable
from geomcheck.report.session import Reported
from geomcheck.report.text.screen import Screen
from geomcheck.report.text.sparkline import levels_for
from geomcheck.report.text.summary import table
from geomcheck.report.text.verdicts import failure
from geomcheck.suite import SoFar, Suite

_STYLES = {"passed": "green", "failed": "red", "error": "red", "warned": "yellow", "info": "cyan", "": "dim"}
_STANDING_WIDTH = len("provisional")
_WORD_WIDTH = max(map(len, OUTCOMES))
_MARGIN = 2 + _STANDING_WIDTH + 1 + _WORD_WIDTH + 1


class Lines:
    """Verdicts as lines on stdout: all of them on a terminal; in a log those that changed, and all in the end."""

    def __init__(self, show: ShowProgress) -> None:
        self._progress = show
        self._console = Console(highlight=False, soft_wrap=True)
        terminal = self._console.is_terminal and not os.environ.get("CI")
        width = self._console.width if terminal else Screen().width
        self._screen = Screen(width=width, levels=levels_for(sys.stdout.encoding), terminal=terminal)
        self._status: Status | None = None
        self._waiting = ""
        self._all_shown = False
        self._told: set[tuple[str, frozenset[str]]] = set()
        self._before: dict[tuple[str, str], tuple[str, str]] = {}

    def waits(self, reason: str) -> None:
        """Show what is waited for, where it is something else than before."""
        if reason == self._waiting:
            return
        self._pause()
        self._waiting = reason
        if self._screen.terminal:
            self._status = self._console.status(Text(printable(f"waiting: {reason}")))
            self._status.start()
        else:
            self._say(f"geomcheck: waiting: {reason}")

    def took(self, snapshot: Snapshot) -> None:
        """Show the verdicts so far."""
        self._pause()
        self._say(f"geomcheck: {_heading(snapshot)}", style="bold")
        for finding in snapshot.findings:
            if (finding.kind, finding.weights) not in self._told:
                self._told.add((finding.kind, finding.weights))
                self._say(f"geomcheck: {headline(finding)}", style="yellow")
        self._all_shown = True
        for suite, entries in snapshot.judged:
            wanted = [entry for entry in entries if self._screen.terminal or self._is_news(suite, entry)]
            self._all_shown &= len(wanted) == len(entries)
            for outcome, line in _lines(wanted, self._screen):
                self._say(line, style=_STYLES[outcome])

    def ended(self, end: End) -> None:
        """Show what failed, everything once more in a log, and how it ended."""
        self._pause()
        if end.snapshot is not None:
            for text in _failures(end.snapshot, self._screen):
                self._say(text)
            for suite, entries in end.snapshot.judged if not self._all_shown else ():
                self._say(f"geomcheck: {end.snapshot.record.run} against {suite.name}")
                for _, line in _lines(entries, self._screen):
                    self._say(line)
            for note in end.snapshot.record.notes:
                self._say(f"note: {note}", style="yellow")
        self._say(f"geomcheck: {end.why}", style="bold green" if end.code is Code.HOLDS else "bold red")

    def show(self, run: str) -> AbstractContextManager[Progress]:
        """Progress of a measurement, on stderr."""
        self._pause()
        return self._progress(run)

    def _is_news(self, suite: Suite, entry: SoFar) -> bool:
        """Whether an expectation stands otherwise than when it was last asked about."""
        name = suite.path, entry.due.expectation.id
        before = self._before.get(name)
        self._before[name] = entry.standing, entry.verdict.outcome if entry.verdict else ""
        return before != self._before[name]

    def _pause(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status, self._waiting = None, ""

    def _say(self, text: str, style: str = "") -> None:
        if self._screen.terminal:
            self._console.print(Text(printable(text), style=style))
        else:
            print(printable(text), flush=True)


class Documents:
    """Verdicts as JSON on stdout, one document per line; the last one carries ``end``."""

    def __init__(self, show: ShowProgress) -> None:
        self._progress = show

    def show(self, run: str) -> AbstractContextManager[Progress]:
        """Progress of a measurement, on stderr."""
        return self._progress(run)

    def waits(self, reason: str) -> None:
        """Nothing: a document is about checkpoints."""

    def took(self, snapshot: Snapshot) -> None:
        """Print the verdicts so far."""
        self._print(snapshot, None)

    def ended(self, end: End) -> None:
        """Print the verdicts in the end, and how it came to it."""
        self._print(end.snapshot, {"code": int(end.code), "why": end.why})

    def _print(self, snapshot: Snapshot | None, end: dict[str, Any] | None) -> None:
        document = {} if snapshot is None else _document(snapshot)
        print(json.dumps({**document, "end": end}, allow_nan=False), flush=True)


def _heading(snapshot: Snapshot) -> str:
    """Where the run is, and how its expectations stand."""
    point, record, planned = snapshot.record.points[-1], snapshot.record, snapshot.planned
    of = f" of {planned} ({point.progress:.0%})" if planned is not None else ""
    counts = Counter[str](entry.standing for entry in snapshot.entries)
    stand = ", ".join(f"{counts[name]} {name}" for name in ("settled", "provisional", "not due yet") if counts[name])
    return f"{record.run}: {point.name}, step {point.step}{of}: {stand}"


def _lines(entries: Sequence[SoFar], screen: Screen) -> Iterator[tuple[str, str]]:
    """Lines for each expectation, with its outcome; an empty outcome where it is not due yet."""
    facts = {id(entry): entry.verdict.to_dict() for entry in entries if entry.verdict is not None}
    narrow = replace(screen, width=screen.width - _MARGIN) if screen.terminal else screen
    tabled = dict(zip(facts, table(list(facts.values()), narrow) if facts else (), strict=True))
    for entry in entries:
        outcome = facts[id(entry)]["outcome"] if id(entry) in facts else ""
        rows = tabled.get(id(entry), [f"{entry.due.expectation.id}: waits for {entry.due.waits_for}"])
        start = f"  {entry.standing:{_STANDING_WIDTH}} {outcome.upper():{_WORD_WIDTH}} "
        yield from ((outcome, f"{start if index == 0 else ''}{row}") for index, row in enumerate(rows))


def _failures(snapshot: Snapshot, screen: Screen) -> Iterator[str]:
    """The whole text of each expectation that is violated for good."""
    for entry in snapshot.violated:
        assert entry.verdict is not None
        name = f" {entry.due.expectation.id} "
        yield f"{name:_^{min(screen.width, 80)}}\n{failure(entry.verdict.to_dict(), screen)}"


def _document(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot in the shape of ``--geom-json``; expectations carry ``standing`` and ``waits_for`` too.

    What is not due yet has the outcome null.
    """
    suites = [
        {"name": suite.name, "path": suite.path, "expectations": [_entry(entry) for entry in entries]}
        for suite, entries in snapshot.judged
    ]
    name, record = snapshot.record.run, snapshot.record
    found = [Explained(number, name, finding) for number, finding in enumerate(snapshot.findings, 1)]
    run = Reported(name, record.path, record, diagnosis=Diagnosis(found))
    outcomes = (entry.verdict.outcome for entry in snapshot.entries if entry.verdict is not None)
    return {**enclosed([run_of(run, suites)], outcomes), "finished": snapshot.finished}


def _entry(entry: SoFar) -> dict[str, Any]:
    expectation = entry.due.expectation
    unjudged = {"id": expectation.id, "metric": expectation.metric, "level": expectation.level, "outcome": None}
    facts = unjudged if entry.verdict is None else entry.verdict.to_dict()
    return {**facts, "standing": entry.standing, "waits_for": entry.due.waits_for}
