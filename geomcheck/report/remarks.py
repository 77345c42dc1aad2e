"""What a reader should know beside a record's figures: what was left out of them, and what makes them less certain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from geomcheck._text import plural
from geomcheck.checkpoints.weights import by_role, is_weight
from geomcheck.record import Record
from geomcheck.report.charts.numbers import Form
from geomcheck.report.facts import grouped
from geomcheck.report.figures import Figures
from geomcheck.suite.rounding import ROUNDING_LIMIT

EXAMPLES = 5
REASONS = 20


@dataclass(frozen=True)
class Remark:
    """One thing to know.

    Attributes:
        title: its kind in a word or two.
        text: a sentence.
        example: one case of it, for where there is no room for all.
        cases: what it is about, as far as a page lists it.
        serious: whether figures cannot be read without it.
    """

    title: str
    text: str
    example: str = ""
    cases: Sequence[str] = ()
    serious: bool = False

    @property
    def line(self) -> str:
        """It in one line, as texts and JSON have it."""
        return f"{self.text.removesuffix('.')}, such as {self.example}" if self.example else self.text


def notable(figures: Figures) -> list[Remark]:
    """What is worth a line wherever figures of a record are shown."""
    record = figures.record
    notes = [Remark("Note on the run", note) for note in record.notes]
    return [*notes, *_skipped(record), *_bulky(record), *_frozen(figures), *_other(figures)]


def remarks(figures: Figures) -> list[Remark]:
    """Everything that a careful reader would ask about the figures of a record."""
    record = figures.record
    details = (_rounding(figures), _storage(record), _undefined(figures), _routes(record))
    return [*notable(figures), *(remark for found in details for remark in found)]


def _skipped(record: Record) -> Iterable[Remark]:
    by_reason = grouped((reason, name) for name, reason in record.skipped.items())
    largest = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    cases = [f"{reason}: {_some(names)}" for reason, names in largest[:REASONS]]
    cases += [f"and {plural(len(largest) - REASONS, 'more reason')}"] if len(largest) > REASONS else []
    for reason, (first, *_) in largest[:1]:
        text = f"{plural(len(record.skipped), 'weight')} could not be measured."
        yield Remark("Skipped", text, f"{first}: {reason}", cases, serious=True)


def _bulky(record: Record) -> Iterable[Remark]:
    bulky = [weight for weight in record.weights.values() if weight.is_bulky]
    for first in bulky[:1]:
        example = f"{first.name} {first.shape}{f': {first.fused}' if first.fused else ''}"
        text = f"{plural(len(bulky), 'weight')} with other than two dimensions not measured."
        yield Remark("Not matrices", text, example, [_some([weight.name for weight in bulky])])


def _frozen(figures: Figures) -> Iterable[Remark]:
    still = np.flatnonzero(figures.frozen.all(axis=0)).tolist() if figures.steps else []
    names = [figures.weights[place].name for place in still]
    if names:
        text = (
            f"{plural(len(names), 'weight')} of {len(figures.weights):,} never changed (frozen), "
            f"{'such as ' * (len(names) > 1)}{names[0]}: they count with an update of 0, and are left out of figures "
            "that need one."
        )
        yield Remark("Frozen", text, cases=[_some(names)])


def _rounding(figures: Figures) -> Iterable[Remark]:
    statistic = figures.of("rounding_share")
    shares = figures.folded(statistic) if statistic else []
    if np.isnan(shares).all():
        return
    form, worst = Form(percent=True), float(np.nanmax(shares))
    listed = ", ".join(f"step {step:,}: {form.show(s)}" for step, s in zip(figures.steps, shares, strict=True))
    advice = (
        " Where it is large, stable rank, Hill estimate and alignment describe the rounding rather than the training: "
        "measure fp32 checkpoints if there are any."
    )
    told, serious = worst >= 1e-4, worst > ROUNDING_LIMIT
    most = f"Up to {form.show(worst)}" if told else "Less than 0.01%"
    text = f"{most} of the update (mean over weights) is explained by rounding to the stored format."
    yield Remark("Rounding noise", text + advice * serious, cases=[listed[:600]] * told, serious=serious)


def _storage(record: Record) -> Iterable[Remark]:
    counts = Counter(" → ".join(weight.dtypes) or "unknown" for weight in record.weights.values() if weight.is_matrix)
    text = "Weight matrices are stored as " + ", ".join(f"{kind} ({n:,})" for kind, n in counts.most_common(8))
    mixed = len(counts) > 1 or any("→" in kind for kind in counts)
    end = " (W0 first, then the run). Formats are mixed: compare figures across formats with care." if mixed else "."
    yield Remark("Storage", text + end)


def _other(figures: Figures) -> Iterable[Remark]:
    record = figures.record
    told = {weight.name for weight in figures.weights} | record.skipped.keys()
    other = [weight for name, weight in record.weights.items() if name not in told and is_weight(weight)]
    if other and figures.weights:
        yield Remark("Not asked for", f"not asked for: {by_role(other)}")


def _undefined(figures: Figures) -> Iterable[Remark]:
    """Figures without a value, by reason; those of unchanged weights are told by `_frozen`."""
    reasons = Counter(
        (statistic.request.metric, reason)
        for statistic in figures.principal()
        for place, reason in figures.table(statistic).reasons.items()
        if not figures.frozen[place]
    )
    if reasons:
        cases = [f"{metric}: {reason} ({count:,})" for (metric, reason), count in reasons.most_common(REASONS)]
        yield Remark("Undefined", f"{plural(reasons.total(), 'figure')} have no value.", cases=cases)


def _routes(record: Record) -> Iterable[Remark]:
    cases = [
        f"{quantity}: {how} ({plural(found.count, 'time')}"
        + (f", estimated error at most {found.worst:.1g})" if found.worst is not None else ")")
        for quantity, by_route in record.routes.items()
        for how, found in by_route.items()
    ]
    if cases:
        text = f"What answered, with its own estimate of its relative error; on {record.device}."
        yield Remark("Algorithms", text, cases=cases)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - EXAMPLES:,} more" if len(names) > EXAMPLES else ""
    return ", ".join(names[:EXAMPLES]) + more
