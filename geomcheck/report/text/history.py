"""A history as tables of 80 columns: what drifts, the figures by record, and how they changed."""

from __future__ import annotations

from collections.abc import Iterator

from geomcheck.diagnostics import Unit
from geomcheck.history import Drift, Entry, History, Series
from geomcheck.report.figures import Statistic
from geomcheck.report.safe import printable
from geomcheck.report.text.grid import Series as Row
from geomcheck.report.text.grid import laid_out
from geomcheck.report.text.screen import ELLIPSIS, Screen, aligned, elide
from geomcheck.report.text.sparkline import sparkline
from geomcheck.suite.language.quantities import Scale

LISTED = 16
"""Records that are listed; of more, the first and the last."""


def lines(found: History, screen: Screen) -> list[str]:
    """All of it, for people."""
    count = len(found.entries)
    text = [f"{count} records, in the order given; records carry no date", *_listed(found, screen), ""]
    text += [part for note in found.notes for part in screen.wrapped(f"note: {note}", hang=2)]
    text += [part for sentence in verdict(found) for part in screen.wrapped(sentence, hang=2)]
    head = Row("record", [str(number) for number in range(1, count + 1)])
    rows = [Row(name_of(one), [shown(one, v) for v in one.values], named=True) for one in found.series]
    text += ["", *(f"  {line}" for line in laid_out([head, *rows], screen.width - 2, whole=False)), ""]
    text += [f"  {line}" for line in _changes(found, screen)]
    gaps = [(one, why) for one in found.series for why in one.reasons if why]
    text += [""] * bool(gaps)
    text += [part for one, why in gaps[:4] for part in screen.wrapped(f"{name_of(one)}: {why}", hang=2)]
    text += [f"and {len(gaps) - 4} more figures are missing; --json has all"] if len(gaps) > 4 else []
    return [printable(line) for line in text]


def verdict(found: History) -> Iterator[str]:
    """What drifts; or that nothing does, as far as so many records can tell."""
    for one in found.drifting:
        if one.drift is not None:
            yield f"{name_of(one)} {drifts(one, one.drift)}"
    tests = sum(one.drift is not None for one in found.series)
    if found.tested < found.needed:
        yield (
            f"{found.tested} records that can be compared are too few to tell a drift of any of {tests} figures: "
            f"{found.needed} or more are needed"
        )
    elif not found.drifting:
        steadily = f"rises or falls more steadily over {found.tested} records than chance gives"
        yield f"no drift: none of {tests} figures {steadily}"


def drifts(one: Series, drift: Drift) -> str:
    """How a figure drifts, in words."""
    told, low, high = (_per_record(one, drift, amount) for amount in (drift.slope, drift.low, drift.high))
    return f"drifts by {told} per merge (95%: {low} to {high}; p = {drift.p:.2g} over all figures)"


def name_of(one: Series) -> str:
    """The metric, with its own parameters and the unit that figures do not carry."""
    return Statistic(one.request, one.metric.stat({})).name


def shown(one: Series, value: float | None) -> str:
    """A figure without the unit that `name_of` has; a dash where there is none."""
    return "-" if value is None else Scale(Unit.NUMBER, one.metric.is_share).show(value, 3)


def _changes(found: History, screen: Screen) -> list[str]:
    """How the figures changed, with sparklines where there is room."""
    rows = [["change since", "first", "previous", "per record", "p"]]
    rows += [[name_of(o), _share(o.since_first), _share(o.since_previous), *_trend(o)] for o in found.series]
    sparks = ["", *(sparkline(one.values, levels=screen.levels) for one in found.series)]
    drawn = aligned([[*row, spark] for row, spark in zip(rows, sparks, strict=True)], right=range(1, 5))
    fits = max(map(len, drawn)) <= screen.width - 2
    return drawn if fits else aligned(rows, right=range(1, 5))


def _listed(found: History, screen: Screen) -> list[str]:
    entries = [*enumerate(found.entries, 1)]
    cells = [_entry(number, entry) for number, entry in entries]
    if len(cells) > LISTED:
        cells = [*cells[: LISTED // 2], [ELLIPSIS, "", "", ""], *cells[-LISTED // 2 :]]
    return [f"  {line}" for line in aligned(cells, right=(0,))]


def _entry(number: int, entry: Entry) -> list[str]:
    return [str(number), elide(entry.name, 32), elide(entry.run, 24), f"step {entry.step}"]


def _trend(one: Series) -> tuple[str, str]:
    if one.drift is None:
        return "", ""
    return _per_record(one, one.drift, one.drift.slope), f"{one.drift.p:.2g}"


def _per_record(one: Series, drift: Drift, amount: float) -> str:
    relative = drift.relative(amount)
    if relative is not None:
        return f"{relative:+.2%}"
    return f"{100 * amount:+.3g} points" if one.metric.is_share else f"{amount:+.3g}"


def _share(change: float | None) -> str:
    return "" if change is None else f"{change:+.1%}"
