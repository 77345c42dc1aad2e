"""Where suites come from: the shipped ones by name, all others by path."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from geomcheck.errors import UsageError
from geomcheck.suite.language.quantities import did_you_mean

_PACKAGE = Path(__file__).resolve().parents[2]
SUFFIXES = (".yaml", ".yml")
PROJECT = "suites"
"""Directory where projects keep their suites, by default."""


def shipped_suites() -> dict[str, Path]:
    """The shipped suites by name: those in the wheel, or in a checkout those of its ``suites`` directory.

    Suites for geomcheck's own fixtures are not shipped: a user's run of such a name would be judged by them.
    """
    packed = _PACKAGE / "_suites"
    directory = packed if packed.is_dir() else _PACKAGE.parent / "suites"
    return {path.stem: path for path in sorted(directory.glob("*.yaml")) if not path.stem.startswith("tiny-")}


def find_suite(source: str | Path, *, beside: Path | None = None, own: Collection[str] = ()) -> Path:
    """The file that `source` means: a shipped name, or a path (relative ones count from `beside`, else the cwd).

    Where there is none, the message names the project's `own` suites too.

    Raises:
        UsageError: there is no such shipped suite or file.
    """
    shipped = shipped_suites()
    if isinstance(source, str) and source in shipped:
        return shipped[source]
    path = Path(os.path.expanduser(source))
    path = path if beside is None else beside / path
    if os.path.isfile(path):  # as Path.is_file, but False of a name that is too long
        return path
    if os.path.isdir(path):
        raise UsageError(f"suite {source} is a directory; give a suite file, or a shipped suite: {_listed(shipped)}")
    hint = _suffix_hint(source, path)
    if isinstance(source, str) and _is_name(source):
        hint = hint or did_you_mean(source, (*own, *shipped))
        ours = f"a suite of the project ({', '.join(sorted(own))})" if own else "a file"
        raise UsageError(f"no suite {source!r}: neither {ours} nor a shipped suite ({_listed(shipped)}){hint}")
    named = Path(source).stem
    hint = hint or (f"; did you mean `{named}`, which is shipped?" if named in shipped else "")
    raise UsageError(f"no suite file {path}; shipped suites: {_listed(shipped)}{hint}")


def _suffix_hint(source: str | Path, path: Path) -> str:
    tried = [(f"{source}{suffix}", Path(f"{path}{suffix}")) for suffix in SUFFIXES]
    if _is_name(str(source)):
        tried += [(f"{PROJECT}/{name}", path.parent / PROJECT / name) for name, _ in tried]
    there = (name for name, file in tried if os.path.isfile(file))
    return next((f"; did you mean `{name}`?" for name in there), "")


def _is_name(source: str) -> bool:
    return os.sep not in source and "/" not in source and not source.endswith(SUFFIXES)


def _listed(shipped: dict[str, Path]) -> str:
    return ", ".join(shipped) or "none"
