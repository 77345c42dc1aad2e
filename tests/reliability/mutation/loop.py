"""A pytest plugin: collect once, then run the collected tests on every mutant, each in a fork of this process.

Cosmic Ray starts a Python for each mutant, which for us means importing torch. Here a mutant's code is put into the
functions that are imported already. What acts only while a module is imported is left to `fresh.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType
from typing import NoReturn

import hypothesis
import pytest

from tests.reliability.mutation.mutants import Mutant, draw, mutants
from tests.reliability.mutation.record import stored
from tests.reliability.mutation.swap import Codes, DefinitionTimeError, differing, forget, functions, living, swap
from tests.reliability.mutation.targets import Target, targets

MODULE, RESULTS, AGAIN = "GEOMCHECK_MUTATED", "GEOMCHECK_MUTATION_RESULTS", "GEOMCHECK_MUTATION_AGAIN"
SURVIVED, KILLED, AT_DEFINITION, BROKEN = 0, 1, 3, 4
SECONDS = 120.0
"""A mutant that needs this much more than the clean tests is caught: it hangs."""


@dataclass(frozen=True)
class _Ended:
    status: int
    by: int
    seconds: float


@dataclass(frozen=True)
class _Change:
    path: str
    codes: Codes
    alive: dict[tuple[str, int], list[FunctionType]]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of the tests, the tests for each mutant; before and after them, the tests without one."""
    (target,) = (target for target in targets() if target.path == os.environ[MODULE])
    place = str(Path(target.path).resolve())
    source = Path(place).read_text(encoding="utf-8")
    alive = living(place)
    items = list(session.items)
    _steady()
    same = {key: code for key, code in functions(source, place).items() if key in alive}
    seconds = _clean(items, _Change(place, same, alive))
    with Path(os.environ[RESULTS]).open("a", encoding="utf-8") as results:
        for mutant in _chosen(target, source):
            try:
                change = _Change(place, differing(source, mutant.source, place), alive)
                ended = _forked(items, change, seconds + SECONDS)
            except DefinitionTimeError:
                ended = _Ended(AT_DEFINITION, 0, 0.0)
            if ended.status == BROKEN:
                raise pytest.UsageError(f"{target.path}:{mutant.line}: {mutant.after}: no result")
            killer = items[ended.by].nodeid if ended.status == KILLED else ""
            results.write(json.dumps(_line(target.path, mutant, ended, killer)) + "\n")
            results.flush()
            if killer:
                items.insert(0, items.pop(ended.by))
    _clean(items, _Change(place, same, alive))
    return True


def _chosen(target: Target, source: str) -> list[Mutant]:
    drawn = draw(mutants(source, target.only), target.draw, target.path)
    if not os.environ.get(AGAIN):
        return drawn
    survivors = [tuple(survivor.values()) for survivor in stored()["modules"][target.path]["survivors"]]
    return [mutant for mutant in drawn if mutant.key in survivors]


def _clean(items: Sequence[pytest.Item], change: _Change) -> float:
    """Seconds that the tests need without a mutant, run in the same way. Raises UsageError where they fail."""
    ended = _forked(items, change, 10 * SECONDS)
    if ended.status != SURVIVED:
        raise pytest.UsageError(f"status {ended.status} without a mutant, at {items[ended.by].nodeid}")
    return ended.seconds


def _line(path: str, mutant: Mutant, ended: _Ended, killer: str) -> dict[str, object]:
    outcome = {SURVIVED: "survived", AT_DEFINITION: "at definition"}.get(ended.status, "killed")
    facts = {key: value for key, value in asdict(mutant).items() if key != "source" or outcome == "at definition"}
    return {"module": path, **facts, "outcome": outcome, "by": killer, "seconds": round(ended.seconds, 2)}


def _steady() -> None:
    """Hypothesis neither shrinks a failure nor complains that a busy machine is slow."""
    hypothesis.settings.register_profile(
        "mutation",
        hypothesis.settings(),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
        deadline=None,
    )
    hypothesis.settings.load_profile("mutation")


def _forked(items: Sequence[pytest.Item], change: _Change, limit: float) -> _Ended:
    """Run the items in a fork, up to the first failure, and say which it was."""
    started = time.monotonic()
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        _run(items, change, writer)
    os.close(writer)
    status = _wait(child, started + limit)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    return _Ended(status, int(told or b"0"), time.monotonic() - started)


def _wait(child: int, until: float) -> int:
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return KILLED


def _run(items: Sequence[pytest.Item], change: _Change, writer: int) -> NoReturn:
    """In the fork. Nothing may leave it, or the tests' process would go on twice."""
    status = BROKEN
    try:
        items[0].config.pluginmanager.unregister(name="terminalreporter")
        swap(change.codes, change.alive)
        forget(change.path)
        status = _tests(items, writer)
    except DefinitionTimeError:
        status = AT_DEFINITION
    finally:
        os._exit(status)


def _tests(items: Sequence[pytest.Item], writer: int) -> int:
    for index, item in enumerate(items):
        following = items[index + 1] if index + 1 < len(items) else None
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            failed = bool(item.session.testsfailed)
        except BaseException:  # a mutant may raise anything, anywhere
            failed = True
        if failed:
            os.write(writer, str(index).encode())
            return KILLED
    return SURVIVED
