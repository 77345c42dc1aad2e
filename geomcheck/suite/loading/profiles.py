"""Profiles of regimes from files, which `geomcheck calibrate --profile` writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainValidator

from geomcheck.diagnostics import load_metrics
from geomcheck.errors import SuiteError, UsageError
from geomcheck.files import displayed
from geomcheck.suite.conditions.limits import Demand, beyond
from geomcheck.suite.conditions.profile import EVIDENCE, PAPER, Profile
from geomcheck.suite.language.document import read_document
from geomcheck.suite.language.quantities import Refusal, Scale, quantity, spelled
from geomcheck.suite.language.statement import STRICT, Slug, Text, validate

FORMAT = 1
BUILT_IN = "paper"
"""The name of the built-in profiles among sources."""


def _version(raw: Any) -> int:
    if isinstance(raw, bool) or raw != FORMAT:
        raise Refusal(f"unknown format version {spelled(raw)}; this geomcheck reads `profile: {FORMAT}`")
    return FORMAT


def _positive(raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw < 10:
        raise Refusal(f"expected decades, above 0 and below 10; found {spelled(raw)}")
    return float(raw)


def _centres(raw: Any) -> dict[str, float]:
    names = [evidence.metric for evidence in EVIDENCE]
    if not isinstance(raw, dict) or sorted(raw) != sorted(names):
        raise Refusal(f"expected one figure of each of {', '.join(names)}")
    centres = {}
    for name in names:
        with Refusal.at(name):
            metric = load_metrics()[name]
            figure = quantity(raw[name], metric.unit)
            for refusal in beyond([Demand((), figure)], None, *metric.range({}), Scale(metric.unit, metric.is_share)):
                raise refusal
            centres[name] = figure.value
        if centres[name] <= 0:
            raise Refusal(f"a centre is above 0; found {spelled(raw[name])}", path=(name,))
    return centres


class _ProfileFile(BaseModel):
    """The keys of a profile file."""

    model_config = STRICT

    profile: Annotated[int, PlainValidator(_version)] = Field(description="Version of the profile format.")
    name: Slug = Field(description="The regime.")
    about: Text = Field("", description="Where the figures come from.")
    reach: Annotated[float, PlainValidator(_positive)] = Field(
        description="Decades from the centres within which a run is like this regime."
    )
    centres: Annotated[dict[str, float], PlainValidator(_centres)] = Field(description="A figure per diagnostic.")


def load_profiles(sources: Sequence[str | Path], *, beside: Path | None = None) -> tuple[Profile, ...]:
    """The profiles of all `sources`: ``paper``, profile files, or directories of them.

    Args:
        beside: relative paths count from here; by default from the working directory.

    Raises:
        UsageError: a source does not exist, or two profiles have one name.
        SuiteError: a file is invalid; carries every problem found.
    """
    found: dict[str, tuple[Profile, str]] = {}
    for source in sources:
        for profile, where in _of_source(source, beside or Path()):
            if profile.name in found:
                raise UsageError(f"regime {profile.name!r} has two profiles: {found[profile.name][1]} and {where}")
            found[profile.name] = profile, where
    return tuple(profile for profile, _ in found.values())


def _of_source(source: str | Path, beside: Path) -> list[tuple[Profile, str]]:
    if source == BUILT_IN:
        return [(profile, BUILT_IN) for profile in PAPER]
    path = beside / os.path.expanduser(source)
    directory = os.path.isdir(path)
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if directory else [path]
    if not files or not os.path.isfile(files[0]):
        kind = "a directory without profile files (*.yaml)" if directory else "no such file"
        raise UsageError(
            f"profiles {displayed(path)}: {kind}; give `{BUILT_IN}`, a profile file, or a directory of them"
        )
    return [(_read(file), displayed(file)) for file in files]


def _read(path: Path) -> Profile:
    statement, problems = validate(_ProfileFile, read_document(path, shown=displayed(path)), what="the profile")
    if problems:
        raise SuiteError(problems)
    return Profile(statement.name, statement.centres, statement.reach, statement.about)
