"""Verdicts in words: the text of a failure, in logs and as pytest shows it, and the lines above a session."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geomcheck._version import VERSION
from geomcheck.record.points import early_end
from geomcheck.report.causes import Causes, by_cause
from geomcheck.report.facts import (
    SessionFacts,
    band,
    bounds_of,
    by_themselves,
    decided,
    demanded,
    grouped,
    half_widths,
    shown,
)
from geomcheck.report.findings import Diagnosis
from geomcheck.report.safe import printable
from geomcheck.report.session import Reported, Session
from geomcheck.report.text.grid import grid
from geomcheck.report.text.screen import Screen, elided
from geomcheck.suite.verdict import Facts, WorstFacts

if TYPE_CHECKING:
    import pytest
    from _pytest._io import TerminalWriter  # pytest does not export its name

    from geomcheck.suite import Verdict

MARGIN = 13
"""Columns before a field's text."""

LOG = Screen(verbosity=1)

TEXTS = 3
"""Failures whose texts are shown, unless ``-v`` asks for all."""

LINES = 40
"""Of a session that fails: about one screen. More are written where there is more to say."""

WORST = 3
"""Weights in the text of a failure; ``-v`` shows all that a verdict names."""

_VIOLATION = re.compile(r"((?<=\s)[-+.\de]+%?!)")


def failure(facts: Facts, screen: Screen = LOG) -> str:
    """What a violated expectation says; its first line says it all. `facts` are those of `Verdict.to_dict`.

    On a screen without ``-v`` what its line in the summary says is left out: a single figure, and that no weight was
    frozen or skipped.
    """
    counts, full = facts["weights"], screen.verbosity > 0
    lines = [facts["message"], ""] if full else [facts["message"]]
    lines += _field("expected", screen.wrapped(demanded(facts), indent=MARGIN))
    lines += _field("metric", screen.wrapped(f"{facts['metric']}{_parameters(facts)}", indent=MARGIN))
    lines += details(facts, screen, worst=True)
    if facts["observed"] and (any(counts.values()) if full else counts["frozen"] or counts["skipped"]):
        lines += _field("weights", [", ".join(f"{count} {kind}" for kind, count in counts.items())])
    lines += _field("why", screen.wrapped(facts["why"], indent=MARGIN))
    lines += _field("warning", [line for text in facts["warnings"] for line in screen.wrapped(text, indent=MARGIN)])
    lines += _field("suite", [f"{facts['position']['path']}:{facts['position']['line']}"])
    return printable("\n".join(lines))


def details(facts: Facts, screen: Screen, *, worst: bool) -> list[str]:
    """The figures behind a verdict: a table by checkpoint, and with `worst` the weights to look at."""
    told = screen.verbosity < 1 and len(facts["observed"]) == 1 and facts["bounds"] is not None
    lines = [] if told else _field("observed", grid(facts, screen, margin=MARGIN))
    return lines + (_field(_called(facts), _worst(facts, screen)) if worst else [])


@dataclass(frozen=True)
class Crash:
    """What pytest reads of a failure where a traceback would end: a place, here in the suite, and what is wrong."""

    path: str
    lineno: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.lineno}: {self.message}"


class Explanation:
    """The text of a failure, with the attributes that pytest reads of a traceback.

    A plain string would do on a terminal; on a CI system, and with ``-vv``, the short summary would repeat all of it.

    Args:
        facts: of the verdict, as `Verdict.to_dict` gives them.
        screen: where it is read.
        message: what the short summary says; by default the verdict's sentence.
    """

    def __init__(self, facts: Facts, screen: Screen, message: str = "") -> None:
        self._facts, self._screen = facts, screen
        told = printable(message or facts["message"]).splitlines()[0]
        self.reprcrash = Crash(facts["position"]["path"], facts["position"]["line"], told)

    @property
    def lines(self) -> int:
        """How many it takes."""
        message, *lines = failure(self._facts, self._screen).splitlines()
        return len(self._screen.sentence(message)) + len(lines)

    def __str__(self) -> str:
        return failure(self._facts)

    def toterminal(self, out: TerminalWriter) -> None:
        """Write it to a terminal: the sentence in bold, violations in red."""
        message, *lines = failure(self._facts, self._screen).splitlines()
        for line in self._screen.sentence(message):
            out.line(line, bold=True)
        for line in lines:
            for index, part in enumerate(_VIOLATION.split(line)):
                out.write(part, red=index % 2 == 1)
            out.line()


def explain(report: pytest.TestReport, facts: Facts, screen: Screen, message: str = "") -> None:
    """Let a failed report of an expectation show its verdict as an `Explanation`."""
    if report.failed:
        report.longrepr = Explanation(facts, screen, message)  # type: ignore[assignment]


def arrange(
    reports: list[pytest.TestReport],
    causes: Causes,
    diagnoses: Mapping[str, Diagnosis],
    screen: Screen,
    *,
    room: int | None,
) -> int:
    """Put the reports of expectations in the order in which the summary has them, and leave texts to those that no
    finding and no cause tells: at most `TEXTS`, of these the furthest from their bands, as fit in `room` lines, or one.
    Without a `room` all have theirs but those that one cause stops.

    Reports of other tests keep their places. What other outputs hold was written before.

    Returns:
        how many texts are left out that nothing else tells.
    """
    places = [index for index, report in enumerate(reports) if hasattr(report, "geomcheck")]
    ours = by_cause([reports[index] for index in places], lambda one: (_facts(one)["run"], _facts(one)), diagnoses)
    told = left = 0
    for place, report in zip(places, ours, strict=True):
        reports[place] = report
        facts = _facts(report)
        cause = causes.stopping(facts["run"], facts)
        diagnosis = diagnoses.get(facts["run"])
        found = diagnosis.explanation(facts) if diagnosis else None
        text = Explanation(facts, screen, cause.message(facts) if cause else brief(facts, found.name if found else ""))
        report.longrepr = text  # type: ignore[assignment]
        fits = cause is None and (room is None or found is None)
        if fits and room is not None:
            told += 1
            room -= text.lines + 1
            fits = told == 1 or (told <= TEXTS and room >= 0)
            left += not fits
        if not fits:
            report.__dict__["_pdbshown"] = True  # pytest's own mark of a failure whose text was shown elsewhere
    return left


def _facts(report: pytest.TestReport) -> SessionFacts:
    facts: SessionFacts = report.__dict__["geomcheck"]
    return facts


def brief(facts: Facts, finding: str = "") -> str:
    """A verdict in a line that may be cut at its end: the figure, what is allowed, how far off it is."""
    decisive, pointer = facts["decisive"], f"{finding}: " if finding else ""
    if facts["cause"] or decisive is None or decisive["value"] is None:
        return f"{pointer}{facts['message']}"
    if bounds_of(facts) is None:
        return f"{pointer}{decided(facts)} at step {decisive['step']}: {facts['message']}"
    group = f" in {decisive['group']}" if decisive["group"] else ""
    where = "" if facts["bounds"] is None else f" at step {decisive['step']}"
    degrees = " deg" if unit(facts) else ""
    far = off(facts, "half widths ")
    return f"{pointer}{decided(facts)}{degrees}{group}{where}, {band(facts)}{f': {far}' if far else ''}"


def off(facts: Facts, unit: str = "") -> str:
    """How far the decisive figure is outside its band, in half widths of it: ``5.1 below``; empty where it is not."""
    widths, side = half_widths(facts), facts["side"]
    if widths is None or side is None:
        return ""
    number = f"{widths:.0e}" if widths >= 1e6 else f"{widths:,.0f}" if widths >= 9.95 else f"{widths:.1f}"
    number = "<0.1" if number == "0.0" else number
    return f"{number} {unit}{side}"


def properties(verdict: Verdict, run: str) -> list[tuple[str, object]]:
    """What JUnit files carry: run, metric, bound, and the figure that decided with its step."""
    decisive = verdict.decisive
    value = decisive.value if decisive else None
    return [
        ("geom_run", run),
        ("geom_metric", verdict.metric),
        ("geom_condition", verdict.condition),
        ("geom_level", verdict.level),
        ("geom_outcome", verdict.outcome),
        ("geom_value", "" if value is None else float(value)),
        ("geom_unit", verdict.unit),
        ("geom_step", int(decisive.step) if decisive else ""),
    ]


def header(session: Session, screen: Screen = LOG) -> list[str]:
    """Lines for the top of the session: what is checked against what."""
    checked = (run for run in session.runs if run.suites)
    alike = grouped((f"{_checked(run)}; suites: {', '.join(run.suites)}", run.name) for run in checked)
    lines = [f"geomcheck {VERSION}: {', '.join(names)}: {what}" for what, names in alike.items()]
    lines += [f"geomcheck: {omission}" for omission in session.omissions]
    return [part for line in lines for part in screen.sentence(printable(line), hang=2)]


def _called(facts: Facts) -> str:
    """What the weights of `_worst` are: outside of what is normal for them, or furthest from the others."""
    if not facts["fold"]:
        return "worst"
    return "outside" if any(worst["outside"] for worst in facts["worst"]) else "furthest"


def _worst(facts: Facts, screen: Screen) -> list[str]:
    """The weights to look at, names elided where the screen is narrow."""
    worst = facts["worst"] if screen.verbosity > 0 else facts["worst"][:WORST]
    figures = [f"{shown(w['value'], facts)} at step {w['step']}{_normal(w, facts)}" for w in worst]
    room = screen.width - MARGIN - max(map(len, figures), default=0) - 2
    names = elided([w["weight"] for w in worst], room)
    lines = [f"{name}  {figure}" for name, figure in zip(names, figures, strict=True)]
    return [*([f"{told}:"] if (told := by_themselves(facts)) else []), *lines]


def _normal(worst: WorstFacts, facts: Facts) -> str:
    if "low" not in worst:
        return ""
    return f" (normal {shown(worst['low'], facts)} to {shown(worst['high'], facts)})"


def _field(name: str, lines: Sequence[str]) -> list[str]:
    """`lines` under a label in the margin; nothing where there are none."""
    return [f"  {name if index == 0 else '':9}  {line.rstrip()}" for index, line in enumerate(lines)]


def _parameters(facts: Facts) -> str:
    """The definition behind the figure; a null that was not subtracted is not worth words."""
    params = [(name, value) for name, value in facts["params"].items() if (name, value) != ("excess_over", "none")]
    words = [f"{name}={' '.join(value) if isinstance(value, list) else value}" for name, value in params]
    return f" ({', '.join(words)})" if words else ""


def unit(facts: Facts) -> str:
    """The unit behind a metric's name, where figures do not carry it."""
    return " (deg)" if facts["unit"] == "deg" else ""


def _checked(run: Reported) -> str:
    record = run.record
    if record is None:
        return "cannot be read"
    steps = [point.step for point in record.points]
    span = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}"
    end = early_end(record.points)
    short = f" (ended at {end})" if end else ""
    return f"{span}{short}, W0: {record.origin.how}"
