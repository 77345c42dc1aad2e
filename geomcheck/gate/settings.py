"""From the values of options and ini file to a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import pytest

from geomcheck.checkpoints import Incomplete
from geomcheck.checkpoints.remote import copying
from geomcheck.errors import GeomcheckError, NoBaseline, UsageError
from geomcheck.gate.candidates import Candidate
from geomcheck.gate.session import Gate
from geomcheck.gate.subjects import GivenRun, open_subject, open_subjects
from geomcheck.gate.values import Values
from geomcheck.measurement import Cache
from geomcheck.options import OPTIONS
from geomcheck.record.parquet import SUFFIX
from geomcheck.urls import is_url


def open_gate(config: pytest.Config, candidates: Sequence[Candidate]) -> Gate:
    """Open the runs that the options name; surveys them, reads no weights.

    Raises:
        UsageError: no such run, base or reference, no suite for a run, or a bad value.
        RunError: a run cannot be trusted.
    """
    given, values = config.option, Values.of_session(config)
    resources, incomplete, budget = values.resources(), values.incomplete, values.budget
    values.of("missing-checkpoints")  # items ask for it, once everything was measured
    missing = _missing_baseline(values)
    with copying(values.copies()):
        reference = _reference(given.geom_reference, incomplete) if given.geom_reference and not missing else None
        subjects, base = open_subjects(given.geom_run, incomplete=incomplete), values.base()
    outputs = [declared.output for declared in OPTIONS if declared.output and getattr(given, declared.key)]
    gate = Gate(
        subjects,
        candidates,
        base=base,
        reference=reference,
        missing_baseline=missing,
        also=[resolve_name(output.also) for output in outputs if output.also],
        resources=resources,
        dequantize=given.geom_dequantize,
        budget=None if _repeats_failures(config, candidates) else budget,
    )
    reads = any(subject and subject.run for subject in (*gate.subjects.values(), reference))
    cache = values.cache(gate.inputs(), gate.notices.append) if reads and not given.collectonly else Cache.off()
    gate.resources = replace(resources, cache=cache)
    return gate


def _repeats_failures(config: pytest.Config, candidates: Sequence[Candidate]) -> bool:
    """Whether pytest runs only what failed of these suites last time: that is measured whole, as it may have failed
    early. Where nothing of them failed, it runs all, as if without ``--lf``."""
    failed = (getattr(config, "cache", None) and config.cache.get("cache/lastfailed", {})) or {}
    suites = {candidate.node_id for candidate in candidates}
    return bool(getattr(config.option, "lf", False)) and any(name.partition("::")[0] in suites for name in failed)


def _missing_baseline(values: Values) -> str | None:
    """The record to compare with, where it is not there and the project says that it may not be. A run may not."""
    allowed, path = values.of("missing-baseline"), values.given.get("reference")
    if path is None or is_url(path) or Path(path).suffix != SUFFIX or Path(path).exists():
        return None
    if allowed == "info":
        return str(path)
    raise UsageError(
        f"--geom-reference: {NoBaseline(path)}. A project whose baselines may come later says so with "
        "--geom-missing-baseline=info"
    )


def _reference(path: str, incomplete: Incomplete) -> GivenRun:
    try:
        return open_subject(path, incomplete=incomplete)
    except GeomcheckError as error:
        raise UsageError(f"--geom-reference: {error}") from None
