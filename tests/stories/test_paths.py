"""Paths as people have them: marks that pytest reads otherwise, letters of every language, homes and links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stories.conftest import HEALTHY, STRICT

Command = Callable[..., pytest.RunResult]


@pytest.mark.parametrize("name", ["pro[1]", "pro::x", "größe", "日本 語", "a'b\"c", "[", "-x", "@x"])
def test_a_project_may_have_any_name(
    geom: Command, opd_run: Path, pytester: pytest.Pytester, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = pytester.path / name
    shutil.copytree(opd_run.parent, project / "ckpts")
    (project / "suites").mkdir()
    (project / "suites" / "mine.yaml").write_text(HEALTHY)
    (project / "suites" / f"{name.replace('/', '-')}.yml").write_text(STRICT)
    monkeypatch.chdir(project)
    assert geom("--geom-json=v.json", "--geom-report=r.html", "--geom-record=r.parquet").ret == 1
    assert {"v.json", "r.html", "r.parquet"} <= set(os.listdir("."))
    geom(f"--geom-suite=suites/{name}.yml", "-k", "norm").assert_outcomes(passed=1, deselected=1)
    geom(f"./suites/{name}.yml::norm").assert_outcomes(passed=1)
    geom("suites").assert_outcomes(passed=3, failed=1)


def test_a_suite_of_any_name_fails_again(opd_run: Path, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    write_suite(STRICT, "strict[v2]::x")
    pytester.runpytest_inprocess("--geom-run=ckpts/opd").assert_outcomes(passed=3, failed=1)
    pytester.runpytest_inprocess("--geom-run=ckpts/opd", "--lf").assert_outcomes(failed=1, deselected=3)
    spread = pytester.runpytest_subprocess("--geom-run=ckpts/opd", "-n1")
    spread.assert_outcomes(passed=3, failed=1)
    spread.stdout.fnmatch_lines(["FAILED suites/strict[[]v2[]]::x.yaml::support *"])


def test_home_stands_in_options_and_ini_values(
    geom: Command, write_suite, opd_run: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = pytester.path / "ho[me"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MODELS", str(home / "models"))
    write_suite(HEALTHY).rename(home / "mine.yaml")
    (home / "models").mkdir()
    (opd_run / "base").rename(home / "models" / "anchor")
    pytester.makeini("[pytest]\ngeom_suites = ~/*.yaml\ngeom_base = $MODELS/anchor")
    result = geom("--geom-json=~/v.json")
    assert result.ret == 0
    assert (home / "v.json").exists()
    assert not Path("~").exists()
    pytester.makeini("[pytest]\ngeom_suites = ~/*.yaml\ngeom_base = ${MODEL_S}/anchor")
    result = geom()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*geom_base in the ini file: the variable ${MODEL_S} is not set"])


def test_a_locale_that_cannot_read_a_path_is_named(
    write_suite, opd_run: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_suite(HEALTHY)
    opd_run.rename(opd_run.with_name("opd-ü"))
    monkeypatch.setenv("LC_ALL", "C")
    assert pytester.runpytest_subprocess("--geom-run=ckpts/opd-ü", "--geom-json=ü.json").ret == 0
    for name, value in (("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")):
        monkeypatch.setenv(name, value)
    result = pytester.runpytest_subprocess("--geom-run=ckpts/opd-ü")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*this locale says *: set PYTHONUTF8=1, or LC_ALL=C.UTF-8"])


def test_outputs_have_names_of_any_length_and_are_files(geom: Command, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    name = "v" * 250 + ".json"
    assert geom(f"--geom-json={name}", "--geom-record=r.parquet").ret == 0
    assert {name, "r.parquet"} <= set(os.listdir("."))
    result = geom("--geom-json=out/")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--geom-json=out/ is a directory; name a file in it"])
