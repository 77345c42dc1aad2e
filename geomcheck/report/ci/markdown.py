"""The verdicts in Markdown: on the summary page of a GitHub Actions step, and in a comment on a pull request."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from geomcheck._text import plural
from geomcheck.report.causes import ORDER, Causes, by_cause
from geomcheck.report.facts import SessionFacts, band, decided, early, shown
from geomcheck.report.findings import MOST, Diagnosis
from geomcheck.report.safe import printable
from geomcheck.report.text.verdicts import off, unit

SUMMARY_BYTES = 1024 * 1024
"""What GitHub takes as the summary of a step; of more it shows nothing."""

COMMENT_BYTES = 60_000
"""Below the 65,536 characters that a comment may have, with room for its marker and the link to the report."""

CELL, PARAGRAPH = 300, 2000
"""Characters of one text in a table, and outside of one. Names in a run may be of any length."""

_HOLDS = ("passed", "info")
_ACTIVE = re.compile(r"([\\`*_{}\[\]<>()#+!|&~$-])")
_LINKED = re.compile(r"(?<=@)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=#)(?=\w)|(?<=GH)(?=\\?-\d)", re.IGNORECASE)
"""Where GitHub would see somebody's name, an address, a link or another issue, though no Markdown says so."""

Before = Mapping[tuple[str, str, str], float]
"""The figures of an earlier record that verdicts are held beside, by run, path of the suite and expectation."""


def step_summary() -> str | None:
    """The file that a step's summary goes to, of a step of GitHub Actions."""
    return os.environ.get("GITHUB_STEP_SUMMARY") or None


def append_step_summary(
    verdicts: Sequence[SessionFacts],
    errors: Sequence[str],
    notes: Sequence[str] = (),
    diagnoses: Mapping[str, Diagnosis] | None = None,
    before: Before | None = None,
) -> None:
    """Append the page to the file that ``$GITHUB_STEP_SUMMARY`` names; nothing where it is not set.

    The arguments are those of `page`.
    """
    if path := step_summary():
        there = Path(path).stat().st_size if Path(path).exists() else 0
        text = page(verdicts, errors, notes, diagnoses, before, limit=SUMMARY_BYTES - there)
        with open(path, "a", encoding="utf-8") as summary:
            summary.write(text)


def page(
    verdicts: Sequence[SessionFacts],
    errors: Sequence[str],
    notes: Sequence[str] = (),
    diagnoses: Mapping[str, Diagnosis] | None = None,
    before: Before | None = None,
    *,
    limit: int = COMMENT_BYTES,
) -> str:
    """What is wrong with the runs, a table of what does not hold, then what holds; or the errors of suites that could
    not be read.

    Args:
        notes: what a reader should know beside the verdicts.
        diagnoses: what is behind those that fail, by run.
        before: earlier figures; None where nobody asked for them.
        limit: bytes. What comes last is left out, with a sentence that says so.
    """
    return _fitted(list(_lines(verdicts, errors, notes, diagnoses or {}, before)), limit)


def _lines(
    verdicts: Sequence[SessionFacts],
    errors: Sequence[str],
    notes: Sequence[str],
    diagnoses: Mapping[str, Diagnosis],
    before: Before | None,
) -> Iterator[str]:
    if not verdicts:
        yield from ("### geomcheck", "", "Nothing was checked.", "")
        yield from (f"- {escape(line, PARAGRAPH)}" for error in errors for line in error.splitlines())
        return
    counts = Counter[str](facts["outcome"] for facts in verdicts)
    yield f"### geomcheck: {', '.join(f'{counts[one]} {one}' for one in ORDER if counts[one])}"
    yield ""
    for diagnosis in diagnoses.values():
        yield from _findings(diagnosis)
    causes = Causes.of(verdicts, diagnoses)
    ordered = by_cause(verdicts, lambda facts: (facts["run"], facts), diagnoses)
    red = [facts for facts in ordered if facts["outcome"] not in _HOLDS]
    green = [facts for facts in ordered if facts["outcome"] in _HOLDS]
    if red:
        yield from _table(red, causes, before)
        yield from (f"\n- {escape(f'{cause.headline}. It stops {cause.places}', PARAGRAPH)}" for cause in causes)
        yield ""
    yield from (f"- {escape(note, PARAGRAPH)}" for note in notes)
    if green:
        yield from ("", "<details>", f"<summary>{plural(len(green), 'expectation')} not violated</summary>", "")
        yield from _table(green, causes, before)
        yield from ("", "</details>")


def _table(verdicts: Sequence[SessionFacts], causes: Causes, before: Before | None) -> Iterator[str]:
    """A row per expectation."""
    columns = ["", "run", "expectation", "metric", "value", "expected", "off by, in half widths"]
    columns += [] if before is None else ["before"]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for facts in verdicts:
        name = f"{facts['suite']}::{facts['id']}"
        cells = [facts["outcome"].upper(), facts["run"], name, facts["metric"], _decisive(facts, causes)]
        cells += [band(facts), off(facts)] + ([] if before is None else [_change(facts, before)])
        yield f"| {' | '.join(escape(cell, CELL) for cell in cells)} |"


def _findings(diagnosis: Diagnosis) -> Iterator[str]:
    """Each finding that explains a verdict, as a paragraph."""
    for one in diagnosis.explaining[:MOST]:
        parts = {
            "evidence": "; ".join(one.finding.evidence),
            "likely": "; or ".join(one.finding.causes),
            "next": one.finding.next_step,
            "explains": ", ".join(one.ids),
            "refused": "; ".join(one.refusals),
        }
        told = [f"*{name}*: {escape(text, PARAGRAPH)}" for name, text in parts.items() if text]
        yield "<br>\n".join([f"**{one.number}. {escape(f'{one.run}: {one.headline}', PARAGRAPH)}**", *told])
        yield ""


def _decisive(verdict: SessionFacts, causes: Causes) -> str:
    """The figure that decided, with its place; the reason where it could not be judged, or where that is told."""
    decisive, cause = verdict["decisive"], causes.stopping(verdict["run"], verdict)
    if decisive is None or verdict["cause"]:
        return f"see {cause.name}" if cause else verdict["message"]
    group = f" in {decisive['group']}" if decisive["group"] else ""
    sampled = f", {early(verdict)}" if early(verdict) else ""
    return f"{decided(verdict)}{' deg' if unit(verdict) else ''} at step {decisive['step']}{group}{sampled}"


def _change(facts: SessionFacts, before: Before) -> str:
    """The figure of before at the same place, and the change since; a dash where there is none."""
    value, decisive = before.get((facts["run"], facts["path"], facts["id"])), facts["decisive"]
    if value is None or decisive is None or decisive["value"] is None:
        return "-"
    change = f" ({(decisive['value'] - value) / abs(value):+.1%} since)" if value else ""
    return f"{shown(value, facts)}{change}"


def escape(text: str, most: int = PARAGRAPH) -> str:
    """`text` as literal Markdown on one line, that notifies nobody and links to nothing; at most so many characters of
    it."""
    cut = text if len(text) <= most else f"{text[: most - 3]}..."
    return _LINKED.sub("&#8203;", _ACTIVE.sub(r"\\\1", printable(cut).replace("\n", " ")))


def _fitted(lines: Sequence[str], limit: int) -> str:
    """As many lines as fit; where that is not all, a sentence says how many are left out."""
    text = "\n".join(lines) + "\n"
    if len(text.encode()) <= limit:
        return text
    kept: list[str] = []
    room = limit - 200  # for the sentence
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.append(line)
    closed = ["</details>"] if "<details>" in kept else []
    left = f"{len(lines) - len(kept)} more lines do not fit here. The report, the record and --geom-json hold all."
    return "\n".join([*kept, "", *closed, "", escape(left)]) + "\n"
