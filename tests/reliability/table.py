"""The one table of the reliability work: sections of rows, and a section that did not run says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One line of a section.

    Attributes:
        what: what was tried, as a noun phrase (``truncated safetensors header``).
        tried: how many inputs, faults, mutants or seconds.
        outcome: what became of them, in a few words (``all refused, exit 1``).
        bad: how many of them came out otherwise than they must; anything but 0 fails the command.
    """

    what: str
    tried: str
    outcome: str
    bad: int = 0


@dataclass(frozen=True)
class Section:
    """One part of the table.

    Attributes:
        title: its heading.
        rows: at least one, unless it did not run.
        summary: one line below the rows: what they add up to.
        not_run: why there are no rows; empty where it ran.
    """

    title: str
    rows: Sequence[Row] = field(default=())
    summary: str = ""
    not_run: str = ""

    @property
    def bad(self) -> int:
        """How many of its inputs came out otherwise than they must."""
        return sum(row.bad for row in self.rows)


def table(sections: Sequence[Section]) -> list[str]:
    """The lines of the table. A section without rows reads "not run", never as fine."""
    cells = [(row.what, row.tried, row.outcome) for section in sections for row in section.rows]
    what, tried = (max((len(cell[column]) for cell in cells), default=0) for column in (0, 1))
    lines: list[str] = []
    for section in sections:
        lines += ["", section.title, "-" * len(section.title)]
        for row in section.rows:
            mark = "" if row.bad == 0 else f"   {row.bad} BAD"
            lines.append(f"  {row.what:{what}}  {row.tried:>{tried}}  {row.outcome}{mark}")
        if not section.rows:
            lines.append(f"  not run: {section.not_run or 'it returned no rows'}")
        elif section.summary:
            lines.append(f"  {section.summary}")
    return lines[1:]
