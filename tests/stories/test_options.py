"""Options: declared once, written with `=`, from the directory in which pytest was invoked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docs.generate.options import option_table
from geomcheck.options import OPTIONS, Option, Output, option
from tests.runs import simple_run
from tests.stories.conftest import HEALTHY, STRICT

USAGE = pytest.ExitCode.USAGE_ERROR
Command = Callable[..., pytest.RunResult]

WANDERING = "import os\n\nos.makedirs('elsewhere', exist_ok=True)\nos.chdir('elsewhere')\n"


class TestOneDeclaration:
    """A toy output: its writer, one declaration, and nothing else."""

    @pytest.fixture(autouse=True)
    def _toy(self, pytester: pytest.Pytester) -> Iterator[None]:
        pytester.makepyfile(toy="def write(path, found):\n    path.write_text(str(len(found.verdicts)))\n")
        pytester.syspathinsert()
        toy = Option(name="count", path=True, help="write the number of verdicts here", output=Output("n", "toy:write"))
        OPTIONS.append(toy)
        yield
        OPTIONS.remove(toy)

    def test_is_written_from_where_pytest_was_invoked(self, geom: Command, write_suite, pytester) -> None:
        write_suite(HEALTHY)
        pytester.makeconftest(WANDERING)
        result = geom("--geom-count=out/count")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["n: out/count"])
        assert (pytester.path / "out" / "count").read_text() == "2"

    def test_home_is_expanded(self, geom: Command, write_suite, pytester, monkeypatch) -> None:
        write_suite(HEALTHY)
        monkeypatch.setenv("HOME", str(pytester.path / "home"))
        assert geom("--geom-count=~/count").ret == 0
        assert (pytester.path / "home" / "count").read_text() == "2"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--geom-count", "count"), "*write --geom-count=count, with `=`*"),
            (("--geom-count=",), "*--geom-count= is empty; is a variable not set?"),
            (("--geom-count=ckpts/opd/x",), "*--geom-count=ckpts/opd/x would write to the run ckpts/opd, which*"),
            (("--geom-count=x", "--geom-json=x"), "*--geom-json and --geom-count name the same file"),
        ],
    )
    def test_is_guarded(self, geom: Command, write_suite, arguments: tuple[str, ...], message: str) -> None:
        write_suite(HEALTHY)
        result = geom(*arguments)
        assert result.ret == USAGE
        result.stderr.fnmatch_lines([message])

    def test_is_idle_without_a_run(self, pytester: pytest.Pytester) -> None:
        result = pytester.runpytest_inprocess("--geom-count=x")
        assert result.ret == USAGE
        result.stderr.fnmatch_lines(["*--geom-count does nothing without --geom-run=PATH*"])

    def test_is_explained(self, pytester: pytest.Pytester) -> None:
        pytester.runpytest_inprocess("--help").stdout.fnmatch_lines(["*--geom-count=PATH*number of verdicts here"])
        assert "| `--geom-count=PATH` | write the number of verdicts here |" in option_table()


def test_each_output_has_a_writer() -> None:
    from pkgutil import resolve_name

    outputs = [declared.output for declared in OPTIONS if declared.output]
    assert len(outputs) == 5
    assert all(callable(resolve_name(name)) for output in outputs for name in (output.write, output.also) if name)


def test_every_option_has_a_row_in_the_documentation() -> None:
    rows = option_table().splitlines()[2:]
    assert [row.split("`")[1].partition("=")[0].rstrip("[") for row in rows] == [
        declared.flagged for declared in OPTIONS
    ]
    assert all(row.replace("\\|", "").count("|") == 4 for row in rows)
    assert "| `geom_base` |" in rows[OPTIONS.index(option("base"))]


class TestTheRootdir:
    """pytest looks for it among values that stand alone: the project's suites must not be passed over for that."""

    @pytest.fixture
    def outside(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        page = tmp_path_factory.mktemp("outside") / "report.html"
        page.touch()
        return page

    @pytest.mark.parametrize("option", [declared.flagged for declared in OPTIONS if declared.path])
    def test_a_detached_path_of_ours(self, geom: Command, write_suite, outside: Path, option: str) -> None:
        write_suite(STRICT)
        result = geom(option, str(outside))
        assert result.ret == USAGE
        result.stderr.fnmatch_lines([f"*write {option}={outside}, with `=`*"])

    @pytest.mark.parametrize("by", ["PYTEST_ADDOPTS", "@"])
    def test_wherever_it_is_given(self, geom: Command, write_suite, outside, by: str, monkeypatch, pytester) -> None:
        write_suite(STRICT)
        monkeypatch.setenv("PYTEST_ADDOPTS", f"--geom-report {outside}" if by == "PYTEST_ADDOPTS" else "")
        (pytester.path / "arguments").write_text(f"--geom-report\n{outside}\n")
        assert geom(*(["@arguments"] if by == "@" else [])).ret == USAGE

    @pytest.mark.parametrize(("folder", "ini"), [("suites", False), ("suites", True), ("gates", True)])
    def test_a_detached_path_of_another_plugin(
        self, geom: Command, write_suite, pytester: pytest.Pytester, outside: Path, folder: str, ini: bool
    ) -> None:
        pytest.importorskip("pytest_html")
        write_suite(STRICT)
        (pytester.path / "suites").rename(pytester.path / folder)
        pytester.makeini(f"[pytest]\ngeom_suites = {folder}/*.yaml" if ini else "[pytest]")
        result = geom("--html", str(outside))
        assert result.ret == USAGE
        result.stderr.fnmatch_lines(
            ["*pytest's rootdir is *, which has no suites/*: the suites of *with `=`*--rootdir=*"]
        )
        assert geom(f"--html={outside}").ret == 1

    def test_a_detached_path_into_another_project(self, geom: Command, write_suite, outside: Path) -> None:
        write_suite(STRICT)
        (outside.parent / "pytest.ini").write_text("[pytest]\n")
        (outside.parent / "suites").mkdir()
        (outside.parent / "suites" / "mild.yaml").write_text(HEALTHY)
        result = geom("--html", str(outside))
        assert result.ret == USAGE
        result.stderr.fnmatch_lines([f"*pytest's rootdir is {outside.parent}, because of a path that stands alone*"])
        assert geom("--html", str(outside), f"--rootdir={outside.parent}").ret == 0


class TestWhereItCounts:
    def test_a_conftest_that_changes_the_directory_changes_nothing(
        self, geom: Command, write_suite, pytester: pytest.Pytester
    ) -> None:
        write_suite(HEALTHY)
        simple_run(pytester.path / "good")
        pytester.makeconftest(WANDERING)
        (pytester.path / "elsewhere").mkdir()
        (pytester.path / "elsewhere" / "v.json").write_text("somebody's")
        outputs = ("--geom-json=v.json", "--geom-record=r.parquet", "--geom-report=r.html", "--geom-cache=cache")
        result = geom(*outputs, "--geom-reference=good", "--geom-base=ckpts/opd/base")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["geomcheck *; suites: suites/mine.yaml", "report: r.html"])
        assert (pytester.path / "elsewhere" / "v.json").read_text() == "somebody's"
        assert os.listdir(pytester.path / "elsewhere") == ["v.json"]
        assert json.loads((pytester.path / "v.json").read_text())["runs"][0]["path"] == "ckpts/opd"
        assert (pytester.path / "cache" / "measurements.sqlite").exists()

    def test_nor_under_xdist(self, geom: Command, write_suite, pytester: pytest.Pytester) -> None:
        write_suite(STRICT)
        pytester.makeconftest(WANDERING)
        texts = []
        for workers in ((), ("-n1",)):
            assert geom("--geom-json=v.json", *workers).ret == 1
            texts.append((pytester.path / "v.json").read_text())
        assert texts[0] == texts[1]

    @pytest.mark.parametrize("hook", ["pytest_sessionstart(session)", "pytest_collection_finish(session)"])
    def test_whenever_it_changes(self, geom: Command, write_suite, pytester: pytest.Pytester, hook: str) -> None:
        write_suite(HEALTHY)
        lines = "import os\n\n\ndef {}:\n    os.mkdir('gone')\n    os.chdir('gone')\n    os.rmdir(os.getcwd())\n"
        pytester.makeconftest(lines.format(hook))
        assert geom("--geom-json=v.json", "--geom-report=r.html").ret == 0
        assert json.loads((pytester.path / "v.json").read_text())["summary"]["passed"] == 2

    def test_home_is_expanded_in_options_and_ini_values(self, write_suite, opd_run: Path, pytester) -> None:
        home = pytester.path  # by the pytester
        write_suite(HEALTHY)
        (home / "suites").rename(home / "gates")
        (opd_run / "base").rename(home / "anchor")
        pytester.makeini("[pytest]\ngeom_base = ~/anchor\ngeom_cache = ~/cache\ngeom_suites = ~/gates/*.yaml")
        result = pytester.runpytest_inprocess("--geom-run=~/ckpts/opd", "--geom-json=~/out/v.json")
        result.assert_outcomes(passed=2)
        assert (home / "out" / "v.json").exists()
        assert (home / "cache" / "measurements.sqlite").exists()
        named = ("--geom-suite=~/gates/mine.yaml", "--geom-base=~/anchor")
        pytester.runpytest_inprocess("--geom-run=~/ckpts/opd", *named).assert_outcomes(passed=2)
        assert not (home / "~").exists()

    def test_paths_with_parents_links_spaces_and_other_letters(self, write_suite, pytester, monkeypatch) -> None:
        write_suite(HEALTHY)
        simple_run(pytester.path / "the runs" / "opd größer 大")
        (pytester.path / "sub").mkdir()
        (pytester.path / "opd-link").symlink_to("the runs/opd größer 大")
        monkeypatch.chdir(pytester.path / "sub")
        where = ("--rootdir=..", "-p", "no:cacheprovider", "--geom-json=../a b/ü.json")
        for run in ("../the runs/opd größer 大", "../opd-link/"):
            pytester.runpytest_inprocess(f"--geom-run={run}", *where).assert_outcomes(passed=2)
            found = json.loads((pytester.path / "a b" / "ü.json").read_text(encoding="utf-8"))
            assert found["runs"][0]["path"] == run


def test_a_run_may_stand_in_the_ini_file_alone(write_suite, opd_run: Path, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makeini("[pytest]\naddopts = --geom-run=ckpts/opd")
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


class TestIdle:
    @pytest.mark.parametrize("by", ["PYTEST_ADDOPTS", "@"])
    def test_however_they_are_given(self, pytester: pytest.Pytester, monkeypatch, by: str) -> None:
        pytester.makepyfile("def test_passes(): pass")
        monkeypatch.setenv("PYTEST_ADDOPTS", "--geom-report=x.html" if by == "PYTEST_ADDOPTS" else "")
        (pytester.path / "arguments").write_text("--geom-report=x.html\n-q\n")
        result = pytester.runpytest_inprocess(*(["@arguments"] if by == "@" else []))
        assert result.ret == USAGE
        result.stderr.fnmatch_lines(["*--geom-report does nothing without --geom-run=PATH*"])

    def test_values_of_the_ini_file_never_are(self, pytester: pytest.Pytester) -> None:
        pytester.makeini("[pytest]\ngeom_base = anchor\ngeom_incomplete = error\naddopts = --geom-report=x.html")
        pytester.makepyfile("def test_passes(): pass")
        pytester.runpytest_inprocess().assert_outcomes(passed=1)


class TestSuitesOfOneName:
    @pytest.fixture
    def two(self, pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
        """Two below the project, where the path of one ends like that of the other, and one outside of it."""
        outside = tmp_path_factory.mktemp("elsewhere") / "suites"
        files = []
        for directory in (pytester.path / "suites", pytester.path / "strict" / "suites", outside):
            directory.mkdir(parents=True)
            (directory / "mine.yaml").write_text(HEALTHY)
            files.append(directory / "mine.yaml")
        pytester.makeini(f"[pytest]\ngeom_suites = suites/*.yaml strict/suites/*.yaml {outside}/*.yaml")
        return files[0], files[1], files[2]

    @pytest.mark.parametrize("arguments", [(), ("-n1",)])
    def test_a_setup_that_fails_is_of_one_alone(self, geom: Command, pytester, two, arguments) -> None:
        pytester.makeconftest(
            f"def pytest_runtest_setup(item):\n    assert (str(item.path), item.name) != ({str(two[0])!r}, 'rank')\n"
        )
        result = geom("--geom-json=v.json", *arguments)
        assert result.ret == 1
        result.assert_outcomes(passed=5, errors=1)
        found = json.loads((pytester.path / "v.json").read_text())
        assert found["summary"] == {"passed": 5, "failed": 0, "error": 1, "warned": 0, "info": 0}
        errors = [s["path"] for s in found["runs"][0]["suites"] for e in s["expectations"] if e["outcome"] == "error"]
        assert errors == ["suites/mine.yaml"]

    @pytest.mark.parametrize("arguments", [(), ("-n1",)])
    def test_one_that_is_not_collected_is_told_from_one_that_is(
        self, geom: Command, pytester: pytest.Pytester, two, arguments
    ) -> None:
        pytester.makeconftest(
            "import pytest\n\n@pytest.hookimpl(wrapper=True)\ndef pytest_collect_file(file_path):\n"
            f"    found = yield\n    return [] if str(file_path) == {str(two[1])!r} else found\n"
        )
        result = geom(".", *arguments)
        result.assert_outcomes(passed=2)
        assert result.ret == 5
        result.stdout.fnmatch_lines(["geomcheck: strict/suites/mine.yaml applies, but pytest did not collect it: *"])

    def test_outside_the_rootdir_they_have_ids_of_their_own(
        self, geom: Command, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        files = [tmp_path_factory.mktemp(name) / "mine.yaml" for name in ("one", "two")]
        for file in files:
            file.write_text(HEALTHY)
        result = geom(*(f"--geom-suite={file}" for file in files), "--collect-only", "-q")
        ids = [f"{file.parent.name}/mine.yaml::{name}" for file in files for name in ("support", "rank")]
        result.stdout.fnmatch_lines(ids)


def test_a_suite_is_loaded_once(geom: Command, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makeconftest(
        "from pathlib import Path\n\n"
        "def pytest_sessionstart():\n    Path('suites/mine.yaml').write_text('not a suite')\n"
    )
    geom().assert_outcomes(passed=2)


def test_last_failed_finds_what_failed_of_several_runs(write_suite, opd_run: Path, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    simple_run(pytester.path / "ckpts" / "opd-2")
    runs = ("--geom-run=ckpts/opd", "--geom-run=ckpts/opd-2")
    pytester.runpytest_inprocess(*runs).assert_outcomes(passed=2, failed=2)
    pytester.runpytest_inprocess(*runs, "--lf").assert_outcomes(failed=2)


def test_one_output_that_fails_loses_no_other(
    geom: Command, write_suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_suite(HEALTHY)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path))
    result = geom("--geom-json=v.json", "--geom-record=r.parquet")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["note: no summary is written for the step: *"])
    assert (pytester.path / "r.parquet").exists()
    pytester.makeconftest("import os\n\ndef pytest_sessionstart(session):\n    os.makedirs('late.json')\n")
    result = geom("--geom-json=late.json", "--geom-record=r.parquet", "--geom-report=r.html")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["record: r.parquet", "geomcheck: an output could not be written: *"])
    assert (pytester.path / "r.html").exists()


@pytest.mark.parametrize("other", ["--junitxml", "--html"])
def test_outputs_of_other_plugins_are_not_replaced(geom: Command, write_suite, other: str) -> None:
    pytest.importorskip("pytest_html")
    write_suite(HEALTHY)
    result = geom("--geom-json=out/x", f"{other}=./out/x")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"*--geom-json and {other} name the same file"])


def test_another_yaml_file_among_the_suites_is_told(geom: Command, write_suite) -> None:
    write_suite(HEALTHY)
    write_suite("services: {web: {image: nginx}}\n", "compose")
    result = geom("--geom-json=v.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*compose.yaml: if this is no suite, let geom_suites name others*"])


@pytest.mark.parametrize(("name", "allowed"), [("incomplete", "skip or error"), ("missing_baseline", "error or info")])
def test_ini_values_are_one_of_the_choices(geom: Command, write_suite, pytester, name: str, allowed: str) -> None:
    write_suite(HEALTHY)
    pytester.makeini(f"[pytest]\ngeom_{name} = perhaps")
    result = geom()
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"*geom_{name} = perhaps in the ini file: write {allowed}"])
