"""What a suite would notice, as text of 80 columns; names that are longer keep their length."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from geomcheck.report.safe import printable
from geomcheck.report.text.screen import aligned, elide

if TYPE_CHECKING:
    from geomcheck.defects.result import Power, Threshold, Tried

WIDTH = 80
LONGEST = 34
"""Characters of an expectation's id in the table."""

REFUSED = "refused before any suite"


def lines(power: Power, missing: Sequence[str] = ()) -> list[str]:
    """What a suite would notice, for people; `missing` are required defects that it would not."""
    caught, missed, idle = power.of("caught"), power.of("missed"), power.of("idle")
    head = f"{power.suite} on {power.run}: would notice {len(caught)} of {len(caught) + len(missed)}"
    text = [head, ""]
    if caught:
        text += aligned([["defect", "noticed by", "", "from step"], *map(_row, caught)], right={3})
        text.append("")
    if missed:
        text += ["Blind to", *(line for one in missed for line in _told(one, one.about)), ""]
    if power.thresholds:
        text += ["Just noticed", *(f"  {line}" for line in aligned([_least(one) for one in power.thresholds])), ""]
    if idle:
        text += ["Not in this run", *(line for one in idle for line in _told(one, one.reason)), ""]
    if missing:
        text += [*_wrapped(f"Required and not noticed: {', '.join(missing)}", ""), ""]
    return [printable(line) for line in text[:-1]]


def _row(one: Tried) -> list[str]:
    more = f"+{len(one.failed) - 1}" if len(one.failed) > 1 else ""
    return [one.defect, elide(one.expectation or REFUSED, LONGEST), more, "" if one.step is None else str(one.step)]


def _told(one: Tried, what: str) -> Iterator[str]:
    where = f" ({one.where})" if one.where else ""
    yield from _wrapped(f"{what}{where}", f"  {one.defect:18} ")


def _least(one: Threshold) -> list[str]:
    return [one.text, f"by {one.expectation}" if one.expectation else ""]


def _wrapped(text: str, first: str) -> list[str]:
    rest = " " * len(first) if first.strip() else "  "
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
