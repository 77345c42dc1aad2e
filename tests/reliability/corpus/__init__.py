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
from tests.reliability.corpus.case import Case, Outcome
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
    """Run the whole corpus in this process: one row per family."""
    del options
    outcomes: dict[str, Counter[Outcome]] = defaultdict(Counter)
    wrong: Counter[str] = Counter()
    started, slowest = time.process_time(), 0.0
    for case in cases():
        begun = time.process_time()
        with tempfile.TemporaryDirectory(prefix="geomcheck-case-") as place:
            found = list(complaints(case, run_case(case, Path(place) / "project")))
        slowest = max(slowest, time.process_time() - begun)
        outcomes[case.family][case.outcome] += 1
        wrong[case.family] += bool(found)
    rows = [
        Row(family, str(counts.total()), _in_words(counts), wrong[family])
        for family, counts in sorted(outcomes.items())
    ]
    total: Counter[Outcome] = sum(outcomes.values(), Counter())
    seconds = f"{time.process_time() - started:.0f} s of processor time, {slowest:.1f} s the slowest"
    return Section("Bad inputs", rows, f"{total.total()} inputs ({seconds}): {_in_words(total)}")


def _in_words(counts: Counter[Outcome]) -> str:
    return ", ".join(f"{count} {outcome.name.lower().replace('_', ' ')}" for outcome, count in counts.most_common())
