"""What commands share with pytest's gate: one cache, the values of the ini file, the suites of the project."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import geomcheck
from geomcheck.cli import main
from geomcheck.gate.configuration import cache_directory, configuration
from tests.conftest import Reads
from tests.runs import age, simple_run
from tests.stories.conftest import HEALTHY

Gate = Callable[..., pytest.RunResult]

MEASURE = ("measure", "opd", "--suite=mine", "-o", "r.parquet")


@pytest.fixture
def gate(pytester: pytest.Pytester) -> Gate:
    """``pytest --geom-run=opd`` in a directory with an old run and a suite, which is a project where it has an ini."""
    age(simple_run(pytester.path / "opd"))
    pytester.mkdir("suites").joinpath("mine.yaml").write_text(HEALTHY)
    return lambda *arguments: pytester.runpytest_inprocess("--geom-run=opd", "--geom-suite=mine", *arguments)


@pytest.mark.parametrize("ini", ["", "[pytest]", "[pytest]\ncache_dir = kept", "[pytest]\ngeom_cache = here"])
def test_pytest_and_the_commands_remember_for_each_other(
    ini: str, gate: Gate, pytester: pytest.Pytester, no_reading, reads: Reads
) -> None:
    if ini:
        pytester.makeini(ini)
    places = {"": Path(".pytest_cache/d/geomcheck"), "kept": Path("kept/d/geomcheck"), "here": Path("here")}
    place = places.get(ini.rpartition(" = ")[2], Path(".pytest_cache/d/geomcheck"))
    assert main(MEASURE) == 0
    assert (place / "measurements.sqlite").exists()
    no_reading()
    assert gate().ret == 0
    assert main(["measure", "opd", "--suite=mine", "-o", "again.parquet"]) == 0
    assert Path("again.parquet").read_bytes() == Path("r.parquet").read_bytes()


def test_what_pytest_measured_no_command_reads(gate: Gate, pytester: pytest.Pytester, no_reading) -> None:
    pytester.makeini("[pytest]")
    assert gate("--geom-record=r.parquet").ret == 0
    no_reading()
    assert main(["measure", "opd", "--suite=mine", "-o", "again.parquet"]) == 0


def test_the_cache_lies_where_pytest_has_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]")
    pytester.makepyfile("def test_it(pytestconfig):\n    print(pytestconfig.cache.mkdir('geomcheck'))")
    result = pytester.runpytest_inprocess("-s", "-p", "cacheprovider")
    result.stdout.fnmatch_lines([f"*{cache_directory(configuration())}*"])


def test_a_directory_that_pytest_has_not_made_yet_is_kept_out_of_repositories(
    gate: Gate, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]")
    main(MEASURE)
    assert Path(".pytest_cache/.gitignore").read_text().splitlines()[-1] == "*"


@pytest.mark.parametrize("off", ["off", "OFF", "none", "False", "no"])
def test_off_is_no_directory(off: str, gate: Gate, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]")
    before = {*os.listdir()}
    assert main([*MEASURE, f"--cache={off}"]) == 0
    assert gate(f"--geom-cache={off}", "-p", "no:cacheprovider").ret == 0
    pytester.makeini(f"[pytest]\ngeom_cache = {off}")
    assert main(MEASURE) == 0
    assert gate("-p", "no:cacheprovider").ret == 0
    assert {*os.listdir()} - before == {"r.parquet"}


def test_a_toml_file_has_types_of_its_own(gate: Gate, pytester: pytest.Pytester, capsys) -> None:
    if pytest.version_tuple < (9,):
        pytest.skip("pytest.toml is of pytest 9")
    Path("pytest.toml").write_text("[pytest]\ngeom_cache = false\n")
    assert main(MEASURE) == 4
    assert "config option 'geom_cache' expects a string, got bool: False; write it in quotes" in capsys.readouterr().err
    result = gate()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*'geom_cache' expects a string, got bool: False; write it in quotes*"])


def test_a_cache_that_cannot_be_is_a_note(gate: Gate, pytester: pytest.Pytester, capsys) -> None:
    pytester.makeini("[pytest]")
    result = gate("-p", "no:cacheprovider")
    assert result.ret == 0
    off = "note: nothing is cached: pytest's cache is turned off; name a directory with --geom-cache"
    assert result.outlines.count(off) == 1
    Path(".pytest_cache").touch()
    assert main(MEASURE) == 0
    said = capsys.readouterr().err
    assert "geomcheck: note: nothing is cached: [Errno " in said
    assert said.endswith("; name a directory with --cache\n")
    assert main([*MEASURE, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_command_reads_the_ini_file_and_nothing_that_it_names(gate: Gate, pytester: pytest.Pytester, capsys) -> None:
    pytester.makeconftest("raise SystemExit")
    ini = "[pytest]\naddopts = --no-such-option -p no_such_plugin\nrequired_plugins = none-such\nminversion = 99"
    pytester.makeini(f"{ini}\ngeom_workers = two")
    assert main(MEASURE) == 4
    assert capsys.readouterr().err.startswith("geomcheck: geom_workers = two: give a whole number of local workers")
    pytester.makeini(f"{ini}\ngeom_incomplete = maybe")
    assert main(MEASURE) == 4
    assert "geom_incomplete = maybe in the ini file: write skip or error" in capsys.readouterr().err
    pytester.makeini("no section")
    assert main(MEASURE) == 4
    assert "pytest's configuration here cannot be read: " in capsys.readouterr().err


def test_w0_of_the_ini_file_is_that_of_the_commands(gate: Gate, pytester: pytest.Pytester) -> None:
    Path("opd/base").rename("anchor")
    pytester.makeini("[pytest]\ngeom_base = anchor")
    assert main(MEASURE) == 0
    assert main(["inspect", "opd"]) == 0
    Path("anchor").rename("away")
    assert main(["compare", "r.parquet", "r.parquet"]) == 0


def test_suites_are_found_as_pytest_finds_them(gate: Gate, pytester: pytest.Pytester, capsys) -> None:
    Path("suites").rename("gates")
    pytester.makeini("[pytest]\ngeom_suites = gates/*.yaml")
    for command in ("measure opd -o r.parquet", "report opd -o r.html", "watch opd --once"):
        assert main([*command.split(), "--suite=mine"]) == 0
    for arguments in (["measure", "opd", "-o", "r.parquet"], ["watch", "opd", "--once"]):
        assert main([*arguments, "--suite=mien"]) == 4
        said = capsys.readouterr().err
        assert "no suite 'mien': neither a suite of the project (mine) nor a shipped suite (" in said
        assert said.endswith("; did you mean `mine`?\n")
    result = gate("--geom-suite=mien")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*neither a suite of the project (mine) nor *; did you mean `mine`?"])


def test_progress_goes_to_stderr_and_quiet_has_none(gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("geomcheck.report.text.progress.LOG_EVERY", 0.0)
    for command in ("regime opd", "compare opd opd", "measure opd -o r.parquet", "report opd -o r.html"):
        assert main([*command.split(), "--cache=off", "--workers=1"]) == 0
        said = capsys.readouterr()
        assert "geomcheck: measuring opd: " in said.err
        assert "measuring" not in said.out
        assert main([*command.split(), "--cache=off", "--workers=1", "-q"]) == 0
        assert capsys.readouterr() == (said.out, "")


@pytest.mark.parametrize(
    ("weights", "measured"),
    [
        ("attention", ["k_proj", "q_proj"]),
        ("*q_proj*", ["q_proj"]),
        ("*_proj*,!*q_proj*", ["down_proj", "k_proj"]),
        ("!*q_proj*", ["down_proj", "k_proj"]),
    ],
)
def test_weights_are_selected_as_in_a_suite(weights: str, measured: list[str], gate: Gate) -> None:
    assert main(["measure", "opd", "-o", "r.parquet", "--weights", weights]) == 0
    found = geomcheck.read_record("r.parquet").measured_weights()
    assert sorted(name.split(".")[-2] for name in found) == measured


def test_what_weights_a_suite_wants_the_suite_says(gate: Gate, capsys) -> None:
    assert main([*MEASURE, "--weights=mlp"]) == 4
    assert "--weights goes without --suite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--basse=x"], "geomcheck measure: there is no option --basse; did you mean --base? (see"),
        (["--geom-base=x"], "there is no option --geom-base; did you mean --base?"),
        (["--zzz"], "there is no option --zzz (see geomcheck measure --help)"),
        (["--suite", "a", "b"], "measure: --suite takes one value: write --suite= before each, also before b (see"),
        (["--base=--suite"], "geomcheck: --base=--suite: --suite is an option, and no value of --base"),
        (["-o", "-"], "--output=-: the output goes to a file; name one, or ./-"),
        (["--cache=On"], "--cache=On: give a directory, or off"),
        (["--cache-size=20"], "--cache-size: cache size '20': give a whole number with its unit"),
        (["--device=mps"], "--device: device 'mps': give auto, cpu, cuda or cuda:N"),
        (["--workers=-1"], "--workers=-1: give a whole number of local workers, 1 or more, or ray"),
        (["--incomplete=maybe"], "invalid choice: 'maybe' (choose from"),
        (["--weights=atention"], "--weights: `atention` names no set of weights; allowed: attention, mlp, linear, all"),
        (["--weights=mlp,*q*"], "`mlp` stands beside other words"),
        (["--weights=*q*,"], "has an empty glob"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(arguments: list[str], said: str, gate: Gate, capsys) -> None:
    command = ["measure", "opd", "-o", "r.parquet", *arguments]
    try:
        code: int | str | None = main(command)
    except SystemExit as end:
        code = end.code
    assert code == 4
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
    assert not Path("r.parquet").exists()


def test_a_command_of_no_such_name(capsys) -> None:
    with pytest.raises(SystemExit, match="4"):
        main(["mesure"])
    assert "invalid choice: 'mesure'" in (said := capsys.readouterr().err)
    assert "; did you mean measure? (see geomcheck --help)\n" in said


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--geom-jsn=v.json", "there is no option --geom-jsn; did you mean --geom-json?"),
        ("--geom_json=v.json", "there is no option --geom_json; did you mean --geom-json?"),
        ("--geom-json=-", "--geom-json=-: the output goes to a file; name one, or --geom-json=./-"),
        (
            "--geom-json=--geom-report",
            "--geom-json=--geom-report: --geom-report is an option, and no value of --geom-json",
        ),
        ("--geom-workers=", "--geom-workers= is empty"),
        ("--geom-cache=true", "--geom-cache=true: give a directory, or off"),
        ("--geom-cache-size=20", "--geom-cache-size: cache size '20': give"),
        ("--geom-device=mps", "--geom-device: device 'mps': give auto, cpu, cuda or cuda:N"),
    ],
)
def test_pytests_options_say_the_same(option: str, said: str, gate: Gate) -> None:
    before = {*os.listdir()}
    result = gate(option)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{said.replace('[', '[[]')}*"])
    assert {*os.listdir()} == before


def test_a_misspelt_run_is_told(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--geom-rnu=x")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*there is no option --geom-rnu; did you mean --geom-run?"])
