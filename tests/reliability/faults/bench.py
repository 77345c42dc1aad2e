"""A run, a suite that it passes, and trials: a session that something happens to, then one that it does not."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from geomcheck.errors import RecordError
from geomcheck.record import read_record
from tests.reliability.faults.library import Fault, Kind
from tests.reliability.faults.sessions import Ended, Sessions
from tests.runs import DOWN, K, Q, Tensors, age, moved, write_run

SHAPES = {Q: (256, 256), K: (24, 16), DOWN: (16, 24)}

SUITE = """
geomcheck: 1
name: steady
applies_to: ["*"]
weights: all
expect:
  - {id: support, metric: update_support, above: 1%, at: last}
  - {id: rank, metric: stable_rank, above: 1.01}
  - {id: rotation, metric: principal_angle, k: 4, below: 80 deg}
  - {id: drift, metric: spectral_shift, below: 50%}
  - {id: settled, metric: subspace_alignment, k: 2, at: first, below: 99%}
"""

OTHER_SUITE = SUITE.replace("name: steady", "name: other").replace("k: 4", "k: 6")

LETHAL = (Kind.KILL, Kind.TORN)


def weights(seed: int = 0) -> Tensors:
    """One matrix that takes the fast routes and leaves a factorization in the cache, and two small ones."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in SHAPES.items()}


@dataclass(frozen=True)
class Place:
    """Where a trial keeps its cache and its outputs."""

    directory: Path

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    @property
    def outputs(self) -> Path:
        return self.directory / "out"

    def arguments(self) -> list[str]:
        """The options that name them."""
        named = {"json": "verdicts.json", "record": "record.parquet", "report": "report.html"}
        outputs = [f"--geom-{option}={self.outputs / name}" for option, name in named.items()]
        return [f"--geom-cache={self.cache}", *outputs]


Contents = dict[str, Any]
"""What the final names among the outputs hold, by name; a text that starts with `DAMAGED` where that is not whole."""

DAMAGED = "damaged: "


class Bench:
    """Trials on one run.

    Args:
        directory: for everything.
        sessions: who starts sessions.
    """

    def __init__(self, directory: Path, sessions: Sessions) -> None:
        self.directory = directory
        self.sessions = sessions
        self.run = directory / "ckpts" / "opd"
        base = weights()
        age(write_run(self.run, base, {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20)}))
        (directory / "pytest.ini").write_text("[pytest]\n")
        for name, text in (("steady", SUITE), ("other", OTHER_SUITE)):
            suite = directory / "suites" / f"{name}.yaml"
            suite.parent.mkdir(exist_ok=True)
            suite.write_text(text)
        self._numbers = itertools.count()
        self.seeds = {"cold": None, "warm": self._seed("steady"), "partly warm": self._seed("other")}
        self.clean = self._clean()

    def place(self, cache: str = "cold") -> Place:
        """A place of its own, with a cache that is `cold`, `warm` or `partly warm`."""
        place = Place(self.directory / f"trial-{next(self._numbers)}")
        place.outputs.mkdir(parents=True)
        seed = self.seeds[cache]
        if seed is not None:
            shutil.copytree(seed.cache, place.cache)
        return place

    def session(self, place: Place, *, suite: str = "steady", run: str = "opd", **how: Any) -> Ended:
        """One session of the gate."""
        return self.sessions.run(self.arguments(place, suite, run), self.directory, **how)

    def arguments(self, place: Place, suite: str = "steady", run: str = "opd") -> list[str]:
        """A session's command line."""
        plugins = ["geomcheck.plugin", *(f"no:{name}" for name in ("cacheprovider", "unraisableexception"))]
        loaded = [part for plugin in plugins for part in ("-p", plugin)]
        options = ["--geom-workers=2", f"--geom-suite=suites/{suite}.yaml"]
        return [f"--geom-run=ckpts/{run}", *loaded, *options, *place.arguments()]

    def _seed(self, suite: str) -> Place:
        place = Place(self.directory / f"seed-{suite}")
        ended = self.session(place, suite=suite)
        assert ended.status == 0, ended.output
        return place

    def _clean(self) -> Contents:
        place = self.place()
        ended = self.session(place)
        assert ended.status == 0, ended.output
        return contents(place)

    def another_run(self, name: str, seed: int = 7) -> Path:
        """A run from the same W0 that went elsewhere."""
        path = self.run.with_name(name)
        base = weights()
        return age(write_run(path, base, {step: moved(base, 2e-3 * step, seed=seed + step) for step in (10, 20)}))

    def expected(self, run: str) -> Contents:
        """What a clean session says of the run as it is now."""
        place = self.place()
        ended = self.session(place, run=run)
        assert ended.status == 0, ended.output
        return contents(place)

    def tried(self, fault: Fault | None, place: Place, **how: Any) -> Tried:
        """A session with `fault`, judged, and the one after it."""
        before = contents(place)
        ended = self.session(place, fault=fault, **how)
        problems = [*self.problems_of(ended, place, before, fault), *cache_problems(place), *self.afterwards(place)]
        shutil.rmtree(place.directory, ignore_errors=True)
        return Tried(ended, tuple(problems))

    def afterwards(self, place: Place, *, run: str = "opd", expected: Contents | None = None) -> list[str]:
        """What is wrong with the next session."""
        again = self.session(place, run=run)
        found = [] if again.status == 0 else [f"the next session ended with {again.status}: {again.output[-2000:]}"]
        different = differences(contents(place), expected or self.clean)
        return found + [f"the next session: {problem}" for problem in different]

    def problems_of(self, ended: Ended, place: Place, before: Contents, fault: Fault | None) -> list[str]:
        """What is wrong with a session that something happened to."""
        after, found = contents(place), []
        if ended.status is None:
            found.append("hung")
        if "INTERNALERROR" in ended.output:
            found.append(f"crashed: {ended.output[-3000:]}")
        if ended.status == 0:
            found += [f"passed, but {problem}" for problem in differences(after, self.clean)]
        refused = ended.status == 1 and says_no(after.get("verdicts.json"))
        for name, content in after.items():
            damaged = isinstance(content, str) and content.startswith(DAMAGED)
            if damaged or (content not in (self.clean[name], before.get(name)) and not refused):
                found.append(f"{name} is neither whole nor the earlier one: {str(content)[:300]}")
        if fault is not None and ended.injected:
            if fault.kind in LETHAL and ended.status != -9:
                found.append(f"was not killed: {ended.status}")
            of_cache = Path(fault.directory).is_relative_to(place.cache)
            if of_cache and fault.kind not in (*LETHAL, Kind.INTERRUPT) and ended.status != 0:
                found.append(f"a fault of the cache alone ended it with {ended.status}: {ended.output[-2000:]}")
        return found


@dataclass(frozen=True)
class Tried:
    """How a trial ended, and everything that is wrong with it."""

    ended: Ended
    problems: Sequence[str]


def differences(found: Contents, expected: Contents) -> list[str]:
    """Which outputs are not as expected."""
    return [f"{name} differs from a clean run's" for name in expected if found.get(name) != expected[name]]


def says_no(verdicts: Any) -> bool:
    """Whether these are whole verdicts by which nobody would take the run for one that passed."""
    return isinstance(verdicts, dict) and verdicts["summary"]["error"] > 0


def contents(place: Place) -> Contents:
    """What the outputs hold under their final names."""
    found: Contents = {}
    for path in place.outputs.glob("[!.]*"):
        try:
            found[path.name] = _content(path)
        except (ValueError, RecordError) as error:
            found[path.name] = f"{DAMAGED}{error}"
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".parquet":
        return [repr(row) for row in read_record(path).rows()]
    text = re.sub(r"<dd>What answered, .*", "", path.read_text())  # of a shared cache it names other questions too
    return text if text.rstrip().endswith("</html>") else f"{DAMAGED}{text[-100:]}"


def cache_problems(place: Place) -> list[str]:
    """What is wrong with a cache that nobody is using."""
    found = []
    store = place.cache / "measurements.sqlite"
    if store.is_file() and store.stat().st_size:
        try:
            with closing(sqlite3.connect(store)) as connection:
                (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        except sqlite3.Error as error:
            verdict = str(error)
        if verdict != "ok":
            found.append(f"the cache's table: {verdict}")
    for path in place.cache.glob("*/[!.]*"):
        try:
            if path.suffix == ".parquet":
                read_record(path)
            else:
                with safe_open(path, framework="pt") as file:
                    assert file.metadata()
        except (RecordError, SafetensorError, OSError) as error:
            found.append(f"{path.name} in the cache is not whole: {error}")
    return found
