"""What was asked for is judged, or the session ends with 4 or 5 and says what was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stories.conftest import HEALTHY, STRICT

Command = Callable[..., pytest.RunResult]


def test_a_directory_has_the_suites_that_lie_in_it(geom: Command, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    gates = pytester.path / "gates"
    gates.mkdir()
    (gates / "strict.yaml").write_text(STRICT)
    (gates / "workflow.yaml").write_text("on: push\n")
    geom("suites", "gates").assert_outcomes(passed=3, failed=1)
    geom("gates").assert_outcomes(passed=1, failed=1)


def test_a_directory_of_suites_has_those_below_it_and_beside_what_the_ini_file_names(
    geom: Command, write_suite, pytester: pytest.Pytester
) -> None:
    write_suite(HEALTHY)
    (pytester.path / "suites" / "nightly").mkdir()
    write_suite(STRICT, "nightly/strict")
    geom("suites").assert_outcomes(passed=3, failed=1)
    (pytester.path / "suites" / "nightly" / "strict.yaml").rename(pytester.path / "suites" / "strict.yaml")
    pytester.makeini("[pytest]\ngeom_suites = suites/mine.yaml")
    geom("suites").assert_outcomes(passed=3, failed=1)
    geom().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("geom_suite = gates/*.yaml", "there is no geom_suite for the ini file; did you mean geom_suites?"),
        ("geom_bases = anchor", "there is no geom_bases for the ini file; did you mean geom_base?"),
        ("addopts = --geom-base=", "--geom-base= is empty; is a variable not set?"),
        ("addopts = --geom-json=", "--geom-json= is empty; is a variable not set?"),
        ("addopts = --geom-suite=", "--geom-suite= is empty; is a variable not set?"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    geom: Command, write_suite, pytester: pytest.Pytester, setting: str, told: str
) -> None:
    write_suite(HEALTHY)
    pytester.makeini(f"[pytest]\n{setting}")
    result = geom()
    assert result.ret == 4
    assert told in result.stderr.str()


def test_a_suite_that_calls_itself_like_a_shipped_one_is_not_passed_over(geom: Command, write_suite) -> None:
    write_suite(HEALTHY.replace("name: healthy", "name: opd"))
    result = geom("--geom-suite=opd")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*'opd' is shipped, and suites/mine.yaml has that name; give --geom-suite=PATH"])


def test_a_project_may_have_options_of_its_own(geom: Command, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makeconftest("def pytest_addoption(parser):\n    parser.addoption('--geom-ckpt')\n")
    assert geom("--geom-ckpt=x").ret == 0
    (pytester.path / "args.txt").write_text("--geom-run ckpts/opd\n")
    result = pytester.runpytest_inprocess("@args.txt")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*in a file of arguments write --geom-run=ckpts/opd*"])


def test_a_run_that_is_named_twice_is_judged_once(write_suite, opd_run: Path, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.runpytest_inprocess("--geom-run=ckpts/opd", "--geom-run=ckpts/opd/").assert_outcomes(passed=2)


def test_a_directory_has_the_suites_that_its_links_lead_to(
    geom: Command, write_suite, pytester: pytest.Pytester
) -> None:
    healthy, shared = write_suite(HEALTHY), pytester.path / "shared"
    shared.mkdir()
    (shared / "strict.yaml").write_text(STRICT)
    (healthy.parent / "of-all.yaml").symlink_to(shared / "strict.yaml")
    geom("suites").assert_outcomes(passed=3, failed=1)
    geom("suites", "-n1").assert_outcomes(passed=3, failed=1)
    (healthy.parent / "of-all.yaml").unlink()
    (healthy.parent / "shared").symlink_to(shared)
    pytester.makeini("[pytest]\ngeom_suites = suites/*.yaml suites/shared/*.yaml")
    geom("suites").assert_outcomes(passed=3, failed=1)


def test_a_directory_of_links_alone_holds_suites(geom: Command, write_suite, pytester: pytest.Pytester) -> None:
    link = write_suite(HEALTHY)
    link.rename(pytester.path / "elsewhere.yaml")
    link.symlink_to(pytester.path / "elsewhere.yaml")
    result = geom("suites")
    result.assert_outcomes(passed=2)
    assert result.ret == 0


def test_a_suite_that_lacks_its_first_line_is_no_other_yaml(
    geom: Command, write_suite, pytester: pytest.Pytester
) -> None:
    write_suite(HEALTHY)
    (pytester.path / "gates").mkdir()
    (pytester.path / "gates" / "strict.yaml").write_text(STRICT.replace("geomcheck: 1", ""))
    result = geom("suites", "gates")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*strict.yaml:*geomcheck*"])


@pytest.mark.parametrize("workers", [(), ("-n1",)])
def test_a_directory_that_holds_nothing_is_no_pass(
    geom: Command, write_suite, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    write_suite(HEALTHY)
    for name, content in (("empty", None), ("others", STRICT.replace("opd", "sft")), ("tests", "")):
        (pytester.path / name).mkdir()
        if content:
            (pytester.path / name / "strict.yaml").write_text(content)
    (pytester.path / "tests" / "test_it.py").write_text("def test_it(): pass\n")
    result = geom("suites", "empty", "others", "tests", *workers)
    result.assert_outcomes(passed=3)
    assert result.ret == 5
    result.stdout.fnmatch_lines(
        [
            "geomcheck: empty was named, and it holds no suite and no test",
            "geomcheck: others was named, and none of its suites applies to opd",
        ]
    )
    result.stdout.no_fnmatch_line("geomcheck: tests was named*")
    assert geom("suites", "tests", *workers).ret == 0


def test_suites_of_two_projects_are_judged(write_suite, opd_run: Path, pytester: pytest.Pytester) -> None:
    """pytest takes the first directory's ini file, and its directory for the rootdir."""
    for name, content in (("a", HEALTHY), ("b", STRICT)):
        (pytester.path / name / "suites").mkdir(parents=True)
        (pytester.path / name / "suites" / "mine.yaml").write_text(content)
        (pytester.path / name / "pytest.ini").write_text("[pytest]\n")
    result = pytester.runpytest_inprocess("--geom-run=ckpts/opd", "a/suites", "b/suites")
    result.assert_outcomes(passed=3, failed=1)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ("suites/*.yaml suites/strict.yaml", "`suites/strict.yaml` names no suite"),
        ("suites/*.yaml, more/*.yaml", "spaces separate entries, not commas"),
        ("suites/*.yaml more", "`more` names no suite"),
        ("suites/*.yaml $NOT_SET/*.yaml", "the variable $NOT_SET is not set"),
        ("suites/*.yaml ${NOT_SET}/*.yaml", "the variable ${NOT_SET} is not set"),
        ("suites/*.yaml ~/not-there/*.yaml", "`~/not-there/[*].yaml` names no suite"),
    ],
)
def test_every_entry_of_the_ini_file_means_a_suite(
    geom: Command, write_suite, pytester: pytest.Pytester, entries: str, told: str
) -> None:
    write_suite(HEALTHY)
    pytester.makeini(f"[pytest]\ngeom_suites = {entries}")
    result = geom()
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*geom_suites in the ini file: *{told}*"])


@pytest.mark.parametrize(
    "entry", ["suites", "suites/", "suites/*.yaml suites/*.yml", "sui*/**/*.yaml", "$PLACE/*.yaml", "${PLACE}/deep"]
)
def test_entries_are_files_globs_and_directories(
    geom: Command, write_suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    (write_suite(HEALTHY).parent / "deep").mkdir()
    write_suite(HEALTHY, "deep/mine")
    write_suite(HEALTHY)
    monkeypatch.setenv("PLACE", "suites")
    pytester.makeini(f"[pytest]\ngeom_suites = {entry}")
    result = geom()
    assert result.ret == 0
    result.assert_outcomes(passed=4 if "**" in entry else 2)


def test_a_run_is_known_by_its_link_and_by_what_that_leads_to(
    write_suite, opd_run: Path, pytester: pytest.Pytester
) -> None:
    store = pytester.path / "store"
    opd_run.parent.rename(store)
    links = pytester.path / "runs"
    links.mkdir()
    (store / "opd").rename(store / "9f8a7b")
    (store / "opd").symlink_to("9f8a7b")
    (links / "latest").symlink_to("../store/opd")
    (links / "opd-nightly").symlink_to("../store/9f8a7b")
    (links / "tiny-opd").symlink_to("../store/9f8a7b")
    write_suite(HEALTHY.replace('["opd*"]', '["opd*", "!tiny-*"]'))
    assert pytester.runpytest_inprocess("--geom-run=runs/opd-nightly").ret == 0
    assert pytester.runpytest_inprocess("--geom-run=store/9f8a7b").ret == 4
    assert pytester.runpytest_inprocess("--geom-run=runs/tiny-opd").ret == 4


@pytest.mark.parametrize("arguments", [["--ignore=suites/strict.yaml"], ["--ignore-glob=*/strict*"], []])
def test_what_pytest_ignores_is_not_judged(
    geom: Command, write_suite, pytester: pytest.Pytester, arguments: list[str]
) -> None:
    write_suite(HEALTHY)
    write_suite(STRICT, "strict")
    if not arguments:
        pytester.makeconftest("collect_ignore = ['suites/strict.yaml']")
    for paths in ([], ["suites"]):
        result = geom(*paths, *arguments)
        result.assert_outcomes(passed=2)
        assert result.ret == 0
    geom(*arguments, "--geom-suite=strict").assert_outcomes(passed=1, failed=1)


def test_ignoring_every_suite_is_no_pass(geom: Command, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makepyfile("def test_it(): pass")
    result = geom("--ignore=suites")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*every suite is left out, by --ignore, *"])


def test_what_was_selected_and_did_not_run_is_no_pass(geom: Command, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makeconftest("def pytest_runtest_protocol(item): return item.name == 'rank' or None")
    result = geom("-k", "rank or support")
    result.assert_outcomes(passed=1)
    assert result.ret == 5
    result.stdout.fnmatch_lines(["geomcheck: 1 expectation did not run, and nothing says why: suites/mine.yaml::rank"])
    assert geom("-k", "support").ret == 0


def test_a_mark_that_skips_is_told_and_a_run_without_a_figure_is_no_pass(
    geom: Command, write_suite, pytester: pytest.Pytester
) -> None:
    write_suite(HEALTHY)
    pytester.makeconftest(
        "import pytest\n\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items:\n        if item.name == 'rank':\n"
        "            item.add_marker(pytest.mark.skip(reason='not today'))\n"
    )
    result = geom("--geom-json=v.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  INFO   rank *not measured*", "note: 1 expectation not judged: *not today"])
    assert json.loads((pytester.path / "v.json").read_text())["summary"]["info"] == 1
    alone = geom("-k", "rank")
    assert alone.ret == 5
    alone.stdout.fnmatch_lines(["geomcheck: no expectation on opd was judged"])


def test_workers_that_all_run_everything_leave_one_verdict_of_each(
    geom: Command, write_suite, pytester: pytest.Pytester
) -> None:
    pytest.importorskip("xdist")
    write_suite(HEALTHY)
    result = pytester.runpytest_subprocess(
        "--geom-run=ckpts/opd", "--dist=each", "--tx=2*popen", "--geom-json=v.json", "-p", "no:cacheprovider"
    )
    assert result.ret == 0
    assert json.loads((pytester.path / "v.json").read_text())["summary"]["passed"] == 2


@pytest.mark.parametrize("autoload", [True, False])
def test_a_conftest_may_load_the_plugin(
    write_suite, opd_run: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, autoload: bool
) -> None:
    write_suite(HEALTHY)
    pytester.makeconftest("pytest_plugins = ['geomcheck.plugin']")
    if not autoload:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess("--geom-run=ckpts/opd")
    result.assert_outcomes(passed=2)
    assert pytester.runpytest_subprocess("--geom-run=ckpts/opd", "-p", "no:geomcheck", "--noconftest").ret == 4


@pytest.mark.parametrize(
    "hook", ["pytest_configure(config)", "pytest_sessionstart(session)", "pytest_runtest_setup(item)"]
)
def test_a_conftest_that_ends_the_session_makes_no_pass(
    geom: Command, write_suite, pytester: pytest.Pytester, hook: str
) -> None:
    write_suite(STRICT)
    pytester.makeconftest(f"import pytest\n\n\ndef {hook}:\n    pytest.exit('no GPU here', returncode=0)\n")
    result = geom()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stderr.fnmatch_lines(["geomcheck: the session ended before the run was judged, which is no pass"])
    assert pytester.runpytest_inprocess().ret == (0 if "item" not in hook else 5)


def test_a_name_that_two_suites_have_is_refused(geom: Command, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    (pytester.path / "more").mkdir()
    (pytester.path / "more" / "mine.yaml").write_text(STRICT)
    pytester.makeini("[pytest]\ngeom_suites = suites more")
    result = geom("--geom-suite=mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*suite 'mine' may be suites/mine.yaml or more/mine.yaml; give the path of one*"])
    geom("--geom-suite=more/mine.yaml").assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize("argument", ["suites/mine.yaml::nope", "suites::rank"])
def test_of_an_id_that_is_not_there_pytest_speaks_alone(geom: Command, write_suite, argument: str) -> None:
    write_suite(HEALTHY)
    result = geom(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.no_fnmatch_line("geomcheck: suites*")
