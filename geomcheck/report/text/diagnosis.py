"""Findings as text of 80 columns; paths and names that are longer keep their length."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from geomcheck._text import plural
from geomcheck.diagnosis import Case, Finding
from geomcheck.report.safe import printable

WIDTH = 80


def lines(case: Case, found: Sequence[Finding]) -> list[str]:
    """A diagnosis for people: what was found, and what was looked at."""
    head = plural(len(found), "finding") if found else "nothing found"
    text = [f"{case.record.run} ({case.record.path}): {head}", ""]
    for number, finding in enumerate(found, 1):
        text += [*told(finding, number), ""]
    return [printable(line) for line in [*text, *_wrapped(looked_at(case), "", "")]]


def told(finding: Finding, number: int) -> Iterator[str]:
    """One finding: the sentence, then what speaks for it, what is likely behind it, and what to do."""
    yield from _wrapped(f"{finding.sentence} ({finding.grade})", f"{number:>3}. ", " " * 5)
    parts = {
        "evidence": "; ".join(finding.evidence),
        "likely": "; or ".join(finding.causes),
        "next": finding.next_step,
        "see": finding.source,
    }
    for name, text in parts.items():
        if text:
            yield from _wrapped(text, f"{'':5}{name:9} ", " " * 15)


def looked_at(case: Case) -> str:
    """What the findings are based on."""
    count = plural(len(case.points), "checkpoint")
    if not case.has_weights:
        return f"Looked at the record of {count}; the weights themselves tell more."
    read, there = len(case.examined), len(case.weights)
    return f"Looked at W0 and {count}: the bytes of {len(case.contents)} of {there} tensors, the values of {read}."


def _wrapped(text: str, first: str, rest: str) -> Iterable[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
