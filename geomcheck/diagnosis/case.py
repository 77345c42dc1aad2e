"""A case: what the kinds of findings may look at, read when one of them asks, and once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from geomcheck.checkpoints import Log, Weight, read_log, tied_apart
from geomcheck.checkpoints.weights import is_weight
from geomcheck.diagnosis.finding import Cell
from geomcheck.diagnosis.look import Look, as_matrix, dense, look
from geomcheck.diagnosis.words import Phrase, Vocabulary, when
from geomcheck.diagnostics import load_metrics
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.diagnostics.path import path_of
from geomcheck.errors import RunError
from geomcheck.measurement.executors.local import single_threaded
from geomcheck.measurement.machine import processors
from geomcheck.measurement.task import Sources
from geomcheck.record import UNKNOWN, Point, Record, Request
from geomcheck.record.column import Table
from geomcheck.suite.conditions.trains import Trains
from geomcheck.suite.verdict import Unanswerable

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.suite import Expectation, Suite
    from geomcheck.suite.expectation import Condition
    from geomcheck.suite.language.selection import Selection
    from geomcheck.suite.normal import Normal

BUDGET = 1 << 31
"""Entries that are read, over all checkpoints, of weights to which nothing points; a run of 40M weights is all read."""

AT_ONCE = 8
"""Checkpoints of a weight that are in memory at a time."""

LARGE = 1 << 26
"""Entries of a weight that is looked at by itself, as memory is bounded."""

PATHS = 8
"""Weights whose whole way is looked at."""

GROUPS = 3
"""Findings of one kind."""

SAME = 1e-3
"""By which share the norms of equal updates may differ, as of records that several machines measured."""

DIFFERENT = 0.3
"""Relative norm of an update from which a matrix may be another one; training moves matrices by less."""

ODD, FOREIGN = 0.05, 10
"""Relative norm, and how many times that of some other module, from which it may be one that resembles it: experts that
were made of one MLP are as near to each other."""

SIZE = "relative_update_norm"
"""The metric of which a calibrated suite's normal ranges are looked at."""

VISIBLE = 4.0
"""From how many times the smallest visible change on the usual change of an entry must have shown."""


class Case:
    """One run to diagnose.

    Args:
        record: its record, with what was measured, and the `contents`.
        sources: the opened files; None where only a record is at hand.
        good: good runs from the same W0, as cases, or as records, which have no trainer's log.
        suites: what is known of good runs by suites: which tensors train, and, of a calibrated one, which sizes of the
            updates are normal.

    Attributes:
        unread: why a weight could not be looked at, by name, as far as that was tried.
        memory: for kinds that share an answer.
        explained: the weights at checkpoints that findings explain so far; see `free`.
    """

    def __init__(
        self,
        record: Record,
        sources: Sources | None = None,
        good: Sequence[Case | Record] = (),
        suites: Sequence[Suite] = (),
    ) -> None:
        self.record = record
        self.good = tuple(one if isinstance(one, Case) else Case(one) for one in good)
        self.suites = tuple(suites)
        self.explained: set[Cell] = set()
        self._sources = sources
        self.memory: dict[str, Any] = {}
        self.unread: dict[str, str] = {}
        self._looks: dict[str, Look | None] = {}

    def beside(self, good: Sequence[Case]) -> Case:
        """The same with these good runs."""
        return Case(self.record, self._sources, good, self.suites)

    @property
    def points(self) -> tuple[Point, ...]:
        """The checkpoints."""
        return self.record.points

    @property
    def has_weights(self) -> bool:
        """Whether weights can be read."""
        return self._sources is not None

    @cached_property
    def log(self) -> Log:
        """What the trainer logged; empty where only a record is at hand."""
        return read_log(self._sources.run) if self._sources else Log()

    @cached_property
    def left_alone(self) -> frozenset[str]:
        """The weights that no good run moved, or that no suite wants to; none where there is neither."""
        each = [one._unmoved for one in self.good]
        declared = [condition.trained for _, condition in self._conditions if isinstance(condition, Trains)]
        each += [frozenset(self.weights.keys() - {w.name for w in self._selected(words)}) for words in declared]
        return frozenset.intersection(*each) if each else frozenset()

    @property
    def _conditions(self) -> Iterator[tuple[Expectation, Condition]]:
        return ((one, one.condition) for suite in self.suites for one in suite.expectations)

    def _selected(self, selection: Selection) -> Iterable[Weight]:
        try:
            return selection.select(self.record.weights)
        except Unanswerable:  # as there are no such weights here
            return ()

    @property
    def normal(self) -> Normal | None:
        """Which sizes of the updates are normal, by the first suite that says so."""
        return next((one.normal for one in self._sized), None)

    @property
    def ranges_of(self) -> str:
        """The suite that says so, as a name."""
        return next((suite.name for suite in self.suites for one in suite.expectations if one in self._sized), "")

    @property
    def _sized(self) -> list[Expectation]:
        return [one for one, _ in self._conditions if one.metric == SIZE and one.normal is not None]

    @property
    def moved(self) -> frozenset[str]:
        """The weights that are not W0's at every checkpoint, as far as that is known."""
        return frozenset(self.weights) - self._unmoved if all(self._held) else frozenset()

    @property
    def _held(self) -> list[Sequence[int]]:
        """The contents of W0 and of every checkpoint; empty where they are not known."""
        return [self.record.contents.get(place, ()) for place in ("W0", *(point.name for point in self.points))]

    @cached_property
    def _unmoved(self) -> frozenset[str]:
        """The weights that are W0's at every checkpoint, of adapters those that they leave alone."""
        if not all(self._held):
            return frozenset()
        start, *held = np.array(self._held, dtype=np.int64)
        still = np.all([(codes == start) | (codes == UNKNOWN) for codes in held], axis=0)
        codes_equal = dict(zip(self.record.weights, still.tolist(), strict=True))
        return frozenset(name for name in self.weights if not any(self.sizes.get(name, (not codes_equal[name],))))

    @cached_property
    def weights(self) -> Mapping[str, Weight]:
        """All weights that training may change, by name: no masks, no frequencies of rotations."""
        return {
            name: weight
            for name, weight in self.record.weights.items()
            if is_weight(weight) and set(weight.dtypes) <= {*FORMATS}
        }

    @cached_property
    def contents(self) -> Mapping[str, tuple[int, ...]]:
        """The number of the content of each weight in W0 and at every checkpoint, where all are
        known; none of weights whose norms contradict that."""
        places = ["W0", *(point.name for point in self.points)]
        if not all(place in self.record.contents for place in places):
            return {}
        codes = np.array([self.record.contents[place] for place in places], dtype=np.int64)
        known = (codes != UNKNOWN).all(axis=0)
        columns = {name: index for index, name in enumerate(self.record.weights)}
        held = {name: tuple(codes[:, columns[name]].tolist()) for name in self.weights if known[columns[name]]}
        return {name: numbers for name, numbers in held.items() if self._is_credible(name, numbers)}

    def _is_credible(self, name: str, codes: Sequence[int]) -> bool:
        """Whether what is said to be equal has equal norms: a record may claim anything."""
        norms: dict[int, float] = {codes[0]: 0.0}
        for code, size in zip(codes[1:], self.sizes.get(name, ()), strict=False):
            if math.isfinite(size) and not math.isclose(norms.setdefault(code, size), size, rel_tol=SAME):
                return False
        return True

    @cached_property
    def sizes(self) -> Mapping[str, tuple[float, ...]]:
        """The relative norm of the update at every checkpoint, of the weights that were measured; NaN where it is not
        known."""
        request = Request.of(load_metrics()[SIZE], {})
        if (request, "value") not in self.record.columns:
            return {}
        column = self.record.column(request, "value")
        names = [name for name in sorted(column.weights()) if name in self.weights]
        values = Table.of(column, [point.step for point in self.points], names).values
        return {name: tuple(values[:, index].tolist()) for index, name in enumerate(names)}

    def size(self, name: str, index: int) -> float:
        """The relative norm of an update, measured or read; 0 where it is not known."""
        size = self.sizes.get(name, ())[index : index + 1]
        look = None if size and math.isfinite(size[0]) else self.look(name)
        return look.size(index) if look is not None else next((one for one in size if math.isfinite(one)), 0.0)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words for these weights."""
        return Vocabulary(self.weights.values())

    def named(self, names: Collection[str]) -> Phrase:
        """Some weights in words."""
        return self.vocabulary.phrase(names)

    def when(self, indices: Collection[int]) -> str:
        """Some checkpoints in words, as an adverb."""
        return when(self.points, indices)

    def free(self, cells: Iterable[Cell]) -> set[Cell]:
        """The cells that no finding explains yet."""
        return set(cells) - self.explained

    def grouped(self, cells: Iterable[Cell]) -> list[tuple[tuple[int, ...], set[str]]]:
        """The cells that are `free`, as weights with the checkpoints that these have in common, the most first: at most
        `GROUPS` of them, and what is left as the last."""
        by_name: dict[str, set[int]] = {}
        for name, index in self.free(cells):
            by_name.setdefault(name, set()).add(index)
        groups: dict[tuple[int, ...], set[str]] = {}
        for name, indices in by_name.items():
            groups.setdefault(tuple(sorted(indices)), set()).add(name)
        ordered = sorted(groups.items(), key=lambda group: (-len(group[0]) * len(group[1]), group[0]))
        rest = ordered[GROUPS - 1 :]
        if len(rest) < 2:
            return ordered
        together = tuple(sorted({index for at, _ in rest for index in at}))
        return [*ordered[: GROUPS - 1], (together, {name for _, names in rest for name in names})]

    # ---- what is read

    def lies_everywhere(self, name: str) -> bool:
        """Whether a weight of one shape can be read in W0 and at every checkpoint, where it is no adapter's loan."""
        if self._sources is None or name not in self.weights:
            return False
        held = [weights.get(name) for snapshot, weights in self._sources.stored.items() if snapshot[0] != "reference"]
        first = held[0]
        return first is not None and all(
            one is not None and one.shape == first.shape and one is not first for one in held[1:]
        )

    def tied(self, index: int) -> tuple[str, str] | None:
        """Head and embedding, where the config of a checkpoint ties them and they were saved as two. Raises
        RunError."""
        return tied_apart(self._sources.run.checkpoints[index].source) if self._sources else None

    def matrix(self, name: str, index: int | None = None) -> Tensor:
        """A weight as a matrix, at a checkpoint or in W0: see `look.as_matrix`. Raises RunError."""
        assert self._sources is not None
        w0 = as_matrix(self._sources.base.source.read(name))
        return w0 if index is None else self._state(name, w0, index)

    def look(self, name: str) -> Look | None:
        """What the entries of a weight tell; None where it cannot be read, for which `unread` may have the reason. Each
        is read once."""
        if name not in self._looks:
            try:
                self._looks[name] = self._look(name) if self.lies_everywhere(name) else None
            except RunError as error:
                self._looks[name], self.unread[name] = None, str(error)
        return self._looks[name]

    def _look(self, name: str) -> Look:
        """Raises RunError."""
        assert self._sources is not None
        sources = self._sources
        reads = [partial(sources.read_checkpoint, name, index) for index in range(len(self.points))]
        return look(partial(sources.base.source.read, name), reads)

    @cached_property
    def sample(self) -> tuple[str, ...]:
        """Weights to look at though nothing points to them: all, where `BUDGET` allows; else the small ones of every
        module first, layer by layer."""
        readable = [name for name in self.weights if self.lies_everywhere(name)]
        rank: dict[str, int] = {}
        order = []
        for name in readable:
            module = self.weights[name].module
            rank[module] = rank.get(module, -1) + 1
            order.append((rank[module], self.weights[name].numel, name))
        left, chosen = BUDGET, []
        for _, numel, name in sorted(order):
            if numel * (len(self.points) + 1) <= left:
                left -= numel * (len(self.points) + 1)
                chosen.append(name)
        return tuple(sorted(chosen))

    def looks(self, names: Iterable[str] | None = None) -> dict[str, Look]:
        """Looks at these weights, those of the `sample` by default, as far as they can be read; at several at a time,
        large ones by themselves."""
        wanted = list(self.sample if names is None else names)
        new = [name for name in wanted if name not in self._looks]
        if new:
            with single_threaded(processors(), Event()) as pool:
                list(pool.map(self.look, (name for name in new if self.weights[name].numel <= LARGE)))
        found = {name: self.look(name) for name in wanted}
        return {name: look for name, look in found.items() if look is not None}

    @cached_property
    def different(self) -> dict[str, tuple[int, ...]]:
        """The matrices that may be others than in W0, with the checkpoints at which: their update has `DIFFERENT` times
        their norm or more."""
        found: dict[str, tuple[int, ...]] = {}
        seen = {*self.sizes, *self.sample, *self.record.skipped}
        for name, weight in self.weights.items():
            if weight.is_matrix and name in seen and self.lies_everywhere(name):
                at = tuple(i for i in range(len(self.points)) if self.size(name, i) >= DIFFERENT)
                found |= {name: at} if at else {}
        return found

    @cached_property
    def odd(self) -> dict[str, tuple[int, ...]]:
        """The measured matrices with the checkpoints at which their update is as large as `ODD` and `FOREIGN` say."""
        modules: dict[str, list[tuple[float, ...]]] = {}
        for name, sizes in self.sizes.items():
            modules.setdefault(self.weights[name].module, []).append(sizes)
        found: dict[str, list[int]] = {}
        for index in range(len(self.points)):
            usual = [median(sizes[index] for sizes in of) for of in modules.values()]
            least = max(ODD, FOREIGN * min((size for size in usual if size), default=math.inf))
            for name, sizes in self.sizes.items():
                if sizes[index] >= least and self.lies_everywhere(name):
                    found.setdefault(name, []).append(index)
        return {name: tuple(at) for name, at in found.items()}

    @cached_property
    def strayed(self) -> dict[str, tuple[int, ...]]:
        """The vectors with the checkpoints at which their update has `ODD` times their norm or more, and their entries
        moved `FOREIGN` times as far as those of the matrices in `ways`: one optimizer moves them about alike."""
        paces = [self.pace(index) for index in range(len(self.points))]
        found: dict[str, tuple[int, ...]] = {}
        for name, own in self.examined.items():
            far = [
                index
                for index, (seen, pace) in enumerate(zip(own.seen, paces, strict=True))
                if pace and own.size(index) >= ODD and seen.moved >= FOREIGN * pace * math.sqrt(own.numel)
            ]
            if far and not self.weights[name].is_matrix:
                found[name] = tuple(far)
        return found

    def pace(self, index: int) -> float:
        """How far an entry of the matrices in `ways` moved up to a checkpoint: the root mean square."""
        return median(look.seen[index].moved / math.sqrt(look.numel) for look in self.ways.values())

    @cached_property
    def examined(self) -> dict[str, Look]:
        """Looks at the `sample`, at what could not be measured, and at what is `different`, if that is not most."""
        matrices = sum(weight.is_matrix for weight in self.weights.values())
        pointed = set(self.different) if 2 * len(self.different) <= matrices else set()
        pointed |= self.record.skipped.keys() & self.weights.keys()
        return self.looks(sorted({*self.sample, *pointed}))

    @cached_property
    def ways(self) -> dict[str, Look]:
        """Looks at `PATHS` matrices that moved, small ones of each module: enough to know how the run went."""
        moved = [name for name in self.sample if self.weights[name].is_linear and any(self.sizes.get(name, (1.0,)))]
        return self.looks(moved[:: max(1, len(moved) // PATHS)][:PATHS])

    @cached_property
    def rounded(self) -> tuple[str, ...]:
        """The coarser format to which most of these matrices were rounded at each checkpoint; empty where none."""
        seen = [[look.seen[index] for look in self.ways.values()] for index in range(len(self.points))]
        formats = [Counter("" if one.equal else one.rounded for one in together) for together in seen]
        return tuple(found.most_common(1)[0][0] if found else "" for found in formats)

    def is_coarse(self, name: str, index: int) -> bool:
        """Whether a matrix is bf16 at a checkpoint, by its format or by its values."""
        return self.weights[name].dtypes[-1] == "bf16" or self.looks([name])[name].seen[index].rounded == "bf16"

    @cached_property
    def grams(self) -> list[np.ndarray]:
        """Inner products of the updates at all checkpoints, shape (n, n), of the matrices of `ways`; they are read
        again for it."""
        with single_threaded(processors(), Event()) as pool:
            return list(pool.map(self._gram, self.ways))

    def _gram(self, name: str) -> np.ndarray:
        w0, steps = self.matrix(name), [point.step for point in self.points]
        return path_of(w0, steps, partial(self._state, name, w0), at_once=AT_ONCE).gram.numpy()

    def _state(self, name: str, w0: Tensor, index: int) -> Tensor:
        assert self._sources is not None
        return dense(self._sources.read_checkpoint(name, index), w0)

    def shows(self, name: str, index: int, *, since: int | None = None) -> bool:
        """Whether a weight that is trained would visibly differ at a checkpoint from what it was at another, W0 by
        default: small changes get lost in the format of what is large, as of norms in bf16. Where nothing moved at all,
        it would. Where weights cannot be read, matrices would, and vectors in formats of 16 bits would not."""
        own = self.look(name)
        if own is None:
            return self.weights[name].shows_steps
        first = 0 if since is None else since + 1
        paces = [
            math.sqrt(sum(look.seen[at].step ** 2 for at in range(first, index + 1)) / look.numel)
            for look in self.ways.values()
        ]
        pace = median(paces)
        return pace == 0 or pace >= VISIBLE * own.unit(self.rounded[index])


def median(values: Iterable[float]) -> float:
    """Of those that are above zero; 0 where none is."""
    moved = [value for value in values if math.isfinite(value) and value > 0]
    return float(np.median(moved)) if moved else 0.0
