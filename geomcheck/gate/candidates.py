"""What the user asked to be judged by: suite files, which of them were named on purpose, and directories."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from geomcheck.errors import UsageError
from geomcheck.files import displayed
from geomcheck.gate.project import calls_itself, project_suites, refuse_passed_over, suites_in
from geomcheck.report.safe import printable
from geomcheck.suite import Expectation, find_suite, shipped_suites

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Candidate:
    """A suite file that may be collected; one that the user `named` judges every run, and `applies_to` is not asked."""

    file: Path
    node_id: str
    named: bool


class Collection(NamedTuple):
    """A suite file for pytest: its node id, the runs that it judges, and whether the user named it."""

    node_id: str
    runs: Sequence[str]
    named: bool


def item_name(expectation: Expectation, run: str, runs: Sequence[str]) -> str:
    """What the item of an expectation on one of `runs` is called: its id, and which run where there are several."""
    return expectation.id if len(runs) == 1 else f"{expectation.id}[{printable(run)}]"


class Asked(NamedTuple):
    """What the command line asks for: suite files, and the directories that it names."""

    candidates: Sequence[Candidate]
    directories: Sequence[Path]


def asked(config: pytest.Config) -> Asked:
    """Find the candidate suites.

    Raises:
        UsageError: there is no such suite, or pytest's rootdir is not the project.
    """
    here, option = config.invocation_params.dir, config.option
    paths = [path_of(argument, here)[0] for argument in option.file_or_dir]
    named = {named_suite(config, source): True for source in option.geom_suite}
    candidates = _among(paths, config) if paths else {}
    if not paths and not named:
        candidates = dict.fromkeys(_unnamed_suites(config), False)
    kept = {path: on_purpose for path, on_purpose in candidates.items() if on_purpose or not _ignored(path, config)}
    if candidates and not paths and not kept:
        raise UsageError("every suite is left out, by --ignore, --ignore-glob or a conftest: no run would be judged")
    files = {real(path): on_purpose for path, on_purpose in {**kept, **named}.items()}
    ids = _node_ids(list(files), real(config.rootpath))
    return Asked(
        [Candidate(file, ids[file], on_purpose) for file, on_purpose in files.items()],
        [real(path) for path in paths if path.is_dir()],
    )


def path_of(argument: str, here: Path) -> tuple[Path, str]:
    """The path of an argument of pytest, and what selects in it: a path that exists may contain ``::`` itself."""
    parts = argument.split("::")
    heads = ("::".join(parts[:count]) for count in range(len(parts), 0, -1))
    head = next((head for head in heads if os.path.exists(here / head)), parts[0])
    return here / head, argument[len(head) :]


def real(path: Path) -> Path:
    """`path` with links followed; other than `Path.resolve`, it takes a circle of links as it is."""
    return Path(os.path.realpath(path))


def lies_in(directory: Path, path: Path) -> bool:
    """Whether a file lies in a `directory` whose links are followed: by its own path, or by what that leads to."""
    return any(real(parent) == directory for parent in path.parents) or real(path).is_relative_to(directory)


def _ignored(path: Path, config: pytest.Config) -> bool:
    """Whether ``--ignore`` or ``--ignore-glob`` leave out a file or a directory above it, or a conftest the file."""
    here, option = config.invocation_params.dir, config.option
    places = [real(path), *real(path).parents]
    ignored = {real(here / place) for place in option.ignore or ()}
    globs = [str(here / glob) for glob in option.ignore_glob or ()]
    if ignored.intersection(places) or any(fnmatch(str(place), glob) for place in places for glob in globs):
        return True
    return bool(config.hook.pytest_ignore_collect(collection_path=path, config=config))


def _node_ids(files: Sequence[Path], root: Path) -> dict[Path, str]:
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
    project = [] if here.is_file() else project_suites(config)
    own = [here] if here.is_file() else [path for path in project if path.stem == source]
    if not own and source in shipped_suites():
        refuse_passed_over(config, {source})
        if named := next((path for path in project if calls_itself(path, source)), None):
            raise UsageError(
                f"suite {source!r} is shipped, and {displayed(named)} has that name; give --geom-suite=PATH"
            )
    if len({real(path) for path in own}) > 1:
        raise UsageError(f"suite {source!r} may be {' or '.join(map(displayed, own))}; give the path of one")
    names = [path.stem for path in project]
    return own[0] if own else find_suite(source, beside=config.invocation_params.dir, own=names)


def _among(paths: Sequence[Path], config: pytest.Config) -> dict[Path, bool]:
    """Suite files among path arguments: files named outright, and the suites of directories.

    Those are the project's below them, and those that lie in them.
    """
    project, found = project_suites(config), dict[Path, bool]()
    for directory in (path for path in paths if path.is_dir()):
        below = [suite for suite in project if lies_in(real(directory), suite)]
        found |= dict.fromkeys([*below, *suites_in(directory)], False)
    return found | {path: True for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()}


def _unnamed_suites(config: pytest.Config) -> Iterable[Path]:
    """The suites of the project, or the shipped ones. Raises UsageError where pytest's rootdir is not the project."""
    found = project_suites(config)
    if not found:
        refuse_passed_over(config)
        return shipped_suites().values()
    here, option = config.invocation_params.dir, config.option
    if not (option.rootdir or option.inifilename or real(here).is_relative_to(real(config.rootpath))):
        raise UsageError(
            f"pytest's rootdir is {config.rootpath}, because of a path that stands alone, such as the value of an "
            f"option: the suites there would judge the run, and not those of {here}. Write that option with `=`, or "
            f"run pytest with --rootdir"
        )
    return found
