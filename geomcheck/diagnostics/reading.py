"""How to read the figure of a metric: in plain words, beside other metrics, and beside what papers report."""

from __future__ import annotations

from dataclasses import dataclass

OPD_PAPER = "arXiv 2606.07082, Qwen3-8B on mathematics"
"""The source of published figures, unless they name another."""


@dataclass(frozen=True)
class Words:
    """A metric in plain words, for readers who have not seen the papers: one sentence each."""

    shows: str
    high: str
    low: str

    @classmethod
    def of(cls, title: str, definition: str) -> Words:
        """The words for a metric that declares none."""
        shows = f"{title[:1].upper()}{title[1:]}: {definition}."
        return cls(shows, f"The {title} is larger than it should be.", f"The {title} is smaller than it should be.")


@dataclass(frozen=True)
class Follows:
    """Why a metric adds nothing to a suite: it repeats the metric called `leader`, or "" where it never does."""

    leader: str
    why: str


@dataclass(frozen=True)
class Level:
    """What a paper reports of one training regime, and how it words it: a figure, or the interval up to `until`."""

    regime: str
    words: str
    low: float
    until: float | None = None

    @property
    def high(self) -> float:
        """The other end; equal to `low` of a figure."""
        return self.low if self.until is None else self.until


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published figures that stand beside a run's own; `remark` says what the source reports without figures."""

    levels: tuple[Level, ...] = ()
    remark: str = ""
    source: str = OPD_PAPER

    def cited(self) -> str:
        """The figures in a sentence with their source."""
        figures = "; ".join(f"{level.regime.upper()} {level.words}" for level in self.levels)
        return " ".join(filter(None, (f"Published ({self.source}):", figures and f"{figures}.", self.remark)))
