"""geomcheck from Python: open a run, measure it, and judge the record with a suite.

>>> run = geomcheck.open_run("ckpts/opd")                                        # doctest: +SKIP
>>> record = geomcheck.measure(run, base="ckpts/anchor", metrics=["stable_rank"])  # doctest: +SKIP
>>> for verdict in geomcheck.load_suite("suites/mine.yaml").evaluate(record):     # doctest: +SKIP
...     print(verdict.outcome, verdict.message)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TypedDict, TypeGuard, Unpack

from geomcheck.checkpoints import BaseWeights, Incomplete, Run, comparable, find_base, open_base, open_run
from geomcheck.checkpoints.weights import is_weight
from geomcheck.diagnostics import Registry, load_metrics
from geomcheck.errors import UsageError
from geomcheck.measurement import Cache, Progress, Resources, measure_record, parse_workers, survey
from geomcheck.measurement.cache import require_outside
from geomcheck.measurement.execute import ALWAYS, WHERE_INFLATED
from geomcheck.measurement.provenance import require_measured_against
from geomcheck.record import Record, Request, merge, read_record
from geomcheck.suite import Suite, load_suite, shipped_suites
from geomcheck.suite.language.names import metric_hint
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.sampling import has_figure

__all__ = ["How", "RunOrRecord", "has_weights", "means", "measure", "open_run", "records_of"]

RunOrRecord = Run | Record | str | Path

ANY_RUN = "sanity"
"""The shipped suite that judges a run of which nothing else is known, and so its record."""

Show = Callable[[str], AbstractContextManager[Progress]]
"""For a run's name, a context that yields whom to tell how far its measurement is."""


def silent(_: str) -> AbstractContextManager[Progress]:
    """A `Show` that tells nobody."""
    return nullcontext(lambda done, total: None)


class How(TypedDict, total=False):
    """How runs are measured; each as `measure` has it."""

    workers: int | str | None
    device: str
    cache: Cache | str | Path | None
    dequantize: bool
    incomplete: Incomplete
    show: Show


def measure(
    run: Run | str | Path,
    *,
    base: BaseWeights | str | Path | None = None,
    metrics: Sequence[str | Request] | None = None,
    weights: Selection | None = None,
    entries: Sequence[str] = (),
    suites: Sequence[Suite] = (),
    reference: Run | str | Path | None = None,
    workers: int | str | None = None,
    device: str = "auto",
    cache: Cache | str | Path | None = None,
    dequantize: bool = False,
    incomplete: Incomplete = "skip",
    show: Show = silent,
) -> Record:
    """Measure a run.

    Args:
        run: an opened run, or its directory.
        base: W0, opened or its directory; by default what the first suite or the run itself provides.
        metrics: requests, or names (measured with default parameters), on every attention and MLP matrix (where
            the metric's k is below the matrix's dimensions). Default: all but those that are measured `on_request`,
            and what the shipped suite `sanity` needs, unless `suites` or `weights` are given.
        weights: measure `metrics` on these instead.
        entries: metrics that compare entries, to be measured of every tensor beside; where nothing else is said, by
            how much each changed.
        suites: measure what these need.
        reference: a run to compare updates with (`mask_jaccard`, `reference_alignment`, `update_cosine`).
        workers: local workers; by default as many as processors and memory allow. ``"ray"``: a Ray cluster.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache: directory that remembers what was measured, or an open cache; by default nothing is.
        dequantize: make fp32 of fp8 weights and their scales, and measure those; `Record.notes` says so.
        incomplete: ``error`` refuses a run with checkpoints that are not complete, which are left out otherwise.
        show: for the run's name, a context that yields a function, which is called with how much is done and how much
            there is.

    Raises:
        UsageError: no such run, W0, metric or device, or a cache inside what is read.
        RunError: the files cannot be read or trusted: one tensor that is not finite is enough, measured or not.
    """
    opened = run if isinstance(run, Run) else open_run(run, incomplete=incomplete)
    given = open_base(base, "the given base") if isinstance(base, str | Path) else base
    of_suite = next((suite.base for suite in suites if suite.base is not None), None)
    opened, w0 = comparable(opened, find_base(opened, given=given, suite=of_suite), dequantize=dequantize)
    record = survey(opened, w0)
    known = load_metrics()
    chosen = _chosen(metrics, known, default_all=not suites)
    default = {
        weight.name: {r for r in chosen if has_figure(known[r.metric], r.parameters(), weight)}
        for weight in (weights.select(record.weights) if weights else record.weights.values())
        if chosen and (weights or weight.is_linear)
    }
    needs = [suite.requests(record) for suite in suites]
    if metrics is None and weights is None and not suites:
        entries = (*entries, *ALWAYS, WHERE_INFLATED)
        judging = load_suite(shipped_suites()[ANY_RUN]).expectations
        needs += [one.requests(record) for one in judging if reference or not one.compares]
    everything = (weight for weight in record.weights.values() if entries and is_weight(weight))
    beside = {weight.name: {Request.of(known[name], {}) for name in entries} for weight in everything}
    requests = merge([default, beside, *needs])
    other = open_run(reference, incomplete=incomplete) if isinstance(reference, str | Path) else reference
    other = comparable(other, w0, dequantize=dequantize)[0] if other else None
    read = [opened.path, w0.source.path, *([other.path] if other else [])]
    how = How(workers=workers, device=device, cache=cache)
    with means(read, how) as resources, show(opened.name) as progress:
        measure_record(record, opened, w0, requests, reference=other, resources=resources, progress=progress)
    return record


def records_of(
    sources: Sequence[RunOrRecord],
    *,
    base: BaseWeights | str | Path | None = None,
    metrics: Sequence[str | Request] | None = None,
    weights: Selection | None = None,
    entries: Sequence[str] = (),
    **how: Unpack[How],
) -> list[Record]:
    """The record of each source: as given, read from its file, or measured with default parameters, `entries` and `how`
    as `measure` has it.

    Raises:
        UsageError: no such run or W0.
        RunError: a run cannot be read or trusted, or a record is of another W0 than the one given.
        RecordError: a record file is damaged.
    """
    records = []
    for source in sources:
        if has_weights(source):
            records.append(measure(source, base=base, metrics=metrics, weights=weights, entries=entries, **how))
            continue
        assert not isinstance(source, Run)
        records.append(source if isinstance(source, Record) else read_record(source))
        if base is not None:
            given = base if isinstance(base, BaseWeights) else open_base(base, "the given base")
            require_measured_against(records[-1], given, dequantize=how.get("dequantize", False))
    return records


def has_weights(source: RunOrRecord) -> TypeGuard[Run | str | Path]:
    """Whether `source` is a run or its directory, rather than a record or its file."""
    return isinstance(source, Run) or (isinstance(source, str | Path) and not Path(source).is_file())


@contextmanager
def means(read: Iterable[Path], how: How) -> Iterator[Resources]:
    """What measuring may use, `how` as `measure` has it, of a run whose files lie in `read`. Raises UsageError."""
    given = how.get("cache")
    with ExitStack() as stack:
        remembered = given if isinstance(given, Cache) else stack.enter_context(closing(_cache(given)))
        if remembered.directory is not None:
            require_outside(remembered.directory, [(str(place), place) for place in read])
        workers = parse_workers(how.get("workers"))
        yield Resources(workers=workers, device=how.get("device", "auto"), cache=remembered)


def _cache(directory: str | Path | None) -> Cache:
    return Cache.off() if directory is None else Cache(Path(directory))


def _chosen(wanted: Sequence[str | Request] | None, known: Registry, *, default_all: bool) -> list[Request]:
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted is None:
        wanted = [metric.name for metric in known if metric.measured_by_default] if default_all else []
    names = [one for one in wanted if isinstance(one, str)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"no metric is called {unknown[0]!r}{metric_hint(unknown[0])}")
    for name in names:
        if needed := [f"`{p.name}`" for p in known[name].parameters if p.required]:
            raise UsageError(f"{name} has no default for {', '.join(needed)}: ask for it in a suite, or by a Request")
    return [Request.of(known[one], {}) if isinstance(one, str) else one for one in wanted]
