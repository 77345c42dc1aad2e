"""The summary: a line per expectation, what was left out, and where the outputs are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

from geomcheck._text import plural
from geomcheck.report.causes import ORDER, Causes, by_cause
from geomcheck.report.facts import (
    SessionFacts,
    band,
    bounds_of,
    by_group,
    decided,
    early,
    grouped,
    groups_outside,
    half_widths,
    shown,
)
from geomcheck.report.session import Session
from geomcheck.report.text.bar import bar
from geomcheck.report.text.screen import GAP, Line, Screen, aligned, elide
from geomcheck.report.text.sparkline import sparkline
from geomcheck.report.text.verdicts import details, off, unit
from geomcheck.suite.verdict import Facts

NAME_WIDTHS = (24, 20)
"""Columns that a name keeps where the terminal is too narrow for all of it."""

LISTED = 8
"""Expectations on a run that have a line each though they hold, where others do not."""

INDENT = " " * 7
"""Before the figures that belong to a line."""

_COLOURS = {"passed": "green", "failed": "red", "error": "red", "warned": "yellow", "info": "cyan"}
_OUTCOME_WIDTH = max(map(len, _COLOURS))
_MARGIN = len(GAP) + _OUTCOME_WIDTH + 1
"""Columns before the id of an expectation."""


def tables(session: Session, verdicts: Sequence[SessionFacts], causes: Causes, screen: Screen) -> list[Line]:
    """Each run against each suite: what fails first, the furthest from its band before the others.

    What one cause stops has one line, and so has what holds of a run where much does or where there are several runs;
    ``-v`` tells all, with the figures behind each.
    """
    pairs = grouped(((v["run"], v["suite"]), v) for v in verdicts)
    several = len({run for run, _ in pairs}) > 1
    first: dict[str, str] = {}
    lines: list[Line] = []
    for (run, suite), found in pairs.items():
        elsewhere = _told_elsewhere(found, session, causes, first) if screen.verbosity < 1 else {}
        lines += _pair(f"{run} against {suite}", found, session, elsewhere, screen, several=several)
    if any(half_widths(facts) is not None for facts in verdicts):
        lines.append(Line(f"{GAP}Last in a line: by how many half widths of its band the figure is outside."))
    return lines


def _told_elsewhere(
    verdicts: Sequence[SessionFacts], session: Session, causes: Causes, first: dict[str, str]
) -> dict[str, list[SessionFacts]]:
    """The verdicts that need no line of their own, by what tells of them: those without figures that one cause stops,
    and those that a finding explains which explains others of an earlier run. `first`, by what is wrong, grows."""
    found: dict[str, list[SessionFacts]] = {}
    for facts in verdicts:
        run = facts["run"]
        cause, diagnosis = causes.stopping(run, facts), session.diagnoses.get(run)
        explained = diagnosis.explanation(facts) if diagnosis else None
        if cause and not facts["observed"]:
            found.setdefault(cause.name, []).append(facts)
        elif not cause and explained and first.setdefault(explained.headline, run) != run:
            found.setdefault(explained.name, []).append(facts)
    return found


def _pair(
    title: str,
    verdicts: Sequence[SessionFacts],
    session: Session,
    elsewhere: Mapping[str, Sequence[SessionFacts]],
    screen: Screen,
    *,
    several: bool,
) -> Iterator[Line]:
    """A run against a suite; `elsewhere` are the verdicts that something tells of, by its name."""
    ordered = by_cause(verdicts, lambda facts: (facts["run"], facts), session.diagnoses)
    outcomes = Counter(str(facts["outcome"]) for facts in verdicts)
    tally = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ORDER if outcomes[outcome])
    tally = tally.replace(" error", " not judged")
    red = bool(outcomes["failed"] or outcomes["error"])
    fold = screen.verbosity < 1 and (several or (red and len(verdicts) > LISTED))
    more = " (-v lists them)" if fold and red and outcomes["passed"] else ""
    yield Line(elide(f"{title}: {tally}{more}" if red or several else title, screen.width), bold=True)
    for name, held in elsewhere.items():
        yield _line(held[0]["outcome"], f"{plural(len(held), 'expectation')}: see {name}")
    folded = [facts for facts in ordered if fold and facts["outcome"] == "passed"]
    told = [v for v in ordered if not any(v in held for held in (folded, *elsewhere.values()))]
    for facts, (first, *rest) in zip(told, table(told, screen), strict=True):
        yield _line(facts["outcome"], first)
        yield from map(Line, [*rest, *_early(facts), *_figures(facts, screen)])


def _line(outcome: str, text: str) -> Line:
    return Line(text, before=f"{GAP}{outcome.upper():{_OUTCOME_WIDTH}} ", colour=_COLOURS[outcome])


def remarks(
    session: Session, verdicts: Sequence[SessionFacts], outputs: Sequence[tuple[str, Path]], screen: Screen
) -> list[Line]:
    """What a reader should know beside the verdicts, and where the outputs are."""
    notes = [part for note in session.notes(verdicts) for part in screen.sentence(note, hang=len(GAP))]
    return [*(Line(note, colour="yellow") for note in notes), *(Line(f"{what}: {path}") for what, path in outputs)]


def table(verdicts: Sequence[Facts], screen: Screen) -> list[list[str]]:
    """Per expectation its lines, in columns: id, metric, figure, what is allowed, where in that the figure lies, and
    how far beyond. The first follows the outcome.

    Where the screen is too narrow for all columns, metrics are left out, then trajectories and words, and names are
    elided; then what is allowed goes to a line of its own. Figures are never cut.
    """
    rows = [_Row.of(facts, screen) for facts in verdicts]
    layouts = [
        (GAP, [([r.id, r.metric, r.drawn], [r.allowed, r.bar, r.off]) for r in rows]),
        (GAP, [([r.id, r.drawn + r.degrees], [r.allowed, r.bar, r.off]) for r in rows]),
        *(
            (" ", [([elide(r.id, width), r.figure], [r.shortly, r.bar, r.off.split(" ")[0]]) for r in rows])
            for width in NAME_WIDTHS
        ),
    ]
    for gap, cells in layouts:
        ends = iter(aligned([right for _, right in cells if right[1]], gap=gap))
        # what is no band takes the room that it needs
        joined = [[*left, next(ends) if right[1] else right[0]] for left, right in cells]
        lines = aligned(joined, gap=gap)
        if _MARGIN + max(map(len, lines), default=0) <= screen.width:
            return [[line] for line in lines]
    figures = [(row.figure, row.bar, row.off) for row in rows]
    room = screen.width - _MARGIN - len(GAP) - max(map(len, aligned(figures)))
    names = [elide(row.id, max(*NAME_WIDTHS, room)) for row in rows]
    first = aligned([(name, *figure) for name, figure in zip(names, figures, strict=True)])
    indent = _MARGIN + len(GAP)
    rest = ([" " * indent + part for part in screen.wrapped(row.allowed, indent=indent)] for row in rows)
    return [[line, *parts] for line, parts in zip(first, rest, strict=True)]


class _Row(NamedTuple):
    """The cells of an expectation; `shortly` is what is allowed in fewer words."""

    id: str
    metric: str
    drawn: str
    figure: str
    degrees: str
    allowed: str
    shortly: str
    bar: str
    off: str

    @classmethod
    def of(cls, facts: Facts, screen: Screen) -> Self:
        """Those of a verdict."""
        sign = " deg" if screen.ascii else "°"
        degrees, allowed = sign if unit(facts) and facts["observed"] else "", _allowed(facts)
        value = facts["decisive"]["value"] if facts["decisive"] else None
        return cls(
            id=facts["id"],
            metric=f"{facts['metric']}{unit(facts)}",
            drawn=_found(facts, screen),
            figure=_found(facts, None) + degrees,
            degrees=degrees,
            allowed=allowed,
            shortly=allowed.replace(" at step ", " at ") if facts["bounds"] is None else allowed,
            bar=bar(value, bounds_of(facts), ascii=screen.ascii),
            off=off(facts),
        )


def _early(facts: Facts) -> list[str]:
    """How it was decided, where that was before every weight was measured."""
    return [INDENT + early(facts)] if early(facts) else []


def _figures(facts: Facts, screen: Screen) -> list[str]:
    """What ``-v`` adds to a line: the figures behind it, where it does not show them all; ``-vv`` adds the weights."""
    if screen.verbosity < 1 or (screen.verbosity == 1 and len(facts["observed"]) < 2):
        return []
    inner = replace(screen, width=screen.width - len(INDENT))
    return [INDENT + line for line in details(facts, inner, worst=screen.verbosity > 1)]


def _found(facts: Facts, screen: Screen | None) -> str:
    """The figure that decided; of a trajectory that keeps to one condition first and last, of groups the range. With a
    `screen`, a trajectory is drawn."""
    values = [entry["value"] for entry in facts["observed"]]
    present = [value for value in values if value is not None]
    if not present:
        return "not measured"
    decisive = facts["decisive"]
    several = len(by_group(facts["observed"])) > 1
    if (decisive is not None and decisive["holds"] is False and bounds_of(facts) is not None) or (
        decisive is not None and "low" in decisive
    ):
        text = decided(facts)
    elif several:
        return f"{shown(min(present), facts)} to {shown(max(present), facts)} over {facts['per']}s"
    else:
        text = " -> ".join(shown(value, facts) for value in (values[0], values[-1])[: len(values)])
    spark = screen is not None and not several and len(values) > 1
    return f"{text} {sparkline(values, levels=screen.levels)}" if spark and screen else text


def _allowed(facts: Facts) -> str:
    """What is allowed, with how many groups may violate it and do."""
    outside, groups = len(groups_outside(facts)), len(by_group(facts["observed"]))
    if groups < 2 or not (outside or facts["allow"]):
        return band(facts)
    allowed = f" ({100 * facts['allow']:.4g}% allowed)" if facts["allow"] else ""
    return f"{band(facts)}, {outside} of {groups} {facts['per']}s outside{allowed}"
