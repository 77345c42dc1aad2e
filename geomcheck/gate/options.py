"""From pytest's configuration to a gate."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from geomcheck.checkpoints import BaseWeights, Incomplete, open_base
from geomcheck.checkpoints.hub import is_hub_id
from geomcheck.errors import GeomcheckError, NoBaseline, UsageError
from geomcheck.gate.arguments import CANDIDATES
from geomcheck.gate.session import Gate, Planner
from geomcheck.gate.subjects import Subject, open_subject, open_subjects
from geomcheck.measurement import Cache, Resources, parse_workers
from geomcheck.measurement.cache import DEFAULT_BYTES, parse_size, require_outside
from geomcheck.record.parquet import SUFFIX


def open_gate(config: pytest.Config) -> Gate:
    """Open the runs that the options name; surveys them, reads no weights.

    Raises:
        UsageError: no such run, base or reference, no suite for a run, or a bad value.
        RunError: a run cannot be trusted.
    """
    option = config.option
    for flag in ("--geom-run", "--geom-base", "--geom-reference"):
        value = getattr(option, flag[2:].replace("-", "_"))
        if value == "" or (isinstance(value, list) and "" in value):
            raise UsageError(f"{flag}= is empty; is a variable not set?")
    incomplete: Incomplete = option.geom_incomplete or config.getini("geom_incomplete") or "skip"
    resources = Resources(
        workers=parse_workers(_value(config, "geom_workers"), option="--geom-workers="),
        device=_value(config, "geom_device") or "auto",
    )
    resources.require_device()
    missing = _missing_baseline(config)
    gate = Gate(
        open_subjects(option.geom_run, incomplete=incomplete),
        config.stash[CANDIDATES],
        base=_base(config),
        reference=_reference(config, incomplete) if option.geom_reference and not missing else None,
        missing_baseline=missing,
        also=_drawn() if option.geom_report else (),
        resources=resources,
        dequantize=option.geom_dequantize,
    )
    gate.resources = replace(resources, cache=_cache(config, gate))
    return gate


def _drawn() -> tuple[Planner, ...]:
    """What a report draws beside the verdicts; its modules are loaded only for one."""
    from geomcheck.report.html import wanted

    return (wanted,)


def _base(config: pytest.Config) -> BaseWeights | None:
    """W0 by the option, or else by the ini file, where a path counts from the rootdir."""
    if config.option.geom_base is not None:
        return open_base(config.option.geom_base, "--geom-base")
    in_ini = config.getini("geom_base")
    if not in_ini:
        return None
    local = config.rootpath / in_ini
    on_hub = not local.exists() and is_hub_id(in_ini)
    return open_base(in_ini if on_hub else local, "geom_base of the ini file")


def _missing_baseline(config: pytest.Config) -> str | None:
    """The record to compare with, where it is not there and the project says that it may not be. A run may not."""
    path: str | None = config.option.geom_reference
    if path is None or Path(path).suffix != SUFFIX or Path(path).exists():
        return None
    allowed = _value(config, "geom_missing_baseline")
    if allowed not in (None, "error", "info"):
        raise UsageError(f"geom_missing_baseline = {allowed} in the ini file: write error or info")
    if allowed == "info":
        return path
    raise UsageError(
        f"--geom-reference: {NoBaseline(path)}. A project whose baselines may come later says so with "
        "--geom-missing-baseline=info"
    )


def _reference(config: pytest.Config, incomplete: Incomplete) -> Subject:
    try:
        return open_subject(config.option.geom_reference, incomplete=incomplete)
    except GeomcheckError as error:
        raise UsageError(f"--geom-reference: {error}") from None


def _cache(config: pytest.Config, gate: Gate) -> Cache:
    """The cache of the session: by the option, by the ini file, or else in pytest's own cache directory.

    Raises:
        UsageError: it would lie in what is read, or its size is no size.
    """
    named, in_ini = config.option.geom_cache, config.getini("geom_cache")
    size = _value(config, "geom_cache_size")
    max_bytes = DEFAULT_BYTES if size is None else parse_size(size)
    if config.option.collectonly or (named or in_ini) == "off":
        return Cache.off()
    if named or in_ini:
        directory = config.invocation_params.dir / named if named else config.rootpath / in_ini
        require_outside(directory, gate.inputs(), option="--geom-cache=" if named else "geom_cache = ")
    else:
        directory = _pytest_cache(config, gate)
    return Cache(directory, max_bytes=max_bytes, tell=gate.notices.append)


def _pytest_cache(config: pytest.Config, gate: Gate) -> Path | None:
    """A directory in pytest's cache; None where pytest has none, or has it inside a run."""
    cache = getattr(config, "cache", None)
    if cache is None:
        return None
    try:
        place = Path(os.path.expandvars(config.getini("cache_dir"))).expanduser()
        require_outside(config.rootpath / place, gate.inputs())
        directory: Path = cache.mkdir("geomcheck")
    except (UsageError, OSError) as error:
        gate.notices.append(f"nothing is cached: {error}; name a directory with --geom-cache")
        return None
    return directory


def _value(config: pytest.Config, name: str) -> str | None:
    """The value of an option, or else of the ini value of the same name; None where neither is given."""
    value: str | None = config.getoption(name) or config.getini(name) or None
    return value
