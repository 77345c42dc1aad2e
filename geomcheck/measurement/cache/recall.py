"""What a cache knows of one run: answers by the content of weights, and contents by the identity of files."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geomcheck.diagnostics import Metric, Registry
from geomcheck.errors import RecordError, RunError, Undefined
from geomcheck.measurement.cache.cache import Cache
from geomcheck.measurement.cache.entries import decoded_digests, decoded_entry
from geomcheck.measurement.cache.identity import code, identity
from geomcheck.measurement.measured import REFERENCE_W0, W0, Measured, Place
from geomcheck.measurement.task import DigestWeight, MeasureWeight, Sources
from geomcheck.record.parquet import SUFFIX, read_record, write_record
from geomcheck.record.record import Record
from geomcheck.record.request import Request
from geomcheck.record.routes import Route

REMEMBER_SECONDS = 30.0
"""How often it is noted which contents lie in which files."""

BYTES_PER_WEIGHT = 4096
"""What a weight takes in a record, roughly."""


class Recall:
    """The memory of one measurement.

    An answer is kept under the digests of every tensor that it may depend on: of W0 and W_t; for a metric that
    looks across the run, of all checkpoints with their steps; for one against a reference, of that too. With the
    metric's version, definition and parameters, the kind of device and the code of geomcheck that makes the key:
    no path, no time. Which contents lie in a file is remembered as long as its identity stays the same.

    Args:
        cache: where it is kept.
        sources: the opened files.
        metrics: what requests name.
        device: kind of device that measures (``cpu``, ``cuda``).
    """

    def __init__(self, cache: Cache, sources: Sources, metrics: Registry, device: str) -> None:
        self._cache = cache
        self._store = cache.store
        self._whole: str | None = None
        self._sources = sources
        self._metrics = metrics
        self._device = device
        self._started = time.time_ns()
        self._remembered = -math.inf
        self._identities = self._identify() if self._store.works else {}
        found = self._store.get(self._identities.values())
        self._digests = {place: decoded_digests(found.get(key)) for place, key in self._identities.items()}
        self._digests |= {place: {} for place in sources.places() if place not in self._identities}
        self._known = {place: frozenset(digests) for place, digests in self._digests.items()}

    @property
    def digests(self) -> Mapping[Place, Mapping[str, str]]:
        """What is known of the contents of weights, by place and name. What was digested is finite."""
        return self._digests

    def whole(self, record: Record, tasks: Sequence[MeasureWeight]) -> bool:
        """Take the figures of exactly these tasks on exactly these files into `record`; False where there are none."""
        self._whole = self._whole_key(tasks)
        path = self._cache.records.find(self._whole) if self._whole else None
        if path is None:
            return False
        try:
            record.take_figures(read_record(path))
        except RecordError:
            self._cache.records.discard(path)
            return False
        return True

    def keep_whole(self, record: Record) -> None:
        """Keep a record that is complete, if the files stood still all the while."""
        if self._whole and self._identify() == self._identities:
            size = BYTES_PER_WEIGHT * len(record.weights)
            self._cache.records.keep(self._whole, lambda path: write_record(record, path), size=size)

    def _whole_key(self, tasks: Sequence[MeasureWeight]) -> str | None:
        if not self._identities or self._identities.keys() != self._sources.places().keys():
            return None
        plans = {task.wanted for task in tasks}
        wanted = {asked: _key([sorted(map(self._label, requests)) for requests in asked]) for asked in plans}
        plan = hashlib.blake2b(digest_size=16)
        for task in tasks:
            plan.update(f"{task.name}={wanted[task.wanted].hex()}\n".encode())
        return f"{_key('record', sorted(self._identities.items()), tasks[0].points, plan.digest()).hex()}{SUFFIX}"

    def probe(self, tasks: Sequence[MeasureWeight]) -> list[DigestWeight]:
        """What to digest before measuring, because files that are new here may hold weights that are not.

        The smallest weight is digested to find out; an unfamiliar checkpoint is digested while it is measured.
        """
        strange = [place for place, digests in self._digests.items() if not digests]
        if not strange or not tasks or not self._store.works:
            return []
        smallest = min(tasks, key=lambda task: (task.numel, task.name))
        own = [place for place in strange if place[0] != "reference"]
        try:
            first = DigestWeight(smallest.name, smallest.numel, own)(self._sources)
        except RunError:
            return []  # measuring says what is wrong
        self.learn(smallest.name, first)
        at_hand = {place: digests.get(smallest.name) for place, digests in self._digests.items()}
        keys = {place: _key("local", at_hand[W0], at_hand[place]) for place in at_hand if place[0] == "run"}
        kept = self._store.get(keys.values())
        if not kept:
            return []
        familiar = [p for p in strange if p[0] != "run" or keys[p] in kept]
        stored, known = self._sources.stored, self._digests
        missing = [(t, [p for p in familiar if t.name in stored[p] and t.name not in known[p]]) for t in tasks]
        return [DigestWeight(task.name, task.numel, places) for task, places in missing if places]

    def knows(self, name: str, place: Place) -> bool:
        """Whether the contents of a weight at a place are known."""
        return name in self._digests[place]

    def learn(self, name: str, measured: Measured) -> None:
        """Note the contents of a weight.

        Raises:
            RunError: they are not what an earlier session read from files that have not changed since.
        """
        for place, digest in measured.digests.items():
            if self._digests[place].setdefault(name, digest) != digest:
                where = self._sources.places()[place].path
                raise RunError(
                    f"{where}: {name} has changed, though its file has the size, inode and times of before; "
                    "measure with --geom-cache=off"
                )

    def look_up(self, tasks: Iterable[MeasureWeight]) -> dict[str, Measured]:
        """What is known of each task's weight: answers to some of what it wants, or to all."""
        keys = {task.name: self._keys(task) for task in tasks}
        found = self._store.get({key for by_index in keys.values() for scopes in by_index for key in scopes.values()})
        entries = {key: decoded_entry(value) for key, value in found.items()}
        labels: dict[Request, str] = {}
        recalled = {}
        for task in tasks:
            measured = recalled[task.name] = Measured(digests=self._contents(task.name))
            for index, scopes in enumerate(keys[task.name]):
                for request in task.wanted[index]:
                    entry = entries.get(scopes.get(_scope(self._metrics[request.metric]), b""), {})
                    label = labels.get(request) or labels.setdefault(request, self._label(request))
                    if label in entry.get("answers", {}):
                        measured.answers[index, request] = entry["answers"][label]
                local = entries.get(scopes.get("local", b""), {})
                measured.routes[index] = {name: Route(*route) for name, route in local.get("routes", {}).items()}
        return recalled

    def keep(self, task: MeasureWeight, measured: Measured) -> None:
        """Keep what was measured."""
        self.learn(task.name, measured)
        keys = self._keys(task)
        entries: dict[bytes, dict[str, Any]] = {}
        kept = self._store.get({key for scopes in keys for key in scopes.values()})
        for (index, request), answer in measured.answers.items():
            key = keys[index].get(_scope(self._metrics[request.metric]))
            if key is not None:
                entry = entries.setdefault(key, decoded_entry(kept.get(key)))
                entry.setdefault("answers", {})[self._label(request)] = answer
        for index, routes in measured.routes.items():
            entry = entries.setdefault(keys[index]["local"], decoded_entry(kept.get(keys[index]["local"])))
            known = {name: [route.how, route.certificate] for name, route in routes.items()}
            entry["routes"] = entry.get("routes", {}) | known
        self._store.put({key: json.dumps(entry).encode() for key, entry in entries.items()})
        if time.monotonic() - self._remembered >= REMEMBER_SECONDS:
            self._remember()

    def close(self) -> None:
        """Write what is left."""
        self._remember()
        self._store.flush()

    def _remember(self) -> None:
        """Note the contents of the files that stood still until now, so that a session after a kill goes on."""
        self._remembered = time.monotonic()
        now = self._identify() if self._store.works else {}
        for place, digests in self._digests.items():
            still = place in now and now[place] == self._identities.get(place)
            if still and digests.keys() != self._known[place]:
                kept = decoded_digests(self._store.get([now[place]]).get(now[place]))
                self._store.put({now[place]: json.dumps(kept | digests).encode()})
                self._known[place] = frozenset(digests)

    def _identify(self) -> dict[Place, bytes]:
        """Under which key the contents of each source are kept. An adapter's weights are those of W0 too."""
        known = {p: identity(source, settled_at=self._started) for p, source in self._sources.places().items()}
        base = known[W0]
        return {p: _key("contents", base, own) for p, own in known.items() if base is not None and own is not None}

    def _contents(self, name: str) -> dict[Place, str]:
        return {place: digests[name] for place, digests in self._digests.items() if name in digests}

    def _keys(self, task: MeasureWeight) -> list[dict[str, bytes]]:
        """By checkpoint, then by scope: under which key its answers are kept, where the contents are known."""
        contents = self._contents(task.name)
        along = [contents.get(("run", index)) for index in range(len(task.points))]
        steps = [(point.step, point.progress) for point in task.points]
        keys: list[dict[str, bytes]] = []
        for index, point in enumerate(task.points):
            scopes: dict[str, bytes] = {}
            if W0 in contents and along[index] is not None:
                scopes["local"] = _key("local", contents[W0], along[index])
                if None not in along:
                    scopes["across"] = _key("across", contents[W0], along, steps, index)
                other = self._matched(contents, point.progress)
                start = contents.get(REFERENCE_W0 if REFERENCE_W0 in self._digests else W0)
                if other is not None and start is not None:
                    scopes |= {f"{scope} reference": _key(key.hex(), other, start) for scope, key in scopes.items()}
            keys.append(scopes)
        return keys

    def _matched(self, contents: Mapping[Place, str], progress: float) -> str | None:
        """Digest of the reference's weight at the same progress, where there is one and it is known."""
        try:
            return contents.get(("reference", self._sources.match(progress)))
        except Undefined:
            return None

    def _label(self, request: Request) -> str:
        """What is asked, and how it is answered."""
        metric = self._metrics[request.metric]
        return _key(metric.name, metric.version, metric.definition, request.params, self._device).hex()


def _scope(metric: Metric) -> str:
    """What the figures of a metric depend on."""
    return ("across" if metric.across else "local") + (" reference" if metric.against_reference else "")


def _key(*parts: object) -> bytes:
    return hashlib.blake2b(repr((code(), *parts)).encode(), digest_size=16).digest()
