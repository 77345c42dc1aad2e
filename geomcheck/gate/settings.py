"""From the values of options and ini file to a gate."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import cast

import pytest

from geomcheck.checkpoints import BaseWeights, Incomplete, open_base
from geomcheck.checkpoints.hub import is_hub_id
from geomcheck.errors import GeomcheckError, NoBaseline, UsageError
from geomcheck.gate.candidates import CANDIDATES
from geomcheck.gate.session import Gate
from geomcheck.gate.subjects import GivenRun, open_subject, open_subjects
from geomcheck.measurement import Cache, Resources, parse_workers
from geomcheck.measurement.cache import DEFAULT_BYTES, parse_size, require_outside
from geomcheck.options import OPTIONS, option
from geomcheck.own import require_no_links
from geomcheck.record.parquet import SUFFIX


def open_gate(config: pytest.Config) -> Gate:
    """Open the runs that the options name; surveys them, reads no weights.

    Raises:
        UsageError: no such run, base or reference, no suite for a run, or a bad value.
        RunError: a run cannot be trusted.
    """
    if CANDIDATES not in config.stash:
        raise UsageError("the plugin was loaded too late, by a conftest: load it with -p geomcheck.plugin")
    given = config.option
    resources = Resources(
        workers=parse_workers(setting(config, "workers"), option="--geom-workers="),
        device=setting(config, "device") or "auto",
    )
    resources.require_device()
    incomplete = cast(Incomplete, setting(config, "incomplete"))
    missing = _missing_baseline(config)
    outputs = [declared.output for declared in OPTIONS if declared.output and getattr(given, declared.key)]
    gate = Gate(
        open_subjects(given.geom_run, incomplete=incomplete),
        config.stash[CANDIDATES],
        base=_base(config),
        reference=_reference(given.geom_reference, incomplete) if given.geom_reference and not missing else None,
        missing_baseline=missing,
        also=[resolve_name(output.also) for output in outputs if output.also],
        resources=resources,
        dequantize=given.geom_dequantize,
    )
    gate.resources = replace(resources, cache=_cache(config, gate))
    return gate


def setting(config: pytest.Config, name: str) -> str | None:
    """The value of an option: as given, by the ini file, or its default. Raises UsageError where it is no choice."""
    declared = option(name)
    in_ini: str = config.getini(declared.ini_key) if declared.ini else ""
    if in_ini and declared.choices and in_ini not in declared.choices:
        raise UsageError(f"{declared.ini_key} = {in_ini} in the ini file: write {' or '.join(declared.choices)}")
    return getattr(config.option, declared.key) or in_ini or declared.default


def _in_ini(config: pytest.Config, name: str) -> Path | None:
    """A path of the ini file, where it counts from the rootdir."""
    value = config.getini(option(name).ini_key)
    return config.rootpath / Path(value).expanduser() if value else None


def _base(config: pytest.Config) -> BaseWeights | None:
    """W0 by the option, or else by the ini file: a path, or a Hub id."""
    if config.option.geom_base:
        return open_base(config.option.geom_base, "--geom-base")
    place, text = _in_ini(config, "base"), config.getini("geom_base")
    if place is None:
        return None
    on_hub = not place.exists() and is_hub_id(text)
    return open_base(text if on_hub else place, "geom_base of the ini file")


def _missing_baseline(config: pytest.Config) -> str | None:
    """The record to compare with, where it is not there and the project says that it may not be. A run may not."""
    allowed, path = setting(config, "missing-baseline"), config.option.geom_reference
    if path is None or Path(path).suffix != SUFFIX or Path(path).exists():
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


def _cache(config: pytest.Config, gate: Gate) -> Cache:
    """The cache by option, ini file, or in pytest's own. Raises UsageError where it lies in what is read."""
    named, in_ini = config.option.geom_cache, _in_ini(config, "cache")
    size = setting(config, "cache-size")
    max_bytes = DEFAULT_BYTES if size is None else parse_size(size)
    if config.option.collectonly or setting(config, "cache") == "off":
        return Cache.off()
    directory = config.invocation_params.dir / named if named else in_ini
    if directory is None:
        directory = _pytest_cache(config, gate)
    else:
        require_outside(directory, gate.inputs(), option="--geom-cache=" if named else "geom_cache = ")
    return Cache(directory, max_bytes=max_bytes, tell=gate.notices.append)


def _pytest_cache(config: pytest.Config, gate: Gate) -> Path | None:
    """A directory in pytest's cache; None where pytest has none, or has it inside a run."""
    cache = getattr(config, "cache", None)
    if cache is None:
        return None
    try:
        place = config.rootpath / Path(os.path.expandvars(config.getini("cache_dir"))).expanduser()
        require_outside(place, gate.inputs())
        require_no_links(place / "d" / "geomcheck", below=place)  # where pytest makes it
        directory: Path = cache.mkdir("geomcheck")
    except (UsageError, OSError) as error:
        gate.notices.append(f"nothing is cached: {error}; name a directory with --geom-cache")
        return None
    return directory
