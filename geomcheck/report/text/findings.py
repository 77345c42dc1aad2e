"""The first lines after a session that fails: what is wrong with its runs, before any text of a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from geomcheck._text import plural
from geomcheck.report.findings import MOST, Explained
from geomcheck.report.safe import printable
from geomcheck.report.session import Reported, Session
from geomcheck.report.text.diagnosis import reasons, sentence
from geomcheck.report.text.screen import Screen

if TYPE_CHECKING:
    import pytest

MARGIN = " " * 5

MOST_IDS = 12
"""Expectations that are named."""


def write_findings(terminal: pytest.TerminalReporter, session: Session, screen: Screen) -> None:
    """Write the findings of every run that explain a verdict; ``-q`` leaves one line each, ``-v`` tells all in full."""
    runs = [run for run in session.each_once if run.diagnosis and run.diagnosis.explaining]
    if not runs:
        return
    terminal.write_sep("=", "geomcheck: what is wrong", red=True, bold=True)
    several = len(session.each_once) > 1
    for run in runs:
        for bold, line in _of_run(run, screen, several=several):
            terminal.write_line(printable(line), bold=bold)


def _of_run(run: Reported, screen: Screen, *, several: bool) -> Iterator[tuple[bool, str]]:
    """The lines of a run's findings, each with whether it is the sentence of one."""
    assert run.diagnosis is not None
    found, full = run.diagnosis.found, run.diagnosis.explaining[: None if screen.verbosity > 0 else MOST]
    for one in full:
        name = run.name if several else ""
        yield from ((True, line) for line in sentence(one.finding, one.number, run=name, width=screen.width))
        rest_of_it = _explains(one, screen) if screen.verbosity < 0 else _reasons(one, screen)
        yield from ((False, line) for line in rest_of_it)
    if rest := [one for one in found if one not in full]:
        yield False, f"     {_counted(rest)}: geomcheck diagnose {run.path}"


def _reasons(one: Explained, screen: Screen) -> list[str]:
    """All that is known of a finding: the verdicts that it explains too, and in what words these were refused."""
    more = {"explains": _listed(one, screen), "refused": "; ".join(one.refusals)}
    return reasons(one.finding, width=screen.width, more=more)


def _explains(one: Explained, screen: Screen) -> list[str]:
    return [MARGIN + line for line in screen.wrapped(f"explains {_listed(one, screen)}", indent=len(MARGIN))]


def _listed(one: Explained, screen: Screen) -> str:
    """The expectations that a finding explains, the first of many."""
    told = one.ids if screen.verbosity > 0 else one.ids[:MOST_IDS]
    left = len(one.ids) - len(told)
    return ", ".join(told) + (f" and {left} more" if left else "")


def _counted(rest: Sequence[Explained]) -> str:
    """How many findings are left, and of what kinds."""
    kinds = list(dict.fromkeys(one.finding.kind for one in rest))
    return f"and {plural(len(rest), 'more finding')} ({', '.join(kinds)})"
