"""``geomcheck init``: look at a directory of runs, and set up a project that judges them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch, fnmatchcase
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from geomcheck._text import plural
from geomcheck.checkpoints import BaseWeights
from geomcheck.cli.means import Means
from geomcheck.cli.options import MEASURING, add_command
from geomcheck.errors import GeomcheckError, SuiteError, UsageError
from geomcheck.files import replacing, require_writable
from geomcheck.gate.configuration import configuration
from geomcheck.gate.project import project_suites
from geomcheck.gate.values import Values
from geomcheck.measurement.machine import processors
from geomcheck.options import Option
from geomcheck.report.safe import printable
from geomcheck.report.text.scaffold import cost_of, seen
from geomcheck.scaffold import File, Found, Group, Survey, checks, groups, ini_lines, survey, workflow
from geomcheck.scaffold.files import installed_from
from geomcheck.suite import Suite, load_suite

MOST_SECONDS = 120
MOST_BYTES = 8 * 2**30
"""What a calibration may take and read to be done at once; a dearer one is left to its own command."""

WITHOUT = Option(
    name="without",
    metavar="NAME",
    repeatable=True,
    help="a run that is no good one, by its name or a glob: nothing is calibrated on it",
)
DRY = Option(name="dry-run", flag=True, help="say what would be done, show the files, and write nothing")


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "look at a directory of runs, and write suites, a workflow and ini lines for them"
    parser = add_command(commands, "init", run, about, WITHOUT, DRY, *MEASURING)
    held = "directory that holds runs, or one run (default: the working directory)"
    parser.add_argument("dir", metavar="DIR", nargs="?", default=".", help=held, type=os.path.expanduser)


def run(options: argparse.Namespace) -> None:
    """Look, say what is there, write what is not there yet. Raises GeomcheckError."""
    values = Values(configuration(), vars(options), "--")
    base = values.base()
    found = survey(Path(options.dir), base=base)
    _require_outside_of_runs(found)
    wanted = [run for run in found.runs if not _is_named(run, options.without)]
    together = groups(wanted, found.directory.resolve().name)
    _print(seen(found, together, [run for run in found.runs if run not in wanted]))
    project = _Project(values.config, found, together, base if options.base else None, options)
    project.set_up()


def _is_named(run: Found, names: Sequence[str]) -> bool:
    return any(
        fnmatchcase(name, glob)
        for name in (run.name, run.run.name, str(run.path), "/".join(run.parts))
        for glob in names
    )


def _require_outside_of_runs(found: Survey) -> None:
    here = Path.cwd().resolve()
    for place in [*(run.path for run in found.runs), *found.models]:
        if here.is_relative_to(place.resolve()):
            raise UsageError(
                f"the working directory lies in {place.resolve()}, which is never written to; go to your project, and "
                f"run there: geomcheck init {quote(str(place.resolve()))}"
            )


class _Project:
    """The working directory, and what it gets."""

    def __init__(
        self,
        config: pytest.Config,
        found: Survey,
        together: Sequence[Group],
        given: BaseWeights | None,
        options: argparse.Namespace,
    ) -> None:
        self._config, self._found, self._groups, self._options = config, found, together, options
        self._base = str(options.base) if given and options.base else ""
        self._suites = dict(_loaded(project_suites(config)))
        self._judging: dict[str, Path] = {}

    def set_up(self) -> None:
        """Write the files, and say what comes next."""
        files = [file for file in self._files() if self._is_new(file)]
        banded = [group for group in self._groups if self._wants_bands(group)]
        for path in (*(file.path for file in files), *(_suite_of(group) for group in banded)):
            require_writable(path, inputs=[(f"the run {run.path}", run.path) for run in self._found.runs])
        if self._options.dry_run:
            for file in files:
                _print([f"would write  {file.path}  {file.about}", *(f"    {line}" for line in file.text.splitlines())])
            for group in banded:
                _print([f"would calibrate {plural(len(group.runs), 'run')}: {self._calibrate(group)}"])
        else:
            for file in files:
                _write(file)
            for group in banded:
                self._bands(group)
        self._ini()
        _print(["", "Next:", *(f"  {line}" for line in self._next())])

    def _files(self) -> Iterator[File]:
        """What needs no calibration."""
        if not self._suites:
            yield checks()
        else:
            names = ", ".join(_shown(path) for path in self._suites)
            _print([f"left alone   {names}: the project has suites, and none is added but bands"])
        root = _repository(Path.cwd())
        if root is None:
            _print(
                ["no workflow  this is no git repository; geomcheck's docs/guides/ci-gate.md has one for any system"]
            )
        elif root != Path.cwd().resolve():
            _print([f"no workflow  it belongs in {root}, the root of the repository: run geomcheck init there"])
        elif (root / ".gitlab-ci.yml").exists():
            _print(["no workflow  .gitlab-ci.yml is there: geomcheck's docs/guides/ci-gate.md has the job for GitLab"])
        else:
            yield workflow(_smoke(self._found, self._groups), base=self._base, source=installed_from())

    def _is_new(self, file: File) -> bool:
        if not os.path.lexists(file.path):
            return True
        _print([f"left alone   {file.path}: it is there already"])
        return False

    def _wants_bands(self, group: Group) -> bool:
        """Whether to calibrate it now: it can be, nothing judges it yet, and it is cheap."""
        if not group.can_be_calibrated:
            return False
        target, names = _suite_of(group), [run.name for run in group.runs]
        loaded = ((path, suite) for path, suite in self._suites.items() if suite is not None)
        judges = (path for path, suite in loaded if suite.applies_to and all(map(suite.applies, names)))
        if os.path.lexists(target):
            _print([f"left alone   {target}: it is there already"])
        elif judge := next(judges, None):
            _print([f"no bands     {group.name}: {_shown(judge)} applies to its runs already"])
        elif self._seconds(group) > MOST_SECONDS or _bytes(group) > MOST_BYTES:
            what = cost_of(_bytes(group), self._seconds(group))
            _print(
                [f"no bands     {group.name}: that would {what}. When there is time:", f"  {self._calibrate(group)}"]
            )
        else:
            return True
        return False

    def _seconds(self, group: Group) -> float:
        return 3600 * sum(run.core_hours for run in group.runs) / processors()

    def _calibrate(self, group: Group) -> str:
        """The command that calibrates a group."""
        paths = " ".join(quote(str(run.path)) for run in group.runs)
        applies = "".join(f" --applies-to={quote(pattern)}" for pattern in self._applies_to(group))
        base = f" --base={quote(self._base)}" if self._base else ""
        return f"geomcheck calibrate {paths}{base}{applies} -o {_suite_of(group)}"

    def _applies_to(self, group: Group) -> list[str]:
        """Patterns of the names of its runs. Where these are like another group's, none: the suite is to be named. None
        either, so that it judges all, of the only group where what its names have in common is of any run: ``good-*``.
        """
        from geomcheck.calibration.runs import common_pattern  # with scipy, which takes a second

        if len(self._groups) == 1 and not common_pattern([run.name for run in group.runs]):
            return []
        if group.pattern:
            return [group.pattern]
        return [f"{group.name}*"] if self._is_ambiguous(group) else []

    def _is_ambiguous(self, group: Group) -> bool:
        return not group.pattern and sum(other.can_be_calibrated for other in self._groups) > 1

    def _bands(self, group: Group) -> None:
        from geomcheck.calibration import calibrate  # with scipy, which takes a second

        paths, target = [str(run.path) for run in group.runs], _suite_of(group)
        means = Means(self._options, paths)
        try:
            with means.measuring() as how:
                found = calibrate(paths, base=means.base, name=group.name, applies_to=self._applies_to(group), **how)
        except GeomcheckError as error:
            _print([f"no bands     {group.name}: {error}"])
            return
        found.write(target)
        self._judging[group.name] = target
        _print([f"wrote        {target}  {plural(found.bands, 'band')} from {plural(len(group.runs), 'run')}"])
        again = f"geomcheck init {quote(self._options.dir)} --without=NAME"
        _print([f"             if one of them was not good: rm {target}; {again}"])
        _print(f"             {warning}" for warning in found.warnings)

    def _ini(self) -> None:
        """Write a pytest.ini where there is no configuration at all; print the lines otherwise."""
        settings = self._settings()
        here = Path.cwd().resolve()
        inipath = self._config.inipath or next((p for p in (here / "pyproject.toml",) if p.exists()), None)
        lines = ini_lines(settings, toml=inipath is not None and inipath.suffix == ".toml")
        if not lines:
            return
        if inipath is None and not self._options.dry_run:
            _write(File(Path("pytest.ini"), "\n".join([*lines, ""]), "what pytest should know"))
            return
        what = f"Add to {_shown(inipath)}:" if inipath else "would write  pytest.ini"
        _print(["", what, *(f"  {line}" for line in lines)])

    def _settings(self) -> dict[str, str]:
        """What pytest would not find by itself."""
        root, here = self._config.rootpath.resolve(), Path.cwd().resolve()
        settings = {}
        entries: list[str] = self._config.getini("geom_suites")
        own = os.path.relpath(here / "suites", root)
        covered = any(fnmatch(f"{own}/checks.yaml", entry) or own == entry.rstrip("/") for entry in entries)
        if not covered and (entries or own != "suites"):
            settings["geom_suites"] = " ".join([*entries, f"{own}/*.yaml"])
        if self._base:
            place = Path(self._base)
            settings["geom_base"] = os.path.relpath(place.resolve(), root) if place.exists() else self._base
        return settings

    def _next(self) -> Iterator[str]:
        """The command to go on with."""
        runs, here = self._found.runs, quote(self._options.dir)
        if not runs:
            yield f"train, and then: geomcheck init {'RUNS-DIRECTORY' if self._options.dir == '.' else here}"
            return
        ready = [run for run in runs if run.seen.base]
        if not ready:
            model = next((quote(str(path)) for path in self._found.models), "PATH-OF-W0")
            yield f"geomcheck init {here} --base={model}"
            return
        group = next((g for g in self._groups if g.name in self._judging), None)
        chosen = group.runs[-1] if group else min(ready, key=lambda run: (bool(run.unfinished), len(run.parts)))
        named = f" --geom-suite={group.name}" if group and self._is_ambiguous(group) else ""
        base = f" --geom-base={quote(self._base)}" if self._base and self._options.dry_run else ""
        yield f"pytest --geom-run={quote(str(chosen.path))}{base}{named}"


def _loaded(paths: Sequence[Path]) -> Iterator[tuple[Path, Suite | None]]:
    """The suites of the project; None for one that is invalid, which is told."""
    for path in paths:
        try:
            yield path, load_suite(path)
        except SuiteError as error:
            _print([f"left alone   {_shown(path)} is no valid suite: {str(error).splitlines()[0]}"])
            yield path, None


def _suite_of(group: Group) -> Path:
    return Path("suites") / f"{group.name}.yaml"


def _bytes(group: Group) -> int:
    return sum(run.bytes_read for run in group.runs)


def _smoke(found: Survey, together: Sequence[Group]) -> str:
    """Where a workflow's own run goes: beside the others, under a name that their suite applies to."""
    pattern = next((group.pattern for group in together if "*" in group.pattern and group.can_be_calibrated), "*")
    place = found.directory if not found.single and found.runs and found.directory != Path(".") else Path("ckpts")
    return (place / pattern.replace("*", "ci")).as_posix()


def _repository(directory: Path) -> Path | None:
    """The root of the git repository around a directory."""
    here = directory.resolve()
    return next((above for above in (here, *here.parents) if (above / ".git").exists()), None)


def _shown(path: Path) -> str:
    return os.path.relpath(path)


def _write(file: File) -> None:
    with replacing(file.path) as partial:
        partial.write_text(file.text, encoding="utf-8")
    _print([f"wrote        {file.path}  {file.about}"])


def _print(lines: Sequence[str] | Iterator[str]) -> None:
    for line in lines:
        print(printable(line))
