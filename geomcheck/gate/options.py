"""From pytest's configuration to a gate."""

from __future__ import annotations

import pytest

from geomcheck.checkpoints import BaseModel, open_base
from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.gate.arguments import CANDIDATES
from geomcheck.gate.session import Gate
from geomcheck.gate.subjects import Subject, open_subject, open_subjects
from geomcheck.report import html


def open_gate(config: pytest.Config) -> Gate:
    """Open the runs that the options name; surveys them, reads no weights.

    Raises:
        UsageError: no such run, base or reference, no suite for a run, or a bad value.
        RunError: a run cannot be trusted.
    """
    option = config.option
    return Gate(
        open_subjects(option.geom_run),
        config.stash[CANDIDATES],
        base=_base(config),
        reference=_reference(option.geom_reference) if option.geom_reference else None,
        workers=_workers(option.geom_workers or config.getini("geom_workers")),
        also=(html.wanted,) if option.geom_report else (),
    )


def _base(config: pytest.Config) -> BaseModel | None:
    """W0 by the option, or else by the ini file, where a path counts from the rootdir."""
    if config.option.geom_base is not None:
        return open_base(config.option.geom_base, "--geom-base")
    in_ini = config.getini("geom_base")
    return open_base(config.rootpath / in_ini, "geom_base of the ini file") if in_ini else None


def _reference(path: str) -> Subject:
    try:
        return open_subject(path)
    except GeomcheckError as error:
        raise UsageError(f"--geom-reference: {error}") from None


def _workers(value: str | None) -> int | None:
    if not value:
        return None
    if not value.isdecimal() or len(value) > 6 or int(value) < 1:
        raise UsageError(f"--geom-workers={value}: give a whole number of local workers, 1 or more")
    return int(value)
