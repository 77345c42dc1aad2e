"""Bad runs, records and suites, made of good ones, each with what must come of it."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.reliability.corpus import (
    adapters,
    configs,
    dcp,
    indices,
    moving,
    names,
    pickles,
    places,
    ranks,
    records,
    safetensors_files,
    steps,
    suites,
    values,
)
from tests.reliability.corpus.case import Case
from tests.reliability.corpus.gate import complaints, run_case
from tests.reliability.options import Options
from tests.reliability.table import Row, Section

FAMILIES = (
    safetensors_files,
    indices,
    pickles,
    ranks,
    dcp,
    adapters,
    records,
    suites,
    configs,
    values,
    names,
    steps,
    places,
    moving,
)


def cases() -> Iterator[Case]:
    """Every case of the corpus."""
    return chain.from_iterable(family.cases() for family in FAMILIES)


def section(options: Options) -> Section:
    """Run the whole corpus in this process."""
    del options
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    wrong: list[str] = []
    started, slowest = time.monotonic(), 0.0
    for case in cases():
        with tempfile.TemporaryDirectory(prefix="geomcheck-case-") as place:
            begun = time.monotonic()
            found = list(complaints(case, run_case(case, Path(place) / "project")))
            slowest = max(slowest, time.monotonic() - begun)
        family = case.id.split("/", maxsplit=1)[0]
        outcomes[family][case.outcome.value] += 1
        if found:
            wrong.append(case.id)
    rows = [
        Row(
            f"{family}: {outcome}",
            str(count),
            "as expected",
            sum(w.startswith(f"{family}/") for w in wrong) if not index else 0,
        )
        for family, counts in outcomes.items()
        for index, (outcome, count) in enumerate(counts.most_common())
    ]
    total = sum(counts.total() for counts in outcomes.values())
    summary = f"{total} inputs in {time.monotonic() - started:.0f} s, the slowest {slowest:.1f} s"
    return Section("Corpus of bad inputs", rows, summary + (f"; NOT as expected: {', '.join(wrong)}" if wrong else ""))
