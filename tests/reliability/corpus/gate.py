"""The gate as users run it, in this process, and whether what came out is what had to."""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.reliability.corpus.case import Case, Outcome
from tests.reliability.corpus.project import Project
from tests.reliability.corpus.seeds import lay_out

VERDICTS = "verdicts.json"
PLUGINS = [part for name in ("geomcheck.plugin", "no:cacheprovider", "no:unraisableexception") for part in ("-p", name)]
"""The last collects garbage three times a session, which would be most of what a case costs."""

FORBIDDEN = ("Traceback (most recent call last)", "INTERNALERROR", "\x1b[2J")
CODES = {
    Outcome.USAGE: (4,),
    Outcome.INVALID: (2,),
    Outcome.ERROR: (1,),
    Outcome.PART: (1,),
    Outcome.FAILED: (1,),
    Outcome.LEFT_OUT: (0,),
    Outcome.NOTHING: (5,),
    Outcome.COLLECTED: (0,),
    Outcome.SAME: (0,),
    Outcome.OTHER: (0, 1),
}


@dataclass(frozen=True)
class Result:
    """What a session left.

    Attributes:
        code: its exit code.
        output: everything that it printed.
        verdicts: by run and id; empty where it wrote none.
    """

    code: int
    output: str
    verdicts: Mapping[tuple[str, str], Mapping[str, Any]]


class Afterwards:
    """A pytest plugin that spoils a run once it was surveyed, before it is read."""

    def __init__(self, case: Case, project: Project) -> None:
        self._spoil = lambda: case.spoil(project)

    def pytest_collection_finish(self) -> None:
        self._spoil()


def session(root: Path, *arguments: str, plugins: tuple[object, ...] = ()) -> Result:
    """``pytest ARGUMENTS`` in `root`, without the plugins that happen to be installed."""
    output = io.StringIO()
    command = [*PLUGINS, "-s", f"--geom-json={VERDICTS}", *arguments]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict("os.environ", {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200"}))
        stack.enter_context(contextlib.chdir(root))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(output))
        code = int(pytest.main(command, plugins=list(plugins)))
    return Result(code, output.getvalue(), _verdicts(root / VERDICTS))


def run_case(case: Case, directory: Path) -> Result:
    """Lay out the case in `directory`, which must not exist, and run the gate on it."""
    project = lay_out(case.seed, directory)
    plugins = (Afterwards(case, project),) if case.moving else ()
    if not case.moving:
        case.spoil(project)
    subject = f"{case.run}.parquet" if case.seed == "record" and case.run == "opd" else case.run
    return session(project.root, f"--geom-run={subject}", "--geom-workers=1", *case.arguments, plugins=plugins)


def complaints(case: Case, result: Result) -> Iterator[str]:
    """Whatever is not as the case says it must be."""
    if result.code not in CODES[case.outcome]:
        yield f"exit code {result.code}"
    yield from (f"{text!r} is not in the output" for text in case.says if text not in result.output)
    yield from (f"{text!r} is in the output" for text in FORBIDDEN if text in result.output)
    commands = [line for line in result.output.splitlines() if line.lstrip().startswith(("::", "##["))]
    yield from (f"GitHub would take {line!r} for a command" for line in commands)
    outcomes = [verdict["outcome"] for verdict in result.verdicts.values()]
    yield from (
        f"{name} is not finite"
        for name, verdict in result.verdicts.items()
        if verdict["outcome"] == "passed" and not all(_finite(seen["value"]) for seen in verdict["observed"])
    )
    match case.outcome:
        case Outcome.ERROR if not outcomes or set(outcomes) != {"error"}:
            yield f"outcomes {outcomes}"
        case Outcome.PART if "error" not in outcomes:
            yield f"outcomes {outcomes}"
        case Outcome.FAILED if "failed" not in outcomes or "error" in outcomes:
            yield f"outcomes {outcomes}"
        case Outcome.OTHER if not outcomes or "error" in outcomes:
            yield f"outcomes {outcomes}"
        case Outcome.SAME if essentials(result) != good(case.seed):
            yield f"figures {essentials(result)} where the good run has {good(case.seed)}"
        case Outcome.USAGE | Outcome.INVALID | Outcome.NOTHING | Outcome.COLLECTED if outcomes:
            yield f"outcomes {outcomes}"


@cache
def good(seed: str) -> Mapping[tuple[str, str], Any]:
    """The verdicts of the good run."""
    with tempfile.TemporaryDirectory() as place:
        project = lay_out(seed, Path(place) / "good")
        result = session(project.root, f"--geom-run={'opd.parquet' if seed == 'record' else 'opd'}")
    assert result.code == 0, result.output
    return essentials(result)


def essentials(result: Result) -> Mapping[tuple[str, str], Any]:
    """Outcome and figures of every verdict."""
    return {name: (verdict["outcome"], verdict["observed"]) for name, verdict in result.verdicts.items()}


def _verdicts(path: Path) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    if not path.exists():
        return {}
    runs = json.loads(path.read_text())["runs"]
    return {(run["name"], e["id"]): e for run in runs for suite in run["suites"] for e in suite["expectations"]}


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
