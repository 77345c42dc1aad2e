"""The verdicts as a Markdown table, for the summary page of a GitHub Actions step."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from geomcheck.report.causes import Causes
from geomcheck.report.facts import SessionFacts, early, shown
from geomcheck.report.findings import MOST, Diagnosis
from geomcheck.report.safe import printable

_ACTIVE = re.compile(r"([\\`*_{}\[\]<>()#+!|&~-])")
_LINKED = re.compile(r"(?<=@)|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
"""Where GitHub would see somebody's name, an address or a link, though no Markdown says so."""


def append_step_summary(
    verdicts: Sequence[SessionFacts],
    errors: Sequence[str],
    notes: Sequence[str] = (),
    diagnoses: Mapping[str, Diagnosis] | None = None,
) -> None:
    """Append the table to the file that ``$GITHUB_STEP_SUMMARY`` names; nothing where it is not set.

    `notes` are what a reader should know beside the verdicts, `diagnoses` what is behind those that fail, by run.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with open(path, "a", encoding="utf-8") as summary:
            summary.write(table(verdicts, errors, diagnoses or {}) + "".join(f"\n- {escape(line)}\n" for line in notes))


def table(
    verdicts: Sequence[SessionFacts], errors: Sequence[str], diagnoses: Mapping[str, Diagnosis] | None = None
) -> str:
    """What is wrong with the runs, then one row per expectation; or the errors of suites that could not be read."""
    if not verdicts:
        reasons = "".join(f"- {escape(line)}\n" for error in errors for line in error.splitlines())
        return f"### geomcheck\n\nNothing was checked.\n\n{reasons}"
    diagnoses = diagnoses or {}
    found = [line for diagnosis in diagnoses.values() for line in _findings(diagnosis)]
    lines = ["### geomcheck", "", *found, "| | run | expectation | metric | condition | decided by |", "|---" * 6 + "|"]
    causes = Causes.of(verdicts, diagnoses)
    for verdict in verdicts:
        outcome, name = verdict["outcome"].upper(), f"{verdict['suite']}::{verdict['id']}"
        cells = (outcome, verdict["run"], name, verdict["metric"], verdict["condition"], _decisive(verdict, causes))
        lines.append("| " + " | ".join(map(escape, cells)) + " |")
    told = [f"\n- {escape(f'{cause.headline}. It stops {cause.places}')}" for cause in causes]
    return "\n".join([*lines, *told]) + "\n"


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
        told = [f"*{name}*: {escape(text)}" for name, text in parts.items() if text]
        yield "<br>\n".join([f"**{one.number}. {escape(f'{one.run}: {one.headline}')}**", *told])
        yield ""


def _decisive(verdict: SessionFacts, causes: Causes) -> str:
    """The figure that decided, with its place; the reason where it could not be judged, or where that is told."""
    decisive, cause = verdict["decisive"], causes.stopping(verdict["run"], verdict)
    if decisive is None or verdict["cause"]:
        return f"see {cause.name}" if cause else verdict["message"]
    group = f" in {decisive['group']}" if decisive["group"] else ""
    sampled = f", {early(verdict)}" if early(verdict) else ""
    return f"{shown(decisive['value'], verdict)} at step {decisive['step']}{group}{sampled}"


def escape(text: str) -> str:
    """`text` as literal Markdown on one line, that notifies nobody and links to nothing."""
    return _LINKED.sub("&#8203;", _ACTIVE.sub(r"\\\1", printable(text).replace("\n", " ")))
