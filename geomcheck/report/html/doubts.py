"""What was left out of a report's figures, and what makes them less certain than they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from geomcheck.record import Record
from geomcheck.report.html.columns import Columns
from geomcheck.report.html.numbers import Form, several
from geomcheck.suite.sampling import ROUNDING_LIMIT

EXAMPLES = 5
GROUPS = 20


@dataclass(frozen=True)
class Doubt:
    """One kind of thing left out or doubtful, with its cases."""

    title: str
    text: str
    cases: Sequence[str] = ()
    serious: bool = False


def doubts(columns: Columns, notes: Iterable[str], warnings: Iterable[str]) -> list[Doubt]:
    """Everything a careful reader would ask about the figures of a record."""
    record = columns.record
    found = [Doubt("Warning", warning, serious=True) for warning in dict.fromkeys(warnings)]
    found += [Doubt("Note on the run", note) for note in notes]
    parts = (_skipped(record), _frozen(columns), _rounding(columns), _storage(record), _unmeasured(record, columns))
    return found + [part for part in (*parts, _undefined(columns), _routes(record)) if part is not None]


def _skipped(record: Record) -> Doubt | None:
    if not record.skipped:
        return None
    by_reason: dict[str, list[str]] = {}
    for name, reason in record.skipped.items():
        by_reason.setdefault(reason, []).append(name)
    largest = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    cases = [f"{reason}: {_some(names)}" for reason, names in largest[:GROUPS]]
    cases += [f"and {several(len(largest) - GROUPS, 'more reason')}"] if len(largest) > GROUPS else []
    return Doubt("Skipped", f"{several(len(record.skipped), 'weight')} could not be measured.", cases, serious=True)


def _frozen(columns: Columns) -> Doubt | None:
    names = [w.name for index, w in enumerate(columns.weights) if columns.frozen[:, index].all()]
    if not names:
        return None
    text = (
        f"{several(len(names), 'weight')} of {len(columns.weights):,} never changed. They count with an update of 0, "
        "and are left out of figures that need one."
    )
    return Doubt("Frozen", text, [_some(names)])


def _rounding(columns: Columns) -> Doubt | None:
    column = columns.of("rounding_share")
    if column is None:
        return None
    shares = column.folded()
    if np.isnan(shares).all():
        return None
    form = Form(percent=True)
    listed = ", ".join(f"step {step:,}: {form.show(s)}" for step, s in zip(columns.steps, shares.tolist(), strict=True))
    worst = float(np.nanmax(shares))
    advice = (
        " Where it is large, stable rank, Hill estimate and alignment describe the rounding rather than the training: "
        "measure fp32 checkpoints if there are any."
    )
    most = f"Up to {form.show(worst)}" if worst >= 1e-4 else "Less than 0.01%"
    text = f"{most} of the update (mean over weights) is explained by rounding to the stored format."
    serious = worst > ROUNDING_LIMIT
    return Doubt("Rounding noise", text + (advice if serious else ""), [listed[:600]] if worst >= 1e-4 else [], serious)


def _routes(record: Record) -> Doubt | None:
    if not record.routes:
        return None
    cases = [
        f"{quantity}: {how} ({several(found.count, 'time')}"
        + (f", estimated error at most {found.worst:.1g})" if found.worst is not None else ")")
        for quantity, by_route in record.routes.items()
        for how, found in by_route.items()
    ]
    text = f"What answered, with its own estimate of its relative error; on {record.device}."
    return Doubt("Algorithms", text, cases)


def _storage(record: Record) -> Doubt:
    counts = Counter(" → ".join(weight.dtypes) or "unknown" for weight in record.weights.values() if weight.is_matrix)
    text = "Weight matrices are stored as " + ", ".join(f"{kind} ({n:,})" for kind, n in counts.most_common(8))
    mixed = len(counts) > 1 or any("→" in kind for kind in counts)
    remark = " (W0 first, then the run). Formats are mixed: compare figures across formats with care." if mixed else ""
    return Doubt("Storage", f"{text}{remark or '.'}")


def _unmeasured(record: Record, columns: Columns) -> Doubt | None:
    measured = {weight.name for weight in columns.weights}
    other = [weight for name, weight in record.weights.items() if name not in measured and name not in record.skipped]
    if not other:
        return None
    kinds = Counter("vector" if not weight.is_matrix else weight.kind for weight in other)
    listed = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
    bulky = [weight.name for weight in other if weight.is_bulky]
    cases = [f"more than two dimensions: {_some(bulky)}"] if bulky else []
    text = f"{several(len(other), 'tensor')} of the model were not asked for or are no matrices: {listed}."
    return Doubt("Not measured", text, cases, serious=bool(bulky))


def _undefined(columns: Columns) -> Doubt | None:
    """Figures without a value, by reason; frozen weights are told elsewhere."""
    reasons: Counter[tuple[str, str]] = Counter()
    for request, stat in columns.principal():
        figures = columns.record.figures(request, stat).values()
        reasons.update((request.metric, f.undefined) for f in figures if f.undefined and f.undefined != "W_t equals W0")
    if not reasons:
        return None
    cases = [f"{metric}: {reason} ({count:,})" for (metric, reason), count in reasons.most_common(GROUPS)]
    return Doubt("Undefined", f"{several(sum(reasons.values()), 'figure')} have no value.", cases)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - EXAMPLES:,} more" if len(names) > EXAMPLES else ""
    return ", ".join(names[:EXAMPLES]) + more
