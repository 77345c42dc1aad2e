"""Verdicts in words: the text of a failure, and what a reader should know beside the verdicts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import geomcheck
from geomcheck.errors import NoBaseline
from geomcheck.record.points import early_end
from geomcheck.report.text.grid import grid
from geomcheck.report.text.screen import Screen, elided

if TYPE_CHECKING:
    from geomcheck.gate.session import Gate, Measurement
    from geomcheck.suite import Verdict

MARGIN = 13
"""Columns before a field's text."""

LOG = Screen()

OUTCOME_WORDS = {"passed": "PASSED", "failed": "FAILED", "error": "ERROR", "warned": "WARNED", "info": "INFO"}


_CI_COMMAND = re.compile(r"(?:(?<!\S):(?=:)|#(?=#\w*\[))")


def printable(text: str) -> str:
    """`text` with control characters escaped, and what a CI system takes for a command (``::error::`` where a word
    begins, ``##[group]`` and its like anywhere): names in a run's files must drive neither."""
    seen = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return _CI_COMMAND.sub(lambda found: f"\\x{ord(found.group()):02x}", seen)


def failure(facts: Mapping[str, Any], screen: Screen = LOG) -> str:
    """What a violated expectation says; its first line says it all. `facts` are those of `Verdict.to_dict`."""
    lines = [facts["message"], ""]
    lines += _field("expected", screen.wrapped(_demand(facts), indent=MARGIN))
    lines += _field("metric", screen.wrapped(f"{facts['metric']}{_parameters(facts)}", indent=MARGIN))
    lines += details(facts, screen, worst=True)
    lines += _field(
        "weights", [_counts(facts["weights"])] if facts["observed"] and any(facts["weights"].values()) else []
    )
    lines += _field("why", screen.wrapped(facts["why"], indent=MARGIN))
    lines += _field("warning", [line for text in facts["warnings"] for line in screen.wrapped(text, indent=MARGIN)])
    lines += _field("suite", [f"{facts['position']['path']}:{facts['position']['line']}"])
    return printable("\n".join(lines))


def details(facts: Mapping[str, Any], screen: Screen, *, worst: bool) -> list[str]:
    """The figures behind a verdict: a table by checkpoint, and with `worst` the weights that are furthest off."""
    lines = _field("observed", grid(facts, screen, lambda value: shown(value, facts), margin=MARGIN))
    return lines + (_field("worst", _worst(facts, screen)) if worst else [])


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


def header(gate: Gate, screen: Screen = LOG) -> list[str]:
    """Lines for the top of the session: what is checked against what."""
    lines = []
    for measurement in gate.measurements:
        suites = [p.suite.path for p in gate.pairings.values() if p.suite and measurement.subject.name in p.runs]
        lines.append(f"geomcheck {geomcheck.__version__}: {_subject(measurement)}; suites: {', '.join(suites)}")
    subjects = [*gate.subjects.values(), *([gate.reference.subject] if gate.reference else [])]
    for subject in subjects:
        omissions = subject.run.omissions if subject.run else ()
        lines += [f"geomcheck: {subject.name}: {omission}" for omission in omissions]
    return [part for line in lines for part in screen.sentence(printable(line), hang=2)]


def shown(value: float | None, facts: Mapping[str, Any]) -> str:
    """A figure to four significant digits, in percent where its suite writes percent; a dash where there is none."""
    if value is None:
        return "-"
    return f"{100 * value:.4g}%" if facts["percent"] else f"{value:.4g}"


def _worst(facts: Mapping[str, Any], screen: Screen) -> list[str]:
    """The weights that are furthest off, names elided where the screen is narrow."""
    figures = [f"{shown(w['value'], facts)} at step {w['step']}" for w in facts["worst"]]
    room = screen.width - MARGIN - max(map(len, figures), default=0) - 2
    names = elided([w["weight"] for w in facts["worst"]], room)
    return [f"{name}  {figure}" for name, figure in zip(names, figures, strict=True)]


def _field(name: str, lines: Sequence[str]) -> list[str]:
    """`lines` under a label in the margin; nothing where there are none."""
    return [f"  {name if index == 0 else '':9}  {line.rstrip()}" for index, line in enumerate(lines)]


def _demand(facts: Mapping[str, Any]) -> str:
    """The condition with where and of what it is demanded."""
    at = {"all": "every checkpoint", "first": "the first checkpoint", "last": "the last checkpoint"}
    fold = {"weighted": "mean weighted by size"}.get(facts["fold"], facts["fold"])
    of = {
        "run": f", {fold} over weights",
        "layer": f", {fold} over the weights of each layer",
        "module": f", {fold} over the weights of each module",
        "weight": ", for each weight",
    }
    folded = of[facts["per"]] if facts["fold"] else ""
    return f"{facts['condition']} at {at.get(facts['at'], facts['at'])}{folded}"


def _parameters(facts: Mapping[str, Any]) -> str:
    """The definition behind the figure; a null that was not subtracted is not worth words."""
    params = {name: value for name, value in facts["params"].items() if (name, value) != ("excess_over", "none")}
    shown = {name: " ".join(value) if isinstance(value, list) else value for name, value in params.items()}
    return f" ({', '.join(f'{name}={value}' for name, value in shown.items())})" if shown else ""


def unit(facts: Mapping[str, Any]) -> str:
    """The unit behind a metric's name, where figures do not carry it."""
    return " (deg)" if facts["unit"] == "deg" else ""


def _counts(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in weights.items())


def notes(gate: Gate, verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader should know beside the verdicts: oddities of runs, weights left out, doubtful figures."""
    notes = []
    for measurement in gate.measurements:
        run, record = measurement.subject.run, measurement.record
        known = record.notes if record else run.notes if run else ()
        notes += [f"note: {measurement.subject.name}: {note}" for note in known]
        if record is None:
            continue
        if bulky := [weight for weight in record.weights.values() if weight.is_bulky]:
            notes.append(
                f"note: {record.run}: {_plural(bulky)} with other than two dimensions not measured, such as "
                f"{bulky[0].name} {bulky[0].shape}{f': {bulky[0].fused}' if bulky[0].fused else ''}"
            )
        if record.skipped:
            name, reason = next(iter(record.skipped.items()))
            notes.append(f"note: {record.run}: {_plural(record.skipped)} cannot be measured, such as {name}: {reason}")
    unjudged = sum(verdict["outcome"] == "info" and not verdict["observed"] for verdict in verdicts)
    if unjudged:
        notes.append(
            f"note: {_plural_of(unjudged, 'expectation')} not judged: {NoBaseline(gate.missing_baseline or '')}"
        )
    notes += [f"note: {notice}" for notice in gate.notices]
    frozen = max((verdict["weights"]["frozen"] for verdict in verdicts), default=0)
    if frozen:
        notes.append(
            f"note: {frozen} of the selected weights never changed (frozen): counted with an update of 0, and left "
            "out of figures that need one"
        )
    warnings = dict.fromkeys(f"warning: {v['id']}: {warning}" for v in verdicts for warning in v["warnings"])
    return [*notes, *warnings]


def _plural_of(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _plural(weights: Sized) -> str:
    return _plural_of(len(weights), "weight")


def _subject(measurement: Measurement) -> str:
    record = measurement.record
    if record is None:
        return f"{measurement.subject.name}: cannot be read"
    steps = [point.step for point in record.points]
    span = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}"
    end = early_end(record.points)
    short = f" (ended at {end})" if end else ""
    return f"{measurement.subject.name}: {span}{short}, W0: {record.origin.how}"
