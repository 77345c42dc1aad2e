"""An inspection as text of 80 columns; paths and names that are longer keep their length."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from geomcheck._text import plural
from geomcheck.inspection import CORE_GFLOPS, Held, Inspection, WeightGroup
from geomcheck.report.facts import grouped
from geomcheck.report.findings import headline
from geomcheck.report.safe import printable
from geomcheck.report.text.screen import Screen, aligned, duration, elide

if TYPE_CHECKING:
    from geomcheck.diagnosis import Finding

WIDTH = 80
INDENT = "  "


def lines(found: Inspection, diagnosed: Sequence[Finding] | None = None) -> list[str]:
    """Everything that `found` says, for people; and what is wrong with it, as far as that is known."""
    text = [
        f"{found.name} ({found.path})",
        *_facts(found),
        *_section("Checkpoints", _table([_checkpoint(held) for held in found.checkpoints], right=(1, 2, 5))),
        *_section("Notes", _prose(found.notes)),
        *_section(_measured_title(found), _table([_group(g) for g in found.groups if g.reason is None], right=(1,))),
        *_section("Not measured", _unmeasured(found.groups)),
        *_section("Frozen", _prose(_frozen(found))),
        *_section("Cost, estimated", _prose(_cost(found))),
        *_section("What is wrong", _prose(map(headline, diagnosed or ()))),
    ]
    return [printable(line) for line in text]


def _facts(found: Inspection) -> list[str]:
    facts = {"written by": found.framework, "figures of": ", ".join(found.metrics)}
    if found.base is not None:
        base = found.base
        stored = ", ".join(part for part in (base.format, _dtypes(base), size(base.bytes)) if part)
        facts |= {"W0": base.name + (f" ({stored})" if stored else ""), "": base.path}
    text = _prose((f"{name:10}  {fact}" for name, fact in facts.items() if fact), hang=12)
    missing = found.base_missing.splitlines()
    return text + ([f"{INDENT}W0          none", *_prose(missing)] if missing else [])


def _checkpoint(held: Held) -> list[str]:
    progress = f"{held.progress or 0:.0%}"
    return [held.name, f"step {held.step}", progress, held.format, _dtypes(held), size(held.bytes)]


def _group(group: WeightGroup) -> list[str]:
    shape = " x ".join(map(str, group.shape)) or "()"
    return [f"{group.kind} {group.module}", str(group.count), shape, elide(group.example, 36)]


def _unmeasured(groups: Iterable[WeightGroup]) -> list[str]:
    """A line per reason: how many weights, and one of them."""
    by_reason = grouped((group.reason, group) for group in groups if group.reason is not None)
    return _prose(
        f"{sum(group.count for group in found)}, such as {found[0].example}: {reason}"
        for reason, found in by_reason.items()
    )


def _frozen(found: Inspection) -> list[str]:
    if found.frozen is None:
        return ["headers do not say what never changed: that needs weights"]
    if not found.frozen:
        return ["none: every measured weight changed"] if found.metrics else []
    return [f"{plural(len(found.frozen), 'weight')} never changed, such as {found.frozen[0]}"]


def _cost(found: Inspection) -> list[str]:
    cost = found.cost
    if cost is None:
        return []
    return [
        f"{cost.weights} attention and MLP matrices x {plural(len(found.checkpoints), 'checkpoint')}, "
        f"{size(cost.bytes_read) or '0 B'} to read, {cost.gflop:,.3g} GFLOP for every metric: about "
        f"{duration(3600 * cost.core_hours)} on one core ({CORE_GFLOPS:.0f} GFLOP/s), less for fewer metrics"
    ]


def _measured_title(found: Inspection) -> str:
    if found.base is None:
        return "Weights of the run, not matched"
    return "Weights" if found.kind == "record" else "Weights matched with W0"


def _dtypes(held: Held) -> str:
    total = sum(held.dtypes.values())
    if len(held.dtypes) == 1:
        return next(iter(held.dtypes))
    return ", ".join(f"{dtype} {count / total:.0%}" for dtype, count in held.dtypes.items())


def size(count: int) -> str:
    """Bytes with three digits; empty where unknown."""
    left, units = float(count), iter(("B", "kB", "MB", "GB"))
    for unit in units:
        if left < 1000:
            return f"{left:.3g} {unit}" if count else ""
        left /= 1000
    return f"{left:.3g} TB"


def _section(title: str, content: Sequence[str]) -> list[str]:
    return ["", title, *content] if content else []


def _table(rows: Sequence[Sequence[str]], *, right: Container[int]) -> list[str]:
    return [INDENT + line for line in aligned(rows, right=right)]


def _prose(sentences: Iterable[str], *, hang: int = 2) -> list[str]:
    wrapped = Screen(WIDTH).wrapped
    return [INDENT + line for text in sentences for line in wrapped(text, indent=len(INDENT), hang=hang)]
