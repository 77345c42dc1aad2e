"""From the command line to suite files: which are candidates, and which were named on purpose."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import pytest

from geomcheck.errors import UsageError
from geomcheck.options import miswritten, typed
from geomcheck.suite import find_suite, shipped_suites

DEFAULT_GLOBS = ["suites/*.yaml", "suites/*.yml"]

INI_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")

SUITE = re.compile(rb"""(?m)^[{\s]*["']?geomcheck["']?\s*:""")
"""What tells a suite from other YAML files."""

SETTING = re.compile(rb"""(?m)^\s*["']?geom_suites["']?\s*=""")
"""What an ini file has that says where suites are."""


@dataclass(frozen=True)
class Candidate:
    """A suite file that may be collected; one that the user `named` judges every run, and `applies_to` is not asked."""

    file: Path
    node_id: str
    named: bool


CANDIDATES = pytest.StashKey[list[Candidate]]()


def add_suites(config: pytest.Config, args: list[str]) -> None:
    """Find the candidate suites, remember them, and add those that the user did not name to `args`.

    Raises:
        pytest.UsageError: a path that does not follow its option after ``=``, or no such suite.
    """
    if problem := miswritten(typed(config)):
        raise pytest.UsageError(problem)
    here, known = config.invocation_params.dir, config.known_args_namespace
    paths = [here / str(argument).split("::", maxsplit=1)[0] for argument in known.file_or_dir]
    try:
        named = {named_suite(config, source): True for source in known.geom_suite}
        candidates = _under(paths, config) if paths else {}
        if not paths and not named:
            candidates = dict.fromkeys(_unnamed_suites(config), False)
    except UsageError as error:
        raise pytest.UsageError(f"geomcheck: {error}") from None
    files = {_real(path): explicit for path, explicit in {**candidates, **named}.items()}
    ids = _node_ids(files, _real(config.rootpath))
    config.stash[CANDIDATES] = [Candidate(file, ids[file], explicit) for file, explicit in files.items()]
    covered = {_real(path) for path in (*paths, *candidates)} if paths else set()
    args += [str(file) for file in files if file not in covered]


def _node_ids(files: Collection[Path], root: Path) -> dict[Path, str]:
    """The node id of each suite file: its path from the rootdir.

    Outside the rootdir, where pytest has no id for a file, it is the end of its path, as much as tells it from others.
    """
    outside = [file for file in files if not file.is_relative_to(root)]
    ids = {file: file.relative_to(root).as_posix() for file in files if file not in outside}
    for file in outside:
        others = [other for other in outside if other != file]
        ends = (file.parts[-count:] for count in range(1, len(file.parts) + 1))
        ids[file] = "/".join(next(end for end in ends if all(other.parts[-len(end) :] != end for other in others)))
    return ids


def named_suite(config: pytest.Config, source: str) -> Path:
    """The suite that ``--geom-suite`` names: a file, or a suite of the project before a shipped one."""
    here = config.invocation_params.dir / source
    project = [] if here.is_file() else _project_suites(config)
    own = [here] if here.is_file() else [path for path in project if path.stem == source]
    if not own and source in shipped_suites():
        _refuse_passed_over(config, {source})
    names = [path.stem for path in project]
    return own[0] if own else find_suite(source, beside=config.invocation_params.dir, own=names)


def _under(paths: list[Path], config: pytest.Config) -> dict[Path, bool]:
    """Suite files among path arguments: files named outright, and the project's suites below directories."""
    directories = [_real(path) for path in paths if path.is_dir()]
    found = {suite: False for suite in _project_suites(config) if any(map(_real(suite).is_relative_to, directories))}
    return found | {path: True for path in paths if path.suffix in {".yaml", ".yml"} and path.is_file()}


def _project_suites(config: pytest.Config) -> list[Path]:
    """The suites of the project. Raises UsageError where the ini file says where they are, and they are not there."""
    configured = [os.path.expanduser(pattern) for pattern in config.getini("geom_suites")]
    found = _matching(config.rootpath, configured or DEFAULT_GLOBS)
    if configured and not found:
        raise UsageError(f"geom_suites = {' '.join(configured)} in the ini file matches no file in {config.rootpath}")
    return found


def _matching(root: Path, globs: Iterable[str]) -> list[Path]:
    found = {root / name for pattern in globs for name in glob(pattern, root_dir=root)}
    return sorted(path for path in found if path.is_file())


def _unnamed_suites(config: pytest.Config) -> Iterable[Path]:
    """The suites of the project, or the shipped ones. Raises UsageError where pytest's rootdir is not the project."""
    found = _project_suites(config)
    if not found:
        _refuse_passed_over(config)
        return shipped_suites().values()
    here, known = config.invocation_params.dir, config.known_args_namespace
    if not (known.rootdir or known.inifilename or _real(here).is_relative_to(_real(config.rootpath))):
        raise UsageError(
            f"pytest's rootdir is {config.rootpath}, because of a path that stands alone, such as the value of an "
            f"option: the suites there would judge the run, and not those of {here}. Write that option with `=`, or "
            f"run pytest with --rootdir"
        )
    return found


def _refuse_passed_over(config: pytest.Config, names: Container[str] | None = None) -> None:
    """Refuse a shipped suite in place of one, of these `names`, in a directory around the rootdir or the user's."""
    around = [*_inside_repository(config.invocation_params.dir), *_inside_repository(config.rootpath)]
    for directory in dict.fromkeys(around):
        suites = [p for p in _matching(directory, DEFAULT_GLOBS) if names is None or p.stem in names]
        marked = [(path, SUITE, f"such as {path.name}") for path in suites]
        marked += [(directory / name, SETTING, f"which {name} names") for name in INI_FILES if names is None]
        for path, mark, such in marked:
            if path != config.inipath and _holds(path, mark):
                raise UsageError(
                    f"pytest's rootdir is {config.rootpath}{f', by {config.inipath}' if config.inipath else ''}, which "
                    f"has no {DEFAULT_GLOBS[0]}: the suites of {directory}, {such}, would be passed over for shipped "
                    "ones. Write the values of options with `=`, run pytest with "
                    f"--rootdir={directory}, set geom_suites in the ini file, or name the suite with --geom-suite=FILE"
                )


def _inside_repository(directory: Path) -> Iterator[Path]:
    """`directory` and those above it, up to the one that holds ``.git``."""
    for above in (directory, *directory.parents):
        yield above
        if (above / ".git").exists():
            return


def is_suite(path: Path) -> bool:
    """Whether a file is meant as a suite, and is no other YAML file."""
    return _holds(path, SUITE)


def _holds(path: Path, mark: re.Pattern[bytes]) -> bool:
    try:
        with path.open("rb") as file:
            return mark.search(file.read(1 << 16)) is not None
    except OSError:
        return False


def _real(path: Path) -> Path:
    """`path` with links followed; other than `Path.resolve`, it takes a circle of links as it is."""
    return Path(os.path.realpath(path))
