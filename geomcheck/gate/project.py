"""The suites of a project: those that its ini file names, or those where projects keep them."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator
from glob import escape, glob
from pathlib import Path

import pytest

from geomcheck.errors import UsageError
from geomcheck.options import OPTIONS, closest

DEFAULT_GLOBS = ("suites/*.yaml", "suites/*.yml")

INI_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")

SUITE = re.compile(rb"""(?m)^[{\s]*["']?(geomcheck|expect)["']?\s*:""")
"""What tells a suite from other YAML files, be it one that lacks something."""

SETTING = re.compile(rb"""(?m)^\s*["']?geom_suites["']?\s*=""")
"""What an ini file has that says where suites are."""

VARIABLE = re.compile(r"\$(?:\w+|\{[^}]*\})")


def project_suites(config: pytest.Config) -> list[Path]:
    """The suites of the project. Raises UsageError where an entry of the ini file means no file."""
    entries: list[str] = config.getini("geom_suites")
    if not entries:
        return _matching(config.rootpath, DEFAULT_GLOBS)
    found = {entry: _of_entry(config.rootpath, entry) for entry in entries}
    empty = [entry for entry, files in found.items() if not files and entry not in DEFAULT_GLOBS]
    if not any(found.values()):
        empty = entries
    if empty:
        raise UsageError(
            f"geom_suites in the ini file: {' and '.join(f'`{entry}`' for entry in empty)} "
            f"{'names' if len(empty) == 1 else 'name'} no suite in {config.rootpath}"
            f"{': spaces separate entries, not commas' * any(',' in entry for entry in empty)}"
        )
    return list(dict.fromkeys(file for files in found.values() for file in files))


def suites_in(directory: Path) -> list[Path]:
    """The suites of a directory: those in it with all below, or else those in its ``suites``; other YAML is passed."""
    if any(map(is_suite, _matching(directory, ("*.yaml", "*.yml")))):
        found = _matching(directory, ("**/*.yaml", "**/*.yml"))
    else:
        found = _matching(directory, DEFAULT_GLOBS)
    return [path for path in found if is_suite(path)]


def require_known_settings(config: pytest.Config) -> None:
    """Refuse an ini value that geomcheck does not have, of which pytest only warns. Raises UsageError."""
    known = [declared.ini_key for declared in OPTIONS if declared.ini]
    attribute = "_inicfg" if hasattr(config, "_inicfg") else "inicfg"  # pytest 9.2 renamed it
    written: Iterable[str] = getattr(config, attribute, ())
    for name in written:
        if name.startswith("geom_") and name not in known and (meant := closest(name, known)):
            raise UsageError(f"there is no {name} for the ini file{meant}")


def calls_itself(path: Path, name: str) -> bool:
    """Whether a suite has this `name`, whatever its file is called."""
    return _holds(path, re.compile(rb"""(?m)^name\s*:\s*["']?""" + re.escape(name.encode()) + rb"""["']?\s*(#.*)?$"""))


def is_suite(path: Path) -> bool:
    """Whether a file is meant as a suite, and is no other YAML file."""
    return _holds(path, SUITE)


def expanded(text: str, setting: str, *, quote: bool = False) -> str:
    """A value of the ini file with ``~`` and variables replaced; `quote` what they stand for, where it is a glob.

    Raises:
        UsageError: a variable is not set.
    """

    def value(variable: re.Match[str]) -> str:
        text = os.path.expandvars(variable[0])
        if text == variable[0]:
            raise UsageError(f"{setting} in the ini file: the variable {text} is not set")
        return escape(text) if quote else text

    user, slash, rest = VARIABLE.sub(value, text).partition("/")
    home = os.path.expanduser(user) if user.startswith("~") else ""
    return ((escape(home) if quote else home) or user) + slash + rest


def refuse_passed_over(config: pytest.Config, names: Container[str] | None = None) -> None:
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


def _of_entry(root: Path, entry: str) -> list[Path]:
    """The files that an entry of ``geom_suites`` means: a file, a glob, or a directory with the suites in it."""
    place = root / expanded(entry, "geom_suites")
    if place.is_file():
        return [place]
    pattern = expanded(entry, "geom_suites", quote=True)
    return _matching(root, [f"{pattern}/*.yaml", f"{pattern}/*.yml"] if place.is_dir() else [pattern])


def _matching(root: Path, globs: Iterable[str]) -> list[Path]:
    found = {root / name for pattern in globs for name in glob(pattern, root_dir=root, recursive=True)}
    return sorted(path for path in found if path.is_file())


def _inside_repository(directory: Path) -> Iterator[Path]:
    """`directory` and those above it, up to the one that holds ``.git``."""
    for above in (directory, *directory.parents):
        yield above
        if (above / ".git").exists():
            return


def _holds(path: Path, mark: re.Pattern[bytes]) -> bool:
    try:
        with path.open("rb") as file:
            return mark.search(file.read(1 << 16)) is not None
    except OSError:
        return False
