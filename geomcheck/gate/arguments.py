"""From the command line to suite files: which are candidates, and which were named on purpose."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator
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
            candidates = dict.fromkeys(_project_suites(config) or _shipped_suites(config), False)
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
    if not own and source in shipped_suites():
        _refuse_passed_over(config, {source})
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


def _shipped_suites(config: pytest.Config) -> Iterable[Path]:
    """The shipped suites. Raises UsageError where the project has suites, and pytest's rootdir is not the project."""
    _refuse_passed_over(config)
    return shipped_suites().values()


def _refuse_passed_over(config: pytest.Config, names: Container[str] | None = None) -> None:
    """Refuse a shipped suite in place of one, of these `names`, in a directory around the rootdir or the user's."""
    here = config.invocation_params.dir
    around = dict.fromkeys([*_inside_repository(here), *_inside_repository(config.rootpath)])
    for directory in around:
        suites = (path for pattern in DEFAULT_GLOBS for path in sorted(directory.glob(pattern)))
        for path in suites:
            if (names is None or path.stem in names) and _is_suite(path):
                raise UsageError(
                    f"pytest's rootdir is {config.rootpath}{f', by {config.inipath}' if config.inipath else ''}, which "
                    f"has no {DEFAULT_GLOBS[0]}: the suites of {directory}, such as {path.name}, would be passed over "
                    f"for shipped ones. Run pytest with --rootdir={directory}, set geom_suites in the ini file, or "
                    "name the suite with --geom-suite=FILE"
                )


def _inside_repository(directory: Path) -> Iterator[Path]:
    """`directory` and those above it, up to the one that holds ``.git``."""
    for above in (directory, *directory.parents):
        yield above
        if (above / ".git").exists():
            return


def _is_suite(path: Path) -> bool:
    """Whether this is a suite, and no other YAML file."""
    try:
        with path.open("rb") as file:
            return re.search(rb"""(?m)^[{\s]*["']?geomcheck["']?\s*:""", file.read(1 << 16)) is not None
    except OSError:
        return False


def _real(path: Path) -> Path:
    """`path` with links followed; other than `Path.resolve`, it takes a circle of links as it is."""
    return Path(os.path.realpath(path))


def _absolute(config: pytest.Config, argument: str) -> Path:
    return config.invocation_params.dir / str(argument).split("::", maxsplit=1)[0]
