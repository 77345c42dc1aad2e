"""From the command line to suite files: which are candidates, and which were named on purpose."""

from __future__ import annotations

import os
from collections.abc import Iterable
from glob import glob
from pathlib import Path

import pytest

from geomcheck.errors import UsageError
from geomcheck.suite import find_suite, shipped_suites

PATH_OPTIONS = (
    "--geom-run",
    "--geom-base",
    "--geom-reference",
    "--geom-suite",
    "--geom-json",
    "--geom-record",
    "--geom-cache",
)

DEFAULT_GLOBS = ["suites/*.yaml", "suites/*.yml"]

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
        named = {_named_suite(config, source): True for source in config.known_args_namespace.geom_suite}
        candidates = _under(paths, config) if paths else {}
        if not paths and not named:
            candidates = dict.fromkeys(_project_suites(config) or shipped_suites().values(), False)
    except UsageError as error:
        raise pytest.UsageError(f"geomcheck: {error}") from None
    config.stash[CANDIDATES] = {_real(path): explicit for path, explicit in {**candidates, **named}.items()}
    given = {_real(path) for path in paths}
    covered = {path for path in config.stash[CANDIDATES] if path in candidates and paths}
    args += [str(path) for path in config.stash[CANDIDATES] if path not in given | covered]


def _named_suite(config: pytest.Config, source: str) -> Path:
    """The suite that ``--geom-suite`` names: a file, or a suite of the project before a shipped one."""
    here = config.invocation_params.dir / source
    own = [here] if here.is_file() else [path for path in _project_suites(config) if path.stem == source]
    return own[0] if own else find_suite(source, beside=config.invocation_params.dir)


def _refuse_detached_values(config: pytest.Config) -> None:
    """pytest looks for its rootdir among detached values: ``--geom-run DIR`` would move it into the run."""
    for option in PATH_OPTIONS:
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
        if path.is_dir() and _real(suite).is_relative_to(_real(path))
    }
    return found | {path: True for path in paths if path.suffix in {".yaml", ".yml"} and path.is_file()}


def _project_suites(config: pytest.Config) -> list[Path]:
    """The suites of the project. Raises UsageError where the ini file says where they are, and they are not there."""
    configured: Iterable[str] = config.getini("geom_suites")
    globs = list(configured) or DEFAULT_GLOBS
    root = config.rootpath
    found = sorted(
        {root / name for pattern in globs for name in glob(pattern, root_dir=root) if (root / name).is_file()}
    )
    if configured and not found:
        raise UsageError(f"geom_suites = {' '.join(globs)} in the ini file matches no file in {config.rootpath}")
    return found


def _real(path: Path) -> Path:
    """`path` with links followed; other than `Path.resolve`, it takes a circle of links as it is."""
    return Path(os.path.realpath(path))


def _absolute(config: pytest.Config, argument: str) -> Path:
    return config.invocation_params.dir / str(argument).split("::", maxsplit=1)[0]
