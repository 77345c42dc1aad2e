"""The summary after the run: a line per expectation, what was left out, and where the outputs are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck.report.causes import Causes
from geomcheck.report.facts import SessionFacts, by_group, early, grouped, groups_outside, shown
from geomcheck.report.safe import printable
from geomcheck.report.session import Session
from geomcheck.report.text.screen import GAP, Screen, aligned, elide
from geomcheck.report.text.sparkline import sparkline
from geomcheck.report.text.verdicts import details, unit
from geomcheck.suite.verdict import Facts

if TYPE_CHECKING:
    import pytest

NAME_WIDTH = 24
"""Columns that a name keeps where the terminal is too narrow for all of it."""

INDENT = " " * 7
"""Before the figures that belong to a line."""

_COLOURS = {"passed": "green", "failed": "red", "error": "red", "warned": "yellow", "info": "cyan"}
_OUTCOME_WIDTH = max(map(len, _COLOURS))
_MARGIN = len(GAP) + _OUTCOME_WIDTH + 1
"""Columns before the id of an expectation."""


def write_summary(
    terminal: pytest.TerminalReporter,
    session: Session,
    verdicts: Sequence[SessionFacts],
    outputs: Sequence[tuple[str, Path]],
    screen: Screen,
) -> None:
    """Write it. ``-q`` leaves out the lines per expectation; ``-v`` and ``-vv`` add the figures behind each."""
    if not verdicts:
        terminal.write_sep("=", "geomcheck: nothing was checked", red=True, bold=True)
        return
    notes, causes = session.notes(verdicts), list(Causes.of(verdicts, session.diagnoses))
    if screen.verbosity >= 0 or notes or outputs or causes:
        terminal.write_sep("=", "geomcheck")
    if screen.verbosity >= 0:
        for (run, suite), group in grouped(((v["run"], v["suite"]), v) for v in verdicts).items():
            terminal.write_line(elide(printable(f"{run} against {suite}"), screen.width), bold=True)
            for facts, lines in zip(group, table(group, screen), strict=True):
                outcome = facts["outcome"]
                terminal.write(f"{GAP}{outcome.upper():{_OUTCOME_WIDTH}} ", **{_COLOURS[outcome]: True})
                for line in [*lines, *_early(facts), *_figures(facts, screen)]:
                    terminal.write_line(printable(line))
    for cause in causes:
        for line in screen.sentence(printable(cause.headline), hang=len(GAP)):
            terminal.write_line(line, red=True, bold=True)
        for line in screen.wrapped(printable(cause.places), indent=len(GAP)):
            terminal.write_line(GAP + line)
    for note in notes:
        for line in screen.sentence(printable(note), hang=len(GAP)):
            terminal.write_line(line, yellow=True)
    for what, path in outputs:
        terminal.write_line(f"{what}: {printable(str(path))}")


def table(verdicts: Sequence[Facts], screen: Screen) -> list[list[str]]:
    """Per expectation its lines, in columns: id, metric, trajectory, condition. The first follows the outcome.

    Where the screen is too narrow for all columns, names are elided, then metrics and sparklines are left out, then
    metric and condition go to a line of their own. Figures are never cut.
    """
    wide = [[v["id"], f"{v['metric']}{unit(v)}", _trajectory(v, screen), _condition(v)] for v in verdicts]
    short = [[*(elide(cell, NAME_WIDTH) for cell in row[:2]), *row[2:]] for row in wide]
    degrees = [" deg" if unit(v) and v["observed"] else "" for v in verdicts]
    bare = [[row[0], _span(v) + deg, row[3]] for v, row, deg in zip(verdicts, short, degrees, strict=True)]
    for rows in (wide, short, bare):
        lines = aligned(rows)
        if _MARGIN + max(map(len, lines)) <= screen.width:
            return [[line] for line in lines]
    first = aligned([[row[0], row[2]] for row in short])
    room = _MARGIN + len(GAP)
    rest = (
        screen.wrapped(row[3] if row[3].startswith(row[1]) else f"{row[1]}: {row[3]}", indent=room) for row in short
    )
    return [[line, *(" " * room + part for part in parts)] for line, parts in zip(first, rest, strict=True)]


def _early(facts: Facts) -> list[str]:
    """How it was decided, where that was before every weight was measured."""
    return [INDENT + early(facts)] if early(facts) else []


def _figures(facts: Facts, screen: Screen) -> list[str]:
    """What ``-v`` adds to a line: the figures behind it, where it does not show them all; ``-vv`` adds the weights."""
    if screen.verbosity < 1 or (screen.verbosity == 1 and len(facts["observed"]) < 2):
        return []
    inner = replace(screen, width=screen.width - len(INDENT))
    return [INDENT + line for line in details(facts, inner, worst=screen.verbosity > 1)]


def _trajectory(facts: Facts, screen: Screen) -> str:
    """First and last value with a sparkline; the range over groups where there are several."""
    values = [entry["value"] for entry in facts["observed"]]
    drawn = len(by_group(facts["observed"])) == 1 < len(values) and any(value is not None for value in values)
    return f"{_span(facts)} {sparkline(values, levels=screen.levels)}" if drawn else _span(facts)


def _span(facts: Facts) -> str:
    values = [entry["value"] for entry in facts["observed"]]
    present = [value for value in values if value is not None]
    if not present:
        return "not measured"
    if len(by_group(facts["observed"])) > 1:
        return f"{shown(min(present), facts)} to {shown(max(present), facts)} over {facts['per']}s"
    return " -> ".join(shown(value, facts) for value in (values[0], values[-1])[: len(values)])


def _condition(facts: Facts) -> str:
    """The condition, with how many groups may violate it and do."""
    decisive = facts["decisive"]
    if decisive is not None and "low" in decisive:
        return f"{shown(decisive['low'], facts)} to {shown(decisive['high'], facts)} at step {decisive['step']}"
    if not facts["allow"]:
        return str(facts["condition"])
    outside, groups = len(groups_outside(facts)), len(by_group(facts["observed"]))
    return f"{facts['condition']}, {outside} of {groups} outside ({100 * facts['allow']:.4g}% allowed)"
