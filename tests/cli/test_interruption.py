"""Ctrl-C and its like: one line, an exit code, and a cache from which the same command goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from geomcheck.cli import main
from geomcheck.measurement.cache import Recall
from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import MeasureWeight
from tests.runs import EMBED, NORM, age, repeats
from tests.stories.conftest import HEALTHY

MATRICES, OTHERS = 3, 2
"""Weights of each run. They are measured entry by entry first, which is all of a vector or an embedding, and then the
rest of each matrix."""

COMMANDS = {
    "measure": ["measure", "runs/seed-0", "-o", "out/r.parquet"],
    "calibrate": ["calibrate", "runs/seed-0", "runs/seed-1", "-o", "out/s.yaml"],
    "profile": ["calibrate", "runs/seed-0", "runs/seed-1", "--profile=x", "-o", "out/s.yaml"],
    "compare": ["compare", "runs/seed-0", "runs/seed-1"],
    "report": ["report", "runs/seed-0", "-o", "out/r.html"],
    "regime": ["regime", "runs/seed-0"],
}

LOOKS_BESIDE = ("measure", "calibrate")
"""Commands that also look at what is no linear map."""

KEPT = "{} weights of seed-0 are remembered in .pytest_cache/d/geomcheck; run the same command again to go on"


@contextmanager
def measuring(interrupt_after: int = 0, number: int = signal.SIGINT) -> Iterator[list[str]]:
    """The names of weights that are measured, each as often as it is; a signal comes after so many of them."""
    names: list[str] = []
    keep = Recall.keep

    def kept(self: Recall, task: MeasureWeight, measured: Measured) -> None:
        keep(self, task, measured)
        names.append(task.name)
        if len(names) == interrupt_after:
            signal.raise_signal(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recall, "keep", kept)
        yield names


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """The working directory, a project with two runs of one recipe."""
    pytester.makeini("[pytest]")
    for run in repeats(pytester.path / "runs", 2):
        age(run)
    return pytester.path


@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_says_what_is_kept_and_the_same_command_goes_on(
    command: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*COMMANDS[command], "--workers=1"]
    others = OTHERS if command in LOOKS_BESIDE else 0
    with measuring(interrupt_after=MATRICES + others + 1) as names:
        assert main(arguments) == 130
    said = capsys.readouterr()
    kept = KEPT.format(f"{1 + others} of {MATRICES + others}")
    assert (said.out, said.err) == ("", f"geomcheck: interrupted; {kept}\n")
    assert not list(project.glob("out/*")) + list(project.glob("out/.*"))
    with measuring() as again:
        assert main(arguments) == 0
    left = {*names} - {names[-1]} - {NORM, EMBED}
    assert {*again[: MATRICES - 1]} == left  # only then come other runs


@pytest.mark.parametrize(("number", "code", "word"), [("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")])
def test_what_machines_send_is_heard_too(
    number: str, code: int, word: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inherited = signal.signal(getattr(signal, number), signal.SIG_DFL)  # nohup leaves SIGHUP ignored, and so do we
    before = signal.getsignal(getattr(signal, number))
    with measuring(MATRICES + OTHERS + 1, getattr(signal, number)):
        assert main([*COMMANDS["measure"], "--workers=1"]) == code
    assert capsys.readouterr().err == f"geomcheck: {word}; {KEPT.format('3 of 5')}\n"
    assert signal.signal(getattr(signal, number), inherited) == before


def test_without_a_cache_nothing_is_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with measuring(MATRICES + OTHERS + 1):
        assert main([*COMMANDS["measure"], "--workers=1", "--cache=off"]) == 130
    said = "geomcheck: interrupted; nothing that was measured of seed-0 is kept, as there is no cache\n"
    assert capsys.readouterr().err == said


def test_the_gate_says_it_once(project: Path, pytester: pytest.Pytester) -> None:
    pytester.mkdir("suites").joinpath("healthy.yaml").write_text(HEALTHY)
    options = ["--geom-run=runs/seed-0", "--geom-suite=healthy", "--geom-workers=1", "--geom-json=v.json"]
    with measuring(MATRICES + 1):
        result = pytester.runpytest_inprocess(*options, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [line for line in result.outlines if "remembered" in line] == [f"geomcheck: {KEPT.format('1 of 3')}"]
    assert result.outlines.count("geomcheck: cut short: no verdicts, record or report are written") == 1
    assert not (project / "v.json").exists()
