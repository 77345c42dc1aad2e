"""Some of the faults that ``python -m tests.reliability`` injects, in seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice

import pytest

from tests.reliability.faults.library import Calls, Kind, compiler
from tests.reliability.faults.situations import (
    Situation,
    clocks_that_jump,
    files_replaced_while_measured,
    files_that_may_not_grow,
    read_only_caches,
    sessions_at_once,
)
from tests.reliability.faults.sweeps import Sweep, swept

if not sys.platform.startswith("linux") or compiler() is None:
    pytest.skip("faults are injected on Linux, with a C compiler", allow_module_level=True)

from tests.reliability.faults.bench import DAMAGED, Bench, cache_problems, contents
from tests.reliability.faults.sessions import Sessions


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("faults")
    with Sessions(directory / "sessions") as sessions:
        yield Bench(directory, sessions)


FEW = [
    Sweep(Kind.KILL, eager=True),
    Sweep(Kind.TORN, cache="partly warm"),
    Sweep(Kind.FULL, where="cache"),
    Sweep(Kind.FULL, where="outputs"),
    Sweep(Kind.EIO_ONCE, where="cache", cache="warm", calls=Calls.READS),
    Sweep(Kind.EIO_ONCE, where="run", calls=Calls.READS),
    Sweep(Kind.INTERRUPT),
]


@pytest.mark.parametrize("sweep", FEW, ids=lambda sweep: sweep.what)
def test_after_a_fault_the_next_session_is_as_after_none(sweep: Sweep, bench: Bench) -> None:
    injected = list(swept(sweep, bench, at_most=2))
    assert injected
    assert {fault.call: fault.problems for fault in injected if fault.problems} == {}


@pytest.mark.parametrize(
    "situation",
    [sessions_at_once, files_that_may_not_grow, read_only_caches, files_replaced_while_measured, clocks_that_jump],
)
def test_what_happens_to_a_session_does_not_reach_the_next(situation: Situation, bench: Bench) -> None:
    (problems,) = islice(situation(bench), 1)
    assert problems == []


def test_damage_is_seen(bench: Bench) -> None:
    """The trials above would notice half an output, and a cache that is not whole."""
    place = bench.place("warm")
    assert bench.session(place).status == 0
    assert contents(place) == bench.clean
    assert cache_problems(place) == []
    for path in [*place.outputs.iterdir(), *place.cache.rglob("*.*")]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert all(str(content).startswith(DAMAGED) for content in contents(place).values())
    assert len(cache_problems(place)) == 3
