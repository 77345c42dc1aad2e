"""Values that went through a coarser format than the one they are stored in."""

from __future__ import annotations

from collections.abc import Iterator

from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind

BITS = {127: 8, 7: 4}


def _find_rounded(case: Case) -> Iterator[Finding]:
    formats = {
        (name, index): seen.rounded
        for name, look in case.examined.items()
        for index, seen in enumerate(look.seen)
        if seen.rounded and not seen.equal and seen.rounded != look.rounded
    }
    for at, names in case.grouped(formats):
        told = sorted({formats[name, index] for name in names for index in at if (name, index) in formats})
        yield ROUNDED.finding(
            case,
            {(name, index) for name in names for index in at},
            f"{case.named(names).verb('holds', 'hold')} nothing but {' or '.join(told)} numbers {case.when(at)}, in "
            "files of a finer format",
            evidence=(f"{len(names)} of {len(case.examined)} tensors that were looked at, in every entry",),
        )


def _find_quantized(case: Case) -> Iterator[Finding]:
    levels = {
        (name, index): seen.levels
        for name, look in case.examined.items()
        for index, seen in enumerate(look.seen)
        if seen.levels and not look.levels
    }
    for at, names in case.grouped(levels):
        count = max(levels[cell] for cell in levels if cell[0] in names)
        yield QUANTIZED.finding(
            case,
            {(name, index) for name in names for index in at},
            f"{case.named(names)} went through int{BITS[count]} {case.when(at)}: each row has at most {2 * count + 1} "
            "levels, evenly spaced",
            evidence=(f"{len(names)} of {len(case.examined)} tensors that were looked at, in every row",),
        )


ROUNDED = Kind(
    name="rounded",
    group="A",
    grade="fact",
    title="numbers of a coarser format",
    about="Every entry is a number of bf16 or fp16, though the file could hold finer ones: what was trained was "
    "rounded, and small updates with it.",
    looks_at=("weights",),
    causes=("saved in the coarser format and converted", "trained without a finer master copy"),
    next_step="Keep the master weights in fp32, and save those, or compare updates with the spacing of the format.",
    source="https://github.com/NVIDIA-NeMo/RL/issues/3696",
    find=_find_rounded,
)

QUANTIZED = Kind(
    name="quantized",
    group="A",
    grade="fact",
    title="a round trip through integers",
    about="Each row has only as many levels as an integer format gives, and W0 has more.",
    looks_at=("weights",),
    causes=("an adapter was merged into a quantized base and dequantized", "a quantized export was converted back"),
    next_step="Merge into the base in full precision.",
    find=_find_quantized,
)

KINDS = (QUANTIZED, ROUNDED)
