"""From pytest's configuration to a gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from geomcheck.checkpoints import BaseModel, Incomplete, open_base
from geomcheck.checkpoints.hub import is_hub_id
from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.gate.arguments import CANDIDATES
from geomcheck.gate.session import Gate
from geomcheck.gate.subjects import Subject, open_subject, open_subjects
from geomcheck.measurement.parquet import SUFFIX


def open_gate(config: pytest.Config) -> Gate:
    """Open the runs that the options name; surveys them, reads no weights.

    Raises:
        UsageError: no such run, base or reference, no suite for a run, or a bad value.
        RunError: a run cannot be trusted.
    """
    option = config.option
    incomplete: Incomplete = option.geom_incomplete or config.getini("geom_incomplete") or "skip"
    return Gate(
        open_subjects(option.geom_run, incomplete=incomplete),
        config.stash[CANDIDATES],
        base=_base(config),
        reference=_reference(option.geom_reference, incomplete) if option.geom_reference else None,
        missing_baseline=option.geom_reference if _is_missing_baseline(option.geom_reference) else None,
        workers=_workers(option.geom_workers or config.getini("geom_workers")),
        dequantize=option.geom_dequantize,
    )


def _base(config: pytest.Config) -> BaseModel | None:
    """W0 by the option, or else by the ini file, where a path counts from the rootdir."""
    if config.option.geom_base is not None:
        return open_base(config.option.geom_base, "--geom-base")
    in_ini = config.getini("geom_base")
    if not in_ini:
        return None
    local = config.rootpath / in_ini
    on_hub = not local.exists() and is_hub_id(in_ini)
    return open_base(in_ini if on_hub else local, "geom_base of the ini file")


def _is_missing_baseline(path: str | None) -> bool:
    """Whether `path` names a record that is not there yet; a run that is not there is a mistake."""
    return path is not None and Path(path).suffix == SUFFIX and not Path(path).exists()


def _reference(path: str, incomplete: Incomplete) -> Subject | None:
    if _is_missing_baseline(path):
        return None
    try:
        return open_subject(path, incomplete=incomplete)
    except GeomcheckError as error:
        raise UsageError(f"--geom-reference: {error}") from None


def _workers(value: str | None) -> int | None:
    if not value:
        return None
    if not value.isdecimal() or len(value) > 6 or int(value) < 1:
        raise UsageError(f"--geom-workers={value}: give a whole number of local workers, 1 or more")
    return int(value)
