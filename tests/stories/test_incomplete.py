"""Checkpoints that are left out, as the user of the command sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import simple_run
from tests.stories.conftest import HEALTHY


@pytest.fixture
def half_saved(opd_run: Path) -> Path:
    """A run whose last save was not finished."""
    (opd_run / "checkpoint-30" / "trainer_state.json").unlink()
    return opd_run


def test_the_header_says_that_the_last_is_left_out(geom, write_suite, half_saved: Path, pytester) -> None:
    write_suite(HEALTHY)
    result = geom("--geom-json=out.json")
    result.assert_outcomes(passed=2)
    lines = result.stdout.lines
    said = [i for i, line in enumerate(lines) if "the LAST checkpoint, checkpoint-30, is left out" in line]
    collected = next(i for i, line in enumerate(lines) if line.startswith("collected"))
    assert said[0] < collected < said[-1]
    assert "steps 10 to 20" in "\n".join(lines)
    notes = json.loads((pytester.path / "out.json").read_text())["runs"][0]["notes"]
    assert "checkpoint-30" in notes[0]


def test_the_quiet_summary_says_it_too(geom, write_suite, half_saved: Path) -> None:
    write_suite(HEALTHY)
    assert "the LAST checkpoint, checkpoint-30" in geom("-q").stdout.str()


def test_what_is_left_out_of_a_reference_is_said(geom, write_suite, opd_run: Path, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    reference = simple_run(pytester.path / "ckpts" / "reference")
    (reference / "checkpoint-30" / "trainer_state.json").unlink()
    result = geom("--geom-reference=ckpts/reference")
    result.stdout.fnmatch_lines(["geomcheck: reference: the LAST checkpoint, checkpoint-30, is left out: *"])


@pytest.mark.parametrize("how", ["option", "ini"])
def test_an_option_makes_it_an_error(
    geom: Callable[..., pytest.RunResult], write_suite, half_saved: Path, pytester: pytest.Pytester, how: str
) -> None:
    write_suite(HEALTHY)
    if how == "ini":
        pytester.makeini("[pytest]\ngeom_incomplete = error\n")
    result = geom(*(["--geom-incomplete=error"] if how == "option" else []))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*holds incomplete checkpoints*", "*checkpoint-30: no trainer_state.json*"])


def test_the_option_goes_before_the_ini_file(geom, write_suite, half_saved: Path, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makeini("[pytest]\ngeom_incomplete = error\n")
    geom("--geom-incomplete=skip").assert_outcomes(passed=2)


def test_another_value_is_refused(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    result = geom("--geom-incomplete=warn")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--geom-incomplete" in result.stderr.str()
    pytester.makeini("[pytest]\ngeom_incomplete = warn\n")
    result = geom()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "geom_incomplete = warn in the ini file: write skip or error" in result.stderr.str()


def test_a_w0_that_is_no_hub_id_in_the_ini_file_counts_from_the_rootdir(
    geom, write_suite, pytester: pytest.Pytester, opd_run: Path
) -> None:
    write_suite(HEALTHY)
    (opd_run / "base").rename(pytester.path / "anchor")
    pytester.makeini("[pytest]\ngeom_base = anchor\n")
    geom().assert_outcomes(passed=2)
    pytester.makeini("[pytest]\ngeom_base = ckpts/nowhere\n")
    result = geom()
    assert f"W0: {pytester.path}/ckpts/nowhere (geom_base of the ini file) is not a directory" in result.stderr.str()
