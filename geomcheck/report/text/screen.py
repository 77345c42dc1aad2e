"""What a text is written for: how wide it may be, which characters it may hold, how much it should say."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from shutil import get_terminal_size
from typing import TYPE_CHECKING, NamedTuple, TextIO

from geomcheck.report.safe import printable
from geomcheck.report.text.sparkline import BLOCKS, levels_for

if TYPE_CHECKING:
    import pytest

NARROWEST = 60
USUAL_WIDTH = 80
LOG_WIDTH = 120
"""Columns of a log, which scrolls: names are worth more there than a tidy edge."""

ELLIPSIS = "..."
GAP = "  "
"""Between the columns of a table."""


LISTED = 12
"""Names of expectations or runs in a row."""


class Line(NamedTuple):
    """A line, with words before it that have a colour."""

    text: str
    before: str = ""
    colour: str = ""
    bold: bool = False

    def write(self, terminal: pytest.TerminalReporter) -> None:
        """Write it; a line without words before it has the colour itself."""
        markup = {self.colour: True} if self.colour else {}
        if self.before:
            terminal.write(printable(self.before), **markup)
            markup = {}
        terminal.write_line(printable(self.text), bold=self.bold, **markup)


@dataclass(frozen=True)
class Screen:
    """Where the verdicts of a session are read.

    Attributes:
        width: columns.
        levels: characters of sparklines, from low to high.
        verbosity: pytest's: below 0 for ``-q``, 1 for ``-v``, 2 for ``-vv``.
        colour: whether colours are shown.
        terminal: whether it is a terminal; a log otherwise.
    """

    width: int = LOG_WIDTH
    levels: str = BLOCKS
    verbosity: int = 0
    colour: bool = False
    terminal: bool = False

    @classmethod
    def of(cls, config: pytest.Config) -> Screen:
        """The screen of a session, once its terminal reporter is there."""
        reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
        if reporter is None:  # -p no:terminal, which takes its options away too
            return cls()
        writer = config.get_terminal_writer()
        width = max(NARROWEST, writer.fullwidth) if bool(reporter.isatty) else LOG_WIDTH
        levels = levels_for(getattr(sys.__stdout__, "encoding", None))
        return cls(width, levels, reporter.verbosity, bool(writer.hasmarkup), bool(reporter.isatty))

    @classmethod
    def of_stream(cls, stream: TextIO) -> Screen:
        """The screen of a command that prints to `stream`: the terminal's width, 80 columns elsewhere."""
        terminal = stream.isatty()
        width = max(NARROWEST, get_terminal_size().columns) if terminal else USUAL_WIDTH
        return cls(width, levels_for(getattr(stream, "encoding", None)), terminal=terminal)

    @property
    def ascii(self) -> bool:
        """Whether it shows no other characters."""
        return self.levels != BLOCKS

    def wrapped(self, text: str, *, indent: int = 0, hang: int = 0) -> list[str]:
        """`text` in lines that fit beside a margin of `indent`; all but the first begin with `hang` blanks.

        Lines break at blanks only: never inside a figure, a name or a path.
        """
        wrapper = textwrap.TextWrapper(self.width - indent, subsequent_indent=" " * hang)
        wrapper.break_long_words = wrapper.break_on_hyphens = False
        return [line for part in text.splitlines() for line in wrapper.wrap(part)]

    def sentence(self, text: str, *, hang: int = 0) -> list[str]:
        """`text` wrapped on a terminal; as it is in a log, where lines are searched for."""
        return self.wrapped(text, hang=hang) if self.terminal else text.splitlines()


def aligned(rows: Sequence[Sequence[str]], *, right: Container[int] = (), gap: str = GAP) -> list[str]:
    """A line per row, its cells in columns; the columns numbered in `right` are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    fit = [str.rjust if index in right else str.ljust for index in range(len(widths))]
    return [gap.join(f(cell, width) for f, cell, width in zip(fit, row, widths, strict=True)).rstrip() for row in rows]


def some(names: Sequence[str], screen: Screen) -> str:
    """`names` in a row; of many only the first, but with ``-v``."""
    told = names if screen.verbosity > 0 or len(names) <= LISTED else names[: LISTED - 1]
    return ", ".join(told) + (f" and {len(names) - len(told)} more" if len(told) < len(names) else "")


def duration(seconds: float) -> str:
    """How long something takes: seconds below two minutes, then minutes, then hours and minutes."""
    if seconds < 1:
        return "a second"
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{60 * hours + minutes} min" if hours < 2 else f"{hours} h {minutes} min"


def elide(name: str, width: int, mark: str = ELLIPSIS) -> str:
    """`name` in at most `width` characters: what is too much goes from its middle, as names differ at their ends."""
    if len(name) <= width:
        return name
    kept = max(0, width - len(mark))
    tail = (kept + 1) // 2
    return name[: kept - tail] + mark + name[len(name) - tail :]


def elided(names: Sequence[str], width: int) -> list[str]:
    """Names of weights in at most `width` characters each: where one is too long, what all share goes first."""
    parts = [name.split(".") for name in names]
    if all(len(name) <= width for name in names) or len(set(names)) < 2:
        return [elide(name, width) for name in names]
    most = min(map(len, parts)) - 1
    lead = _shared(parts, most)
    tail = _shared([part[::-1] for part in parts], most - lead)
    start = ELLIPSIS if lead else ""
    return [elide(start + ".".join(part[lead : len(part) - tail]), width) for part in parts]


def _shared(parts: Sequence[Sequence[str]], most: int) -> int:
    """How many leading parts, at most `most`, are the same in all."""
    same = (len(set(column)) == 1 for column in islice(zip(*parts, strict=False), most))
    return sum(1 for _ in takewhile(bool, same))
