"""Ask every question of a case, in order: what facts explain is not explained again by inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import torch

from geomcheck.api import How, RunOrRecord, has_weights, means, silent
from geomcheck.checkpoints import BaseWeights, Run, comparable, find_base, open_base, open_run
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Cell, Finding
from geomcheck.diagnosis.kind import Source
from geomcheck.diagnosis.registry import load_kinds
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import UsageError
from geomcheck.measurement import Progress, Resources, measure_record, survey
from geomcheck.measurement.execute import WHERE_INFLATED
from geomcheck.measurement.task import Sources
from geomcheck.record import Record, Request, read_record
from geomcheck.suite import Suite
from geomcheck.suite.likeness import start_difference

EXPLAINED = 0.5
"""Share of its weights and checkpoints that others explain already, from which an inference is left out."""

MOST = 12
"""Findings that are told."""


def diagnose(
    run: RunOrRecord,
    *,
    base: BaseWeights | str | Path | None = None,
    good: Sequence[RunOrRecord | Case] = (),
    suites: Sequence[Suite] = (),
    **how: Unpack[How],
) -> tuple[Finding, ...]:
    """What is wrong with a run, that its weights or its record show by themselves.

    A run that `geomcheck.measure` refuses, as its checkpoints cannot be what they claim, is diagnosed like any other.

    Args:
        run: an opened run, its directory, a record or its file; a record tells less than the weights.
        base: W0, opened or its directory; by default what the run provides.
        good: good runs from the same W0, each like `run`, or a case of it: what is usual is what these have in common,
            so that two or more tell more than one.
        suites: calibrated ones: where fewer than two good runs are given, their normal ranges tell which sizes of the
            updates are usual; what `trains` says is left alone may stand still.
        how: workers, device, cache and the like of `geomcheck.measure`.

    Returns:
        The findings, facts before inferences, in each group those first that explain most; none of a healthy run.

    Raises:
        UsageError: no such run, W0 or device, or W0 is of another architecture; or nobody can tell whether a good run
            started from the same.
        RunError: a file cannot be read.
        RecordError: a record file is damaged.
    """
    return findings(case_of(run, base=base, good=good, suites=suites, **how))


def case_of(
    run: RunOrRecord,
    *,
    base: BaseWeights | str | Path | None = None,
    good: Sequence[RunOrRecord | Case] = (),
    suites: Sequence[Suite] = (),
    **how: Unpack[How],
) -> Case:
    """The case of a run, measured as far as a diagnosis needs it, or of a record. Arguments and errors as `diagnose`.

    The case of a good run serves for as many others as are compared with it: it is measured once.
    """
    goods = [one if isinstance(one, Case) else _good(one, base, how) for one in good]
    if not has_weights(run):
        assert not isinstance(run, Run)
        return _told(Case(run if isinstance(run, Record) else read_record(run), good=goods, suites=suites))
    opened = run if isinstance(run, Run) else open_run(run, incomplete=how.get("incomplete", "skip"))
    given = open_base(base, "the given base") if isinstance(base, str | Path) else base
    opened, w0 = comparable(opened, find_base(opened, given=given), dequantize=how.get("dequantize", False))
    with means([opened.path, w0.source.path], how) as resources, how.get("show", silent)(opened.name) as progress:
        return _told(opened_case(opened, w0, resources, progress, good=goods, suites=suites))


def opened_case(
    run: Run,
    base: BaseWeights,
    resources: Resources,
    progress: Progress = lambda done, total: None,
    *,
    good: Sequence[Case] = (),
    suites: Sequence[Suite] = (),
) -> Case:
    """The case of a run and its W0, which are comparable. Raises UsageError, RunError."""
    record = survey(run, base)
    rounding = Request.of(load_metrics()[WHERE_INFLATED], {})
    requests = {name: {rounding} for name, weight in record.weights.items() if weight.is_matrix}
    measure_record(record, run, base, requests, resources=resources, progress=progress, refuse=False)
    return Case(record, Sources(run, base), good=good, suites=suites)


def _told(case: Case) -> Case:
    """The case, of which is known whether the good runs start where it does. Raises UsageError."""
    for one in case.good:
        difference = start_difference(case.record, one.record)
        if difference is not None and difference.untold:
            raise UsageError(f"{one.record.path} cannot be held beside {case.record.path}: {difference}")
    return case


def _good(run: RunOrRecord, base: BaseWeights | str | Path | None, how: How) -> Case:
    """The case of a good run, which starts from what it brings, or else from the `base`."""
    if not has_weights(run):
        return case_of(run)
    opened = run if isinstance(run, Run) else open_run(run, incomplete=how.get("incomplete", "skip"))
    return case_of(opened, base=base if opened.own_base is None else None, **how)


def findings(case: Case) -> tuple[Finding, ...]:
    """All findings of a case, at most `MOST`. Raises RunError where a file cannot be read."""
    there: dict[Source, Callable[[], bool]] = {
        "record": lambda: True,
        "weights": lambda: True,  # kinds that can do without say less then
        "good": lambda: bool(case.good) or case.normal is not None,
        "log": lambda: True,
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other inside small operations take longer than one alone
    try:
        return ordered(_asked(case, there))[:MOST]
    finally:
        torch.set_num_threads(threads)


def _asked(case: Case, there: Mapping[Source, Callable[[], bool]]) -> list[Finding]:
    """What every kind finds, of which the case has what it looks at."""
    _ = case.examined  # all that is read is read at once
    found: list[Finding] = []
    for kind in load_kinds():
        if not all(there[source]() for source in kind.looks_at):
            continue
        for one in kind.find(case):
            cells = cells_of(case, one)
            if one.grade == "inference" and len(cells & case.explained) >= EXPLAINED * len(cells) > 0:
                continue
            found.append(one)
            case.explained |= cells
    return found


def ordered(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """By group, then those first that are about most weights and checkpoints."""
    return tuple(sorted(found, key=lambda one: (one.group, -len(one.weights) * len(one.steps))))


def apart(ours: Sequence[Finding], theirs: Sequence[Finding]) -> tuple[list[Finding], list[Finding], list[Finding]]:
    """The findings of two runs: those of the first alone, of the second alone, and of both, as the first has them.

    Those are the same that are of one kind and about the same weights, whatever the steps of the checkpoints are.
    """

    def held(one: Finding, others: Sequence[Finding]) -> bool:
        return any((one.kind, one.weights) == (other.kind, other.weights) for other in others)

    both = [one for one in ours if held(one, theirs)]
    return [one for one in ours if one not in both], [one for one in theirs if not held(one, ours)], both


def cells_of(case: Case, found: Finding) -> set[Cell]:
    """The weights and checkpoints that a finding is about."""
    indices = [index for index, point in enumerate(case.points) if point.step in found.steps]
    return {(name, index) for name in found.weights for index in indices}
