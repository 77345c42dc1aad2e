"""Telling people, or a program, how a watch goes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

from geomcheck.live.directory.follow import Code, End
from geomcheck.live.directory.look import Look
from geomcheck.measurement import Progress
from geomcheck.report.text.progress import shown
from geomcheck.report.text.screen import Screen
from geomcheck.report.text.sparkline import levels_for
from geomcheck.report.text.verdicts import printable
from geomcheck.report.text.watch import document, failures, heading, lines
from geomcheck.suite import SoFar, Suite

_STYLES = {"passed": "green", "failed": "red", "error": "red", "warned": "yellow", "info": "cyan", "": "dim"}


class Lines:
    """Verdicts as lines on stdout: all of them on a terminal; in a log those that changed, and all in the end."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        terminal = self._console.is_terminal and not os.environ.get("CI")
        width = self._console.width if terminal else Screen().width
        self._screen = Screen(width=width, levels=levels_for(sys.stdout.encoding), terminal=terminal)
        self._status: Status | None = None
        self._waiting = ""
        self._all_shown = False
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

    def looked(self, look: Look) -> None:
        """Show the verdicts so far."""
        self._pause()
        self._say(f"geomcheck: {heading(look)}", style="bold")
        everything = True
        for suite, entries in look.found:
            wanted = [entry for entry in entries if self._screen.terminal or self._is_news(suite, entry)]
            everything &= len(wanted) == len(entries)
            for outcome, line in lines(wanted, self._screen):
                self._say(line, style=_STYLES[outcome])
        self._all_shown = everything

    def ended(self, end: End) -> None:
        """Show what failed, everything once more in a log, and how it ended."""
        self._pause()
        if end.look is not None:
            for text in failures(end.look, self._screen):
                self._say(text)
            if not self._all_shown:
                for suite, entries in end.look.found:
                    self._say(f"geomcheck: {end.look.record.run} against {suite.name}")
                    for _, line in lines(entries, self._screen):
                        self._say(line)
            for note in end.look.record.notes:
                self._say(f"note: {note}", style="yellow")
        self._say(f"geomcheck: {end.why}", style="bold green" if end.code is Code.HOLDS else "bold red")

    @contextmanager
    def show(self, run: str) -> Iterator[Progress]:
        """Progress of a measurement, on stderr."""
        self._pause()
        with shown(run, self._screen) as progress:
            yield progress

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

    @contextmanager
    def show(self, run: str) -> Iterator[Progress]:
        """Progress of a measurement, on stderr."""
        with shown(run, Screen()) as progress:
            yield progress

    def waits(self, reason: str) -> None:
        """Nothing: a document is about checkpoints."""

    def looked(self, look: Look) -> None:
        """The verdicts so far."""
        self._print(look, None)

    def ended(self, end: End) -> None:
        """The verdicts in the end, and how it came to it."""
        if end.look is None:
            print(json.dumps({"end": {"code": int(end.code), "why": end.why}}), flush=True)
        else:
            self._print(end.look, end)

    def _print(self, look: Look, end: End | None) -> None:
        print(json.dumps(document(look, end), allow_nan=False), flush=True)
