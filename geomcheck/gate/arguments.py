"""From the command line to suite files: which are candidates, and which were named on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from geomcheck.errors import UsageError
from geomcheck.suite import find_suite, shipped_suites

CANDIDATES = pytest.StashKey[dict[Path, bool]]()
"""Suite files that may be collected; True where the user named the file, so that `applies_to` is not asked."""


def add_suites(config: pytest.Config, args: list[str]) -> None:
    """Find the candidate suites, remember them, and add those that the user did not name to `args`.

    Raises:
        pytest.UsageError: ``--geom-run DIR`` instead of ``--geom-run=DIR``, or no such suite.
    """
    _refuse_detached_values(config)
    paths = [_absolute(config, argument) for argument in config.known_args_namespace.file_or_dir]
    try:
        named = {
            find_suite(s, beside=config.invocation_params.dir): True for s in config.known_args_namespace.geom_suite
        }
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    candidates = _under(paths, config) if paths else {}
    if not paths and not named:
        candidates = dict.fromkeys(_project_suites(config) or shipped_suites().values(), False)
    config.stash[CANDIDATES] = {path.resolve(): explicit for path, explicit in {**candidates, **named}.items()}
    known = {path.resolve() for path in paths}
    args += [str(path) for path in config.stash[CANDIDATES] if not any(path.is_relative_to(place) for place in known)]


def _refuse_detached_values(config: pytest.Config) -> None:
    """pytest looks for its rootdir among detached values: ``--geom-run DIR`` would move it into the run."""
    for option in ("--geom-run", "--geom-base", "--geom-reference"):
        arguments = [str(argument) for argument in config.invocation_params.args]
        if option in arguments:
            following = arguments[arguments.index(option) + 1 :][:1]
            value = following[0] if following else "PATH"
            raise pytest.UsageError(f"write {option}={value}, with `=`: a detached path would move pytest's rootdir")


def _under(paths: list[Path], config: pytest.Config) -> dict[Path, bool]:
    """Suite files among path arguments: files named outright, and the project's suites below directories."""
    found = {
        suite: False
        for suite in _project_suites(config)
        for path in paths
        if path.is_dir() and suite.resolve().is_relative_to(path.resolve())
    }
    return found | {path: True for path in paths if path.suffix in {".yaml", ".yml"} and path.is_file()}


def _project_suites(config: pytest.Config) -> list[Path]:
    globs: Iterable[str] = config.getini("geom_suites")
    return sorted({path for pattern in globs for path in config.rootpath.glob(pattern) if path.is_file()})


def _absolute(config: pytest.Config, argument: str) -> Path:
    return config.invocation_params.dir / str(argument).split("::", maxsplit=1)[0]
