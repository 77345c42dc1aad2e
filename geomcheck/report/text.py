"""Verdicts on a terminal: the text of a failure, and the summary after the run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geomcheck
from geomcheck.errors import NoBaseline
from geomcheck.report.sparkline import sparkline

if TYPE_CHECKING:
    import pytest

    from geomcheck.gate.session import Gate, Measurement
    from geomcheck.suite import Verdict

GROUPS_SHOWN = 8
CHECKPOINTS_SHOWN = 10
WRAP = 100

OUTCOME_WORDS = {"passed": "PASSED", "failed": "FAILED", "error": "ERROR", "warned": "WARNED", "info": "INFO"}
_COLOURS = {"passed": "green", "failed": "red", "error": "red", "warned": "yellow", "info": "cyan"}


def printable(text: str) -> str:
    """`text` with control characters escaped: names in a run's files must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def failure(verdict: Verdict) -> str:
    """What a violated expectation says. Its first line is the short summary's."""
    facts = verdict.to_dict()
    observed = _observed(facts)
    lines = [facts["message"], ""]
    lines += _field("expected", [_demand(facts)])
    lines += _field("metric", [f"{facts['metric']}{_parameters(facts)}"])
    lines += _field("observed", observed)
    lines += _field("worst", [f"{w['weight']}  {shown(w['value'], facts)} at step {w['step']}" for w in facts["worst"]])
    lines += _field("weights", [_counts(facts["weights"])] if observed else [])
    lines += _field("why", _wrapped([facts["why"]]))
    lines += _field("warning", _wrapped(facts["warnings"]))
    lines += _field("suite", [f"{facts['position']['path']}:{facts['position']['line']}"])
    return printable("\n".join(lines))


def properties(verdict: Verdict) -> list[tuple[str, object]]:
    """What JUnit files carry: metric, bound, and the figure that decided."""
    value = verdict.decisive.value if verdict.decisive else None
    return [
        ("geom_metric", verdict.metric),
        ("geom_condition", verdict.condition),
        ("geom_outcome", verdict.outcome),
        ("geom_value", "" if value is None else float(value)),
    ]


def header(gate: Gate) -> list[str]:
    """Lines for the top of the session: what is checked against what."""
    lines = []
    for measurement in gate.measurements:
        suites = [p.suite.path for p in gate.pairings.values() if p.suite and measurement.subject.name in p.runs]
        lines.append(f"geomcheck {geomcheck.__version__}: {_subject(measurement)}; suites: {', '.join(suites)}")
    subjects = [*gate.subjects.values(), *([gate.reference.subject] if gate.reference else [])]
    for subject in subjects:
        omissions = subject.run.omissions if subject.run else ()
        lines += [f"geomcheck: {subject.name}: {omission}" for omission in omissions]
    return [printable(line) for line in lines]


def write_summary(
    terminal: pytest.TerminalReporter,
    gate: Gate,
    verdicts: Sequence[Mapping[str, Any]],
    outputs: Sequence[tuple[str, Path]],
) -> None:
    """One line per expectation, what was left out, and where the outputs are."""
    if not verdicts:
        terminal.write_sep("=", "geomcheck: nothing was checked", red=True, bold=True)
        return
    notes = _notes(gate, verdicts)
    if terminal.verbosity >= 0 or notes or outputs:
        terminal.write_sep("=", "geomcheck")
    if terminal.verbosity >= 0:
        for (run, suite), group in _by_suite(verdicts):
            terminal.write_line(printable(f"{run} against {suite}"), bold=True)
            for word, colour, line in _table(group):
                terminal.write(f"  {word} ", **{colour: True})
                terminal.write_line(printable(line))
    for note in notes:
        terminal.write_line(printable(note), yellow=True)
    for what, path in outputs:
        terminal.write_line(f"{what}: {path}")


def shown(value: float | None, facts: Mapping[str, Any]) -> str:
    """A figure to four significant digits, in percent where its suite writes percent; a dash where there is none."""
    if value is None:
        return "-"
    return f"{100 * value:.4g}%" if facts["percent"] else f"{value:.4g}"


def _table(verdicts: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(outcome, colour, line) per expectation, in columns."""
    rows = [(v["outcome"], v["id"], f"{v['metric']}{_unit(v)}", _trajectory(v), _condition(v)) for v in verdicts]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        (
            f"{OUTCOME_WORDS[outcome]:6}",
            _COLOURS[outcome],
            "  ".join(cell.ljust(widths[column]) for column, cell in enumerate(cells, 1)).rstrip(),
        )
        for outcome, *cells in rows
    ]


def _trajectory(facts: Mapping[str, Any]) -> str:
    """First and last value with a sparkline; the range over groups where there are several."""
    observed = facts["observed"]
    values = [entry["value"] for entry in observed]
    if not any(value is not None for value in values):
        return "not measured"
    if len({entry["group"] for entry in observed}) > 1:
        present = [value for value in values if value is not None]
        return f"{shown(min(present), facts)} to {shown(max(present), facts)} over {facts['per']}s"
    if len(values) == 1:
        return shown(values[0], facts)
    return f"{shown(values[0], facts)} -> {shown(values[-1], facts)} {sparkline(values)}"


def _condition(facts: Mapping[str, Any]) -> str:
    """The condition, with how many groups may violate it and do."""
    if not facts["allow"]:
        return str(facts["condition"])
    outside = {entry["group"] for entry in facts["observed"] if entry["holds"] is False}
    groups = {entry["group"] for entry in facts["observed"]}
    return f"{facts['condition']}, {len(outside)} of {len(groups)} outside ({100 * facts['allow']:.4g}% allowed)"


def _observed(facts: Mapping[str, Any]) -> list[str]:
    """The folded figures as a table: a column per checkpoint, a row per group, violations marked."""
    entries = facts["observed"]
    if not entries:
        return []
    by_group = {group: list(found) for group, found in groupby(entries, key=lambda entry: entry["group"])}
    violated = [group for group, found in by_group.items() if any(entry["holds"] is False for entry in found)]
    listed = sorted(violated or by_group, key=lambda group: -_distance(by_group[group], facts))[:GROUPS_SHOWN]
    steps = sorted({entry["step"] for entry in entries})
    columns = _columns(len(steps))
    rows = [["step", *("..." if i is None else f"{steps[i]} " for i in columns), ""]]
    for group in listed:
        found = {entry["step"]: entry for entry in by_group[group]}
        cells = ["..." if i is None else _cell(found.get(steps[i]), facts) for i in columns]
        spark = sparkline([found[step]["value"] if step in found else None for step in steps])
        rows.append([group or "value", *cells, spark if len(steps) > 1 else ""])
        for name in ("reference", "low", "high"):
            if any(name in entry for entry in found.values()):
                theirs = [found.get(steps[i], {}).get(name) if i is not None else None for i in columns]
                rows.append([name, *(f"{shown(value, facts)} " for value in theirs), ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]]) for row in rows]
    if len(violated) > len(listed):
        lines.append(f"and {len(violated) - len(listed)} more {facts['per']}s of {len(by_group)}")
    return lines


def _cell(entry: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> str:
    """A figure, marked where it violates the condition; a dash where the group has none at this checkpoint."""
    if entry is None:
        return "- "
    return shown(entry["value"], facts) + ("!" if entry["holds"] is False else " ")


def _distance(found: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> float:
    """How far a group is outside the condition's bounds at its worst; 0 for conditions without fixed bounds."""
    low, high = (facts["bounds"] or {}).get("low"), (facts["bounds"] or {}).get("high")
    distances = [0.0]
    for entry in found:
        value, least, most = entry["value"], entry.get("low", low), entry.get("high", high)
        if value is not None:
            distances += [least - value] if least is not None else []
            distances += [value - most] if most is not None else []
    return max(distances[1:], default=0.0)


def _columns(count: int) -> list[int | None]:
    """Which checkpoints to print; None stands for those left out."""
    if count <= CHECKPOINTS_SHOWN:
        return list(range(count))
    half = CHECKPOINTS_SHOWN // 2
    return [*range(half), None, *range(count - half, count)]


def _field(name: str, lines: Sequence[str]) -> list[str]:
    """`lines` under a label in the margin; nothing where there are none."""
    return [f"  {name if index == 0 else '':9}  {line.rstrip()}" for index, line in enumerate(lines)]


def _wrapped(texts: Iterable[str]) -> list[str]:
    """Prose in lines that fit a terminal."""
    return [line for text in texts for part in text.splitlines() for line in textwrap.wrap(part, WRAP)]


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
    return f"{facts['condition']} at {at.get(facts['at'], facts['at'])}{of[facts['per']]}"


def _parameters(facts: Mapping[str, Any]) -> str:
    """The definition behind the figure; a null that was not subtracted is not worth words."""
    params = {name: value for name, value in facts["params"].items() if (name, value) != ("excess_over", "none")}
    return f" ({', '.join(f'{name}={value}' for name, value in params.items())})" if params else ""


def _unit(facts: Mapping[str, Any]) -> str:
    return " (deg)" if facts["unit"] == "deg" else ""


def _counts(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in weights.items())


def _by_suite(
    verdicts: Sequence[Mapping[str, Any]],
) -> Iterable[tuple[tuple[str, str], list[Mapping[str, Any]]]]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict["run"], verdict["suite"]), []).append(verdict)
    return groups.items()


def _notes(gate: Gate, verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
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
        notes.append(f"note: {frozen} of the selected weights never changed (frozen) and are not averaged in")
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
    return f"{measurement.subject.name}: {span}, W0: {record.origin.how}"
