"""Findings as text of 80 columns; paths and names that are longer keep their length."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from geomcheck._text import plural
from geomcheck.report.findings import headline
from geomcheck.report.safe import printable

if TYPE_CHECKING:
    from geomcheck.diagnosis import Case, Finding

WIDTH = 80


def lines(case: Case, found: Sequence[Finding]) -> list[str]:
    """A diagnosis for people: what was found, and what was looked at."""
    head = plural(len(found), "finding") if found else "nothing found"
    text = [f"{case.record.run} ({case.record.path}): {head}", ""]
    for number, finding in enumerate(found, 1):
        text += [*sentence(finding, number), *reasons(finding), ""]
    return [printable(line) for line in [*text, *_wrapped(looked_at(case), "", "")]]


def sentence(finding: Finding, number: int | str, *, run: str = "", width: int = WIDTH) -> list[str]:
    """What is wrong, in a line or two; with the name of the run where there are several."""
    of_run = f"{run}: " if run else ""
    return _wrapped(f"{of_run}{headline(finding)}", f"{number:>3}. ", " " * 5, width)


def reasons(
    finding: Finding, *, width: int = WIDTH, more: Mapping[str, str] | None = None, advice: bool = True
) -> list[str]:
    """What speaks for it, with `advice` what is likely behind it and what to do, and `more`, a text by its label."""
    parts = {
        "evidence": "; ".join(finding.evidence),
        "likely": "; or ".join(finding.causes) if advice else "",
        "next": finding.next_step if advice else "",
        **(more or {}),
        "see": finding.source if advice else "",
    }
    labelled = ((f"{'':5}{name:9} ", text) for name, text in parts.items() if text)
    return [line for label, text in labelled for line in _wrapped(text, label, " " * 15, width)]


def looked_at(case: Case) -> str:
    """What the findings are based on."""
    count = plural(len(case.points), "checkpoint")
    beside = f", and {plural(len(case.good), 'good run')} beside them" if case.good else ""
    if not case.has_weights:
        return f"Looked at the record of {count}{beside}; the weights themselves tell more."
    read, there = len(case.examined), len(case.weights)
    bytes_of = f"the bytes of {len(case.contents)} of {there} tensors, the values of {read}"
    return f"Looked at W0 and {count}: {bytes_of}{beside}."


def _wrapped(text: str, first: str, rest: str, width: int = WIDTH) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
