"""A directory of runs, and the project that is set up for it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import geomcheck
from geomcheck.cli import main
from geomcheck.scaffold import checks, workflow
from tests.runs import base_weights, moved, repeats, simple_run, write_model, write_run

README = (Path(__file__).parents[2] / "README.md").read_text()
Init = Callable[..., str]


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A directory that is the root of a repository."""
    (pytester.path / ".git").mkdir()
    return pytester.path


@pytest.fixture
def init(project: Path, capsys: pytest.CaptureFixture[str]) -> Init:
    """What `geomcheck init ...` prints in the project."""

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["init", *arguments, "-q"]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return run


def written(project: Path) -> set[str]:
    kept = (".git", ".pytest_cache", "ckpts")
    found = (path.relative_to(project) for path in project.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if path.parts[0] not in kept}


def next_of(text: str) -> str:
    return text.rpartition("Next:\n  ")[2].strip()


BOTH = {"suites/checks.yaml", ".github/workflows/geometry.yml"}


def test_the_workflow_is_that_of_the_readme() -> None:
    (shown,) = re.findall(r"```yaml\n# .github/workflows/geometry.yml\n(.*?)```", README, re.DOTALL)
    assert workflow("ckpts/opd-smoke", base="models/anchor", suite="mine").text == shown


@pytest.mark.parametrize("name", ["x; curl evil", "$(id)", "a b", "a: b", "-rf", "é"])
def test_no_name_of_a_directory_becomes_a_command(name: str) -> None:
    text = workflow(f"ckpts/{name}" if name != "-rf" else name, base=name, suite=name).text
    assert name not in text
    assert yaml.safe_load(text)["jobs"]


def test_the_suite_loads_as_it_is_and_with_every_example(tmp_path: Path) -> None:
    for text in (checks().text, re.sub(r"(?m)^#(?=expect:|  )", "", checks().text)):
        (tmp_path / "checks.yaml").write_text(text)
        assert geomcheck.load_suite(tmp_path / "checks.yaml").expectations
    assert len(geomcheck.load_suite(tmp_path / "checks.yaml").expectations) > 10


def test_an_empty_directory(init: Init, project: Path) -> None:
    assert "0 runs" in (text := init())
    assert next_of(text) == "train, and then: geomcheck init RUNS-DIRECTORY"
    assert written(project) == BOTH


def test_one_run_and_the_command_that_follows_passes(init: Init, project: Path, pytester: pytest.Pytester) -> None:
    simple_run(project / "ckpts" / "opd")
    before = sorted((p, p.stat().st_mtime_ns) for p in (project / "ckpts").rglob("*"))
    text = init("ckpts")
    assert next_of(text) == "pytest --geom-run=ckpts/opd"
    assert "no bands" in text
    assert sorted((p, p.stat().st_mtime_ns) for p in (project / "ckpts").rglob("*")) == before
    result = pytester.runpytest_inprocess("--geom-run=ckpts/opd", "-p", "no:cacheprovider")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*against checks*"])
    again = init("ckpts")
    assert "left alone   suites/checks.yaml" in again
    assert "left alone   .github/workflows/geometry.yml" in again


def test_the_directory_may_be_the_run_itself(init: Init, project: Path) -> None:
    simple_run(project / "ckpts" / "opd")
    assert "ckpts/opd is one run" in (text := init("ckpts/opd"))
    assert next_of(text) == "pytest --geom-run=ckpts/opd"


def test_seeds_are_calibrated_and_a_further_one_passes(init: Init, project: Path, pytester: pytest.Pytester) -> None:
    for number, run in enumerate(repeats(project / "made", 4)):
        (project / "ckpts").mkdir(exist_ok=True)
        run.rename(project / ("later-9" if number == 3 else f"ckpts/opd-{number}"))
    text = init("ckpts")
    assert "opd: opd-0, opd-1, opd-2 go together" in text
    assert next_of(text) == "pytest --geom-run=ckpts/opd-2"
    suite = geomcheck.load_suite(project / "suites" / "opd.yaml")
    assert suite.applies("opd-7")
    assert not suite.applies("sft-7")
    result = pytester.runpytest_inprocess("--geom-run=later-9", "--geom-suite=opd", "-p", "no:cacheprovider")
    assert result.ret == 0
    assert "output_dir ckpts/opd-ci " in (project / ".github/workflows/geometry.yml").read_text()


def test_the_bands_of_the_only_recipe_judge_runs_of_any_name(init: Init, project: Path) -> None:
    for number, run in enumerate(repeats(project / "made", 2)):
        (project / "ckpts").mkdir(exist_ok=True)
        run.rename(project / "ckpts" / f"good-{number}")
    init("ckpts")
    assert geomcheck.load_suite(project / "suites" / "good.yaml").applies("lr-x2")


def test_each_recipe_has_its_suite_and_what_does_not_go_with_it_is_named(init: Init, project: Path) -> None:
    for recipe, seed in (("opd", 0), ("sft", 7)):
        for number, run in enumerate(repeats(project / recipe, 3, base_seed=seed)):
            (project / "ckpts").mkdir(exist_ok=True)
            run.rename(project / "ckpts" / f"{recipe}-{number}")
    base = base_weights()
    shutil.rmtree(project / "ckpts" / "opd-2")
    write_run(project / "ckpts" / "opd-2", base, {10: moved(base, 1e-2, seed=3), 30: moved(base, 2e-2, seed=4)})
    write_run(project / "ckpts" / "sft-9", base, {10: moved(base, 1e-2, seed=5), 20: moved(base, 2e-2, seed=6)})
    text = " ".join(init("ckpts", "--without=sft-1", "--dry-run").split())
    assert "opd: opd-0, opd-1 go together" in text
    assert "opd: not opd-2: their checkpoints differ: steps 10 30 against steps 10 20" in text
    assert "sft: sft-0, sft-2 go together" in text
    assert "sft: not sft-9: their W0 differ" in text
    assert "not taken as good, as --without says: sft-1" in text
    assert "would calibrate 2 runs: geomcheck calibrate ckpts/sft-0 ckpts/sft-2 --applies-to='sft-*'" in text
    assert written(project) == set()


def test_an_unfinished_run_is_no_good_one(init: Init, project: Path) -> None:
    base = base_weights()
    for number, most in ((1, 20), (2, 20), (3, 80)):
        steps = {10: moved(base, 1e-2, seed=number), 20: moved(base, 2e-2, seed=10 + number)}
        write_run(project / "ckpts" / f"opd-{number}", base, steps, max_steps=most)
    text = init("ckpts", "--dry-run")
    assert "opd-1, opd-2 go together" in text
    assert "opd: not opd-3: it ends at step 20, 25% of the training that was planned" in text


@pytest.mark.parametrize(
    ("names", "suite", "pattern"),
    [
        (["2026-11-30_12-00-05", "2026-12-01_09-00-00"], "ckpts", "anything"),
        (["run-20261130_120000-abcd1234", "run-20261201_090000-z9y8x7w6"], "ckpts", "run-1"),
        (["v0-20261130-120000", "v1-20261201-090000"], "ckpts", "v2-20261231-000000"),
        (["opd[a]-1", "opd[a]-2"], "opd-a", "opd[a]-3"),
        (["!opd-1", "!opd-2"], "opd", "!opd-3"),
        (["deep/opd/seed-1", "deep/opd/seed-2"], "opd", "seed-3"),
    ],
)
def test_names_by_date_number_or_directory(
    names: list[str], suite: str, pattern: str, init: Init, project: Path
) -> None:
    for name, run in zip(names, repeats(project / "made", 2), strict=True):
        (project / "ckpts" / name).parent.mkdir(parents=True, exist_ok=True)
        run.rename(project / "ckpts" / name)
    text = init("ckpts")
    assert f"wrote        suites/{suite}.yaml" in text, text
    assert geomcheck.load_suite(project / "suites" / f"{suite}.yaml").applies(pattern)


def test_two_recipes_whose_runs_have_the_same_names_are_named(init: Init, project: Path) -> None:
    for recipe in ("opd", "sft"):
        for run in repeats(project / "made" / recipe, 2, base_seed=len(recipe) if recipe == "opd" else 9):
            (project / "ckpts" / recipe).mkdir(parents=True, exist_ok=True)
            run.rename(project / "ckpts" / recipe / run.name)
    text = init("ckpts")
    assert next_of(text) == "pytest --geom-run=ckpts/opd/seed-1 --geom-suite=opd"
    for recipe in ("opd", "sft"):
        assert not geomcheck.load_suite(project / "suites" / f"{recipe}.yaml").applies("seed-1")


def test_without_w0_it_asks_for_it_and_pytest_then_knows_it(init: Init, project: Path, pytester) -> None:
    shutil.move(simple_run(project / "ckpts" / "opd") / "base", project / "ckpts" / "anchor")
    text = init("ckpts")
    assert "no W0 was found" in text
    assert next_of(text) == "geomcheck init ckpts --base=ckpts/anchor"
    assert next_of(init("ckpts", "--base=ckpts/anchor")) == "pytest --geom-run=ckpts/opd"
    assert (project / "pytest.ini").read_text() == "[pytest]\ngeom_base = ckpts/anchor\n"
    assert pytester.runpytest_inprocess("--geom-run=ckpts/opd", "-p", "no:cacheprovider").ret == 0


def test_an_ini_file_of_the_user_is_not_touched(init: Init, project: Path) -> None:
    simple_run(project / "ckpts" / "opd")
    write_model(project / "ckpts" / "anchor", base_weights())
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    text = init("ckpts", "--base=ckpts/anchor")
    assert 'Add to pyproject.toml:\n  [tool.pytest.ini_options]\n  geom_base = "ckpts/anchor"\n' in text
    assert (project / "pyproject.toml").read_text() == "[project]\nname = 'x'\n"
    assert not (project / "pytest.ini").exists()


def test_suites_of_the_project_are_left_alone(init: Init, project: Path) -> None:
    for run in repeats(project / "ckpts", 2):
        run.rename(run.with_name(f"opd-{run.name[-1]}"))
    (project / "suites").mkdir()
    mine = "geomcheck: 1\napplies_to: ['opd*']\nexpect: [{id: rank, metric: stable_rank, below: 9}]\n"
    (project / "suites" / "mine.yaml").write_text(mine)
    text = init("ckpts")
    assert "left alone   suites/mine.yaml" in text
    assert "no bands     opd: suites/mine.yaml applies to its runs already" in text
    assert written(project) == {"suites/mine.yaml", ".github/workflows/geometry.yml"}


def test_a_suite_of_the_project_that_is_invalid_is_named(init: Init, project: Path) -> None:
    (project / "suites").mkdir()
    (project / "suites" / "mine.yaml").touch()
    assert "left alone   suites/mine.yaml is no valid suite" in init()
    assert written(project) == {"suites/mine.yaml", ".github/workflows/geometry.yml"}


def test_what_takes_long_is_left_to_its_own_command(init: Init, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomcheck.cli.init.MOST_BYTES", 1)
    repeats(project / "ckpts", 2)
    text = init("ckpts")
    assert "no bands     ckpts: that would read" in text
    assert "geomcheck calibrate ckpts/seed-0 ckpts/seed-1 -o suites/ckpts.yaml" in text
    assert written(project) == BOTH


def test_nothing_is_written_into_a_run(init: Init, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = simple_run(project / "ckpts" / "opd")
    monkeypatch.chdir(run)
    assert "which is never written to; go to your project" in init(".", code=4)
    assert not (run / "suites").exists()


def test_a_directory_without_repository_gets_no_workflow(init: Init, project: Path) -> None:
    (project / ".git").rmdir()
    assert "no git repository" in init()
    assert written(project) == {"suites/checks.yaml"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_project_that_cannot_be_written_to(init: Init, project: Path) -> None:
    project.chmod(0o555)
    try:
        assert "cannot write" in init(code=4)
    finally:
        project.chmod(0o755)


def test_what_is_no_directory_is_told(init: Init, project: Path) -> None:
    assert "nowhere does not exist" in init("nowhere", code=4)
    (project / "file").touch()
    assert "file is a file" in init("file", code=4)
    assert written(project) == {"file"}
