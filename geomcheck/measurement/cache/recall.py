"""What a cache knows of one run: figures by the content of weights, and contents by the identity of files."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from geomcheck.diagnostics import Registry
from geomcheck.diagnostics.sketch import BYTES, unpacked
from geomcheck.errors import RecordError, RunError, Undefined
from geomcheck.measurement.cache.cache import Cache
from geomcheck.measurement.cache.identity import code, identity
from geomcheck.measurement.measured import REFERENCE_W0, W0, Answer, Measured, Snapshot
from geomcheck.measurement.task import DigestWeight, MeasureWeight, Sources
from geomcheck.record import Record, Request, read_record, write_record
from geomcheck.record.column import Table
from geomcheck.record.digests import PATTERN
from geomcheck.record.limits import TERMS, limits
from geomcheck.record.parquet import SUFFIX
from geomcheck.record.routes import RouteTaken

REMEMBER_SECONDS = 30.0
"""How often the contents of files are written down while measuring."""

BYTES_PER_WEIGHT = 4096
"""Rough size of a weight's figures in a record."""

FIGURES_BYTES = 256 * 2**10
"""Most that figures of one weight at one checkpoint take in the store; a usual metric takes some 100 bytes."""

CONTENT_BYTES, SHORT = 256, 1000
"""Most bytes of a weight's name with its digest, by and large; most characters of a reason, or of a route."""

NEVER = (math.inf, -math.inf)

_DIGEST = re.compile(rf"{PATTERN}{{32}}")


class Recall:
    """The memory of one measurement.

    An answer is stored under the digests of every tensor that it may depend on: W0 and W_t; for a metric that looks
    across the run, all checkpoints with their steps; for one against a reference, that too. With the metric's version,
    definition and parameters, the kind of device and the code of geomcheck, that makes the key: no path, no time.
    Which contents lie in a file is remembered as long as its identity stays the same.

    Args:
        device: kind of device that measures (``cpu``, ``cuda``).

    Attributes:
        digests: the known digests of weights, by snapshot and name. What was digested is finite.
    """

    def __init__(self, cache: Cache, sources: Sources, metrics: Registry, device: str) -> None:
        self._store = cache.store
        self._records = cache.records
        self._whole: str | None = None
        self._sources = sources
        self._metrics = metrics
        self._device = device
        self._started = time.time_ns()
        self._remembered = -math.inf
        self._identities = self._identify()
        weights = max(map(len, sources.stored.values()), default=0)
        self._contents_bytes = SHORT + CONTENT_BYTES * weights
        found = self._store.get(self._identities.values(), each=self._contents_bytes)
        keys = {snapshot: self._identities.get(snapshot, b"") for snapshot in sources.snapshots()}
        self.digests = {snapshot: decoded_digests(found.get(key)) for snapshot, key in keys.items()}
        self._known = {snapshot: frozenset(digests) for snapshot, digests in self.digests.items()}
        self._labels: dict[Request, str] = {}
        self._limits: dict[tuple[Request, tuple[int, ...]], Mapping[str, tuple[float, float]]] = {}

    def whole(self, record: Record, tasks: Sequence[MeasureWeight]) -> bool:
        """Take the figures of exactly these tasks on exactly these files into `record`; False where there are none."""
        self._whole = self._whole_key(tasks)
        path = self._records.find(self._whole) if self._whole else None
        own = [digests for snapshot, digests in self.digests.items() if snapshot[0] != "reference"]
        names = {task.name for task in tasks}
        if path is None or not all(names <= digests.keys() for digests in own):
            return False
        try:
            found = read_record(path)
            self._require_exactly(found, tasks)
            record.take_figures(found)
        except RecordError:
            self._records.discard(path.name)
            return False
        return True

    def _require_exactly(self, record: Record, tasks: Sequence[MeasureWeight]) -> None:
        """Raise RecordError where a record does not hold what `tasks` ask for, or holds more."""
        steps = [point.step for point in tasks[0].points]
        alike: dict[tuple[Set[Request], ...], list[str]] = {}
        for task in tasks:
            alike.setdefault(task.requests, []).append(task.name)
        left = {key: len(column.values) for key, column in record.columns.items()}
        for requests, names in alike.items():
            for request in frozenset().union(*requests):
                at = [index for index, asked in enumerate(requests) if request in asked]
                needed = self._metrics[request.metric].stats
                for stat in {*needed, *(stat for known, stat in left if known == request)}:
                    if stat not in needed and not stat.startswith(TERMS):
                        raise RecordError(f"{request.metric} has no {stat}")
                    column = record.column(request, stat)
                    there = Table.of(column, steps, names).there[at]
                    if stat in needed and not there.all():
                        raise RecordError(f"{request.metric} ({stat}) is not there for every weight")
                    left[request, stat] -= int(there.sum())
        if any(left.values()):
            raise RecordError("it holds figures that were not asked for")

    def keep_whole(self, record: Record) -> None:
        """Store a complete record, if no file has changed in the meantime."""
        if self._whole and self._identify() == self._identities:
            size = BYTES_PER_WEIGHT * len(record.weights)
            self._records.keep(self._whole, lambda path: write_record(record, path), size=size)

    def _whole_key(self, tasks: Sequence[MeasureWeight]) -> str | None:
        if self._identities.keys() != self.digests.keys():
            return None
        labels = {
            requests: _key([sorted(map(self._label, at_point)) for at_point in requests]).hex()
            for requests in {task.requests for task in tasks}
        }
        named = hashlib.blake2b(digest_size=16)
        for task in tasks:
            named.update(f"{task.name}={labels[task.requests]}\n".encode())
        return f"{_key('record', sorted(self._identities.items()), tasks[0].points, named.digest()).hex()}{SUFFIX}"

    def probe(self, tasks: Sequence[MeasureWeight]) -> list[DigestWeight]:
        """What to digest before measuring, because files that are new here may hold weights that were measured.

        The smallest weight of each new snapshot is digested to find out. Where that weight is not known, neither are
        the others likely to be, and they are digested while they are measured.
        """
        new = [snapshot for snapshot, digests in self.digests.items() if not digests]
        if not new or not tasks or not self._store.works:
            return []
        smallest = min(tasks, key=lambda task: (task.numel, task.name))
        own = [snapshot for snapshot in new if snapshot[0] != "reference"]
        try:
            self.learn(smallest.name, DigestWeight(smallest.name, smallest.numel, own)(self._sources))
        except RunError:
            return []  # measuring will say what is wrong
        keys = {("run", index): scopes["local"] for index, scopes in enumerate(self._keys(smallest)) if scopes}
        measured = self._store.get(keys.values(), each=FIGURES_BYTES)
        if not measured:
            return []
        familiar = [snapshot for snapshot in new if snapshot[0] != "run" or keys.get(snapshot) in measured]
        stored = self._sources.stored
        missing = (
            (task, [s for s in familiar if task.name in stored[s] and not self.knows(task.name, s)]) for task in tasks
        )
        return [DigestWeight(task.name, task.numel, snapshots) for task, snapshots in missing if snapshots]

    def knows(self, name: str, snapshot: Snapshot) -> bool:
        """Whether the digest of a weight in a snapshot is known."""
        return name in self.digests[snapshot]

    def learn(self, name: str, measured: Measured) -> None:
        """Note the digests of a weight. Raises RunError if they are not what an earlier session read from files that
        have not changed since."""
        for snapshot, digest in measured.digests.items():
            if self.digests[snapshot].setdefault(name, digest) != digest:
                where = self._sources.snapshots()[snapshot].path
                raise RunError(
                    f"{where}: {name} has changed, though its file has the size, inode and times of before; "
                    "measure with --geom-cache=off"
                )

    def look_up(self, tasks: Iterable[MeasureWeight]) -> dict[str, Measured]:
        """What is known of each task's weight: answers to some of its requests, or to all."""
        keys = {task.name: self._keys(task) for task in tasks}
        known = {key for by_index in keys.values() for scopes in by_index for key in scopes.values()}
        found = self._store.get(known, each=FIGURES_BYTES)
        recalled = {}
        for task in tasks:
            measured = recalled[task.name] = Measured(digests=self.contents(task.name))
            for index, scopes in enumerate(keys[task.name]):
                entries = {scope: decoded_entry(found.get(key)) for scope, key in scopes.items()}
                if "sketch" in entries.get("local", {}):
                    measured.sketches[index] = bytes.fromhex(entries["local"]["sketch"])
                else:  # what is first measured of a checkpoint brings it
                    entries["local"] = {}
                for request in task.requests[index]:
                    answers = entries.get(self._scope(request), {}).get("answers", {})
                    answer = answers.get(self._label(request))
                    if answer is not None and self._is_possible(answer, request, task.shape):
                        measured.answers[index, request] = answer
                routes = entries.get("local", {}).get("routes", {})
                measured.routes[index] = {name: RouteTaken(*route) for name, route in routes.items()}
        return recalled

    def _is_possible(self, answer: Answer, request: Request, shape: tuple[int, ...]) -> bool:
        """Whether a weight of this shape can have this answer, whoever wrote it down."""
        if isinstance(answer, str):
            return True
        possible = self._limits_of(request, shape)
        needed = self._metrics[request.metric].stats
        return all(stat in answer for stat in needed) and all(
            low <= figure <= high for stat, figure in answer.items() for low, high in [possible.get(stat, NEVER)]
        )

    def _limits_of(self, request: Request, shape: tuple[int, ...]) -> Mapping[str, tuple[float, float]]:
        """The range of each statistic that there is."""
        if (request, shape) not in self._limits:
            metric, params = self._metrics[request.metric], request.parameters()
            stats = [term + stat for stat in metric.stats for term in ("", *TERMS)]
            self._limits[request, shape] = {stat: limits(metric, params, stat, shape) for stat in stats}
        return self._limits[request, shape]

    def keep(self, task: MeasureWeight, measured: Measured) -> None:
        """Store what was measured."""
        self.learn(task.name, measured)
        keys = self._keys(task)
        kept = self._store.get({key for scopes in keys for key in scopes.values()}, each=FIGURES_BYTES)
        entries: dict[bytes, dict[str, Any]] = {}

        def entry(key: bytes) -> dict[str, Any]:
            return entries.setdefault(key, decoded_entry(kept.get(key)))

        for (index, request), answer in measured.answers.items():
            key = keys[index].get(self._scope(request))
            if key is not None:
                entry(key).setdefault("answers", {})[self._label(request)] = answer
        for index, routes in measured.routes.items():
            local = entry(keys[index]["local"])
            taken = {name: [route.how, route.certificate] for name, route in routes.items()}
            local["routes"] = local.get("routes", {}) | taken
        for index, sketch in measured.sketches.items():
            entry(keys[index]["local"])["sketch"] = sketch.hex()
        self._store.put({key: json.dumps(held).encode() for key, held in entries.items()})
        if time.monotonic() - self._remembered >= REMEMBER_SECONDS:
            self._remember()

    def close(self) -> None:
        """Write what is left."""
        self._remember()
        self._store.flush()

    def _remember(self) -> None:
        """Store the digests in files that have not changed until now, so that a session that is killed can go on."""
        self._remembered = time.monotonic()
        now = self._identify()
        for snapshot, digests in self.digests.items():
            unchanged = snapshot in now and now[snapshot] == self._identities.get(snapshot)
            if unchanged and digests.keys() != self._known[snapshot]:
                kept = decoded_digests(self._store.get([now[snapshot]], each=self._contents_bytes).get(now[snapshot]))
                self._store.put({now[snapshot]: json.dumps(kept | digests).encode()})
                self._known[snapshot] = frozenset(digests)

    def _identify(self) -> dict[Snapshot, bytes]:
        """The key of each snapshot's digests. It depends on W0 too, as the weights of an adapter do."""
        if not self._store.works:
            return {}
        known = {s: identity(source, settled_at=self._started) for s, source in self._sources.snapshots().items()}
        base = known[W0]
        return {s: _key("contents", base, own) for s, own in known.items() if base is not None and own is not None}

    def contents(self, name: str) -> dict[Snapshot, str]:
        """The known digests of a weight."""
        return {snapshot: digests[name] for snapshot, digests in self.digests.items() if name in digests}

    def _keys(self, task: MeasureWeight) -> list[dict[str, bytes]]:
        """By checkpoint, then by scope: the key of the task's answers, where the contents are known."""
        contents = self.contents(task.name)
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
                start = contents.get(REFERENCE_W0 if REFERENCE_W0 in self.digests else W0)
                if other is not None and start is not None:
                    scopes |= {f"{scope} reference": _key(key.hex(), other, start) for scope, key in scopes.items()}
            keys.append(scopes)
        return keys

    def _matched(self, contents: Mapping[Snapshot, str], progress: float) -> str | None:
        """Digest of the reference's weight at the same progress, where there is one and it is known."""
        try:
            return contents.get(("reference", self._sources.match(progress)))
        except Undefined:
            return None

    def _scope(self, request: Request) -> str:
        """What the figures of a request depend on: a key of what `_keys` gives."""
        metric, params = self._metrics[request.metric], request.parameters()
        scope = "across" if metric.is_across(params) else "local"
        return f"{scope} reference" if metric.needs_reference(params) else scope

    def _label(self, request: Request) -> str:
        """What is requested, and how it is computed."""
        if request not in self._labels:
            metric = self._metrics[request.metric]
            key = _key(metric.name, metric.version, metric.definition, request.params, self._device)
            self._labels[request] = key.hex()
        return self._labels[request]


def _key(*parts: object) -> bytes:
    return hashlib.blake2b(repr((code(), *parts)).encode(), digest_size=16).digest()


def decoded_digests(value: bytes | None) -> dict[str, str]:
    """Digests by weight; none where `value` is something else."""
    found = _decoded(value)
    return found if all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in found.values()) else {}


def decoded_entry(value: bytes | None) -> dict[str, Any]:
    """``{"answers": {label: figures or reason}, "routes": {quantity: [how, certificate]}, "sketch": digits}``; each is
    optional."""
    found = _decoded(value)
    answers, routes = found.get("answers", {}), found.get("routes", {})
    proper = isinstance(answers, dict) and isinstance(routes, dict) and _is_sketch(found.get("sketch"))
    if not proper or not all(map(_is_answer, answers.values())) or not all(map(_is_route, routes.items())):
        return {}
    return found


def _decoded(value: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(value) if value else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_answer(answer: object) -> bool:
    if not isinstance(answer, dict):
        return _is_short(answer)
    return all(type(figure) is float and math.isfinite(figure) for figure in answer.values())


def _is_route(entry: tuple[str, object]) -> bool:
    """Whether it is a quantity, and ``[how, certificate]``."""
    quantity, route = entry
    if not _is_short(quantity) or not isinstance(route, list) or len(route) != 2 or not _is_short(route[0]):
        return False
    certificate = route[1]
    return certificate is None or (type(certificate) is float and 0 <= certificate < math.inf)


def _is_sketch(text: object) -> bool:
    """Whether it is one in hexadecimal, or none."""
    if text is None:
        return True
    try:
        return isinstance(text, str) and len(text) == 2 * BYTES and len(unpacked(bytes.fromhex(text))) == 1
    except ValueError:
        return False


def _is_short(text: object) -> bool:
    return isinstance(text, str) and len(text) <= SHORT
