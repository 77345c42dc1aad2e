"""calibrate, compare and regime, as users type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import geomcheck
from geomcheck import Selection
from geomcheck.cli import main
from tests.diagnosis.spoiled import ALL, LAYER, from_step, replaced, spoiled
from tests.runs import repeats

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [str(run) for run in repeats(tmp_path_factory.mktemp("runs"), 4)]


class Refuses:
    """A command line that ends with exit code 4 and a message, and writes nothing."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, message: str, *arguments: str) -> None:
        assert main(arguments) == 4
        assert message in self.capsys.readouterr().err


@pytest.fixture
def refuses(capsys: pytest.CaptureFixture[str]) -> Refuses:
    return Refuses(capsys)


def test_calibrate_on_three_and_gate_the_fourth(
    runs: list[str], pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = pytester.path / "suites" / "mine.yaml"
    assert main(["calibrate", *runs[:3], "-o", str(suite)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{suite}: 8 expectations, 8 bands")
    assert "left out update_sparsity: it is 1 - update_support" in said
    for text in (said, suite.read_text()):
        assert text.count("density of the update") == 1
    assert max(map(len, said.splitlines()[1:])) <= 100
    assert geomcheck.load_suite(suite).name == "mine"
    result = pytester.runpytest_inprocess(f"--geom-run={runs[3]}", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=8)
    (wrong,) = repeats(pytester.path / "wrong", 1, scale=1e-1)
    result = pytester.runpytest_inprocess(f"--geom-run={wrong}", "-p", "no:cacheprovider")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*relative_update_norm left its band at 2 of 2*", "*low *", "*high *"])


def test_a_run_that_no_bands_judge_by_its_name_is_told(runs: list[str], pytester: pytest.Pytester) -> None:
    suites = pytester.mkdir("suites")
    assert main(["calibrate", *runs[:3], "--applies-to=opd-*", "--no-power", "-o", str(suites / "mine.yaml")]) == 0
    (suites / "checks.yaml").write_text("geomcheck: 1\nextends: sanity\n")
    told = (
        "*: no calibrated suite judges it, by its name: mine is for opd-[*] (applies_to). --geom-suite=NAME applies *"
    )
    result = pytester.runpytest_inprocess(f"--geom-run={runs[3]}", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines([f"note{told}"])
    result = pytester.runpytest_inprocess(f"--geom-run={runs[3]}", "--geom-suite=mine", "-p", "no:cacheprovider")
    result.stdout.no_fnmatch_line(told)


def test_calibrate_refuses(runs: list[str], tmp_path: Path, refuses: Refuses) -> None:
    out = ["-o", str(tmp_path / "mine.yaml")]
    refuses("two runs or more", "calibrate", runs[0], *out, "--rule", "student")
    refuses("which is never written to", "calibrate", *runs, "-o", f"{runs[0]}/mine.yaml")
    refuses("--margin goes with --rule range", "calibrate", *runs, *out, "--margin", "5%")
    refuses("--false-alarms goes with the other rules", "calibrate", *runs, *out, "--rule=range", "--false-alarms=1%")
    refuses("give more than 0% and at most 50%", "calibrate", *runs, *out, "--false-alarms", "80%")
    refuses("is not a number with a unit", "calibrate", *runs, *out, "--false-alarms", "few")
    refuses("`frist` is not a checkpoint", "calibrate", *runs, *out, "--at", "frist")
    refuses("progress goes from 0% to 100%", "calibrate", *runs, *out, "--at", "120%")
    refuses("names no set of weights", "calibrate", *runs, *out, "--weights", "atention")
    refuses("unknown key `stak`", "calibrate", *runs, *out, "--weights", "{stak: model}")
    refuses("--weights:1:", "calibrate", *runs, *out, "--weights", "{stack: model")
    refuses(
        "no stack is called `decoder`; the run has model", "calibrate", *runs, *out, "--weights", "{stack: decoder}"
    )
    refuses("is not a slug", "calibrate", *runs, *out, "--name", "My Suite")
    refuses("no metric is called ''", "calibrate", *runs, *out, "--metrics", "stable_rank,")
    refuses("--at goes with suites, not with --profile", "calibrate", *runs, *out, "--profile", "x", "--at", "last")
    refuses("does not exist", "calibrate", *runs, "nowhere", *out)
    assert not (tmp_path / "mine.yaml").exists()


def test_options_reach_the_suite(runs: list[str], tmp_path: Path) -> None:
    suite = tmp_path / "s.yaml"
    options = ["--rule", "range", "--margin", "20%", "--metrics", "update_norm", "--weights", "mlp", "--at", "last"]
    options += ["--applies-to", "*opd*", "--applies-to", "!it's-*"]
    assert main(["calibrate", *runs, "-o", str(suite), "--name", "norm", *options]) == 0
    text = suite.read_text()
    assert "smallest to largest of N = 4 runs and 20% of the mean on either side. No false-alarm" in text
    assert "name: norm\napplies_to: ['*opd*', '!it''s-*']   # names of runs that it is for" in text
    assert "\nweights: mlp\n" in text
    assert geomcheck.load_suite(suite).applies_to == ("*opd*", "!it's-*")
    assert "\n    at: last\n" in text
    assert "step: 20" not in text


def test_calibrate_writes_over_nothing_and_adds_runs(runs: list[str], tmp_path: Path, refuses: Refuses) -> None:
    suite = tmp_path / "s.yaml"
    assert main(["calibrate", *runs[:3], "-o", str(suite)]) == 0
    before = suite.read_text()
    refuses(
        f"{suite} is there already. `geomcheck calibrate --update {suite} RUN...`", "calibrate", *runs, "-o", str(suite)
    )
    refuses("give -o FILE, a suite to write, or else --update SUITE", "calibrate", *runs)
    refuses("--at goes with -o", "calibrate", *runs, "--update", str(suite), "--at", "last")
    refuses("is in the suite already, as", "calibrate", runs[0], "--update", str(suite))
    assert suite.read_text() == before
    assert main(["calibrate", "--update", str(suite), runs[3]]) == 0
    assert "on N = 4 runs" in suite.read_text()
    assert main(["calibrate", *runs[:3], "-o", str(suite), "--force"]) == 0
    assert suite.read_text() == before


def test_a_stack_reaches_the_suite(runs: list[str], tmp_path: Path) -> None:
    suite = tmp_path / "s.yaml"
    options = ["--metrics", "update_norm", "--weights", "{role: mlp, stack: model}", "--at", "last"]
    assert main(["calibrate", *runs, "-o", str(suite), *options]) == 0
    assert "weights: {role: mlp, stack: model}\n" in suite.read_text()
    assert geomcheck.load_suite(suite).weights == Selection("mlp", stack="model")


def test_regime_names_it_with_margin_evidence_and_null(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regime", str(FIXTURES / "tiny-opd"), "--profiles", str(FIXTURES / "profiles")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("tiny-opd at step 150 (100%): opd (0.02 decades from its profile, margin 0.40 over rlvr)\n")
    assert "update_support     0.554     0.526" in said
    assert "Not counted: low_magnitude_overlap is 49.0%, and 49.2% for a structureless update of the" in said
    assert max(map(len, said.splitlines())) <= 100


def test_regime_does_not_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regime", str(FIXTURES / "tiny-rlvr"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["regime"] is None
    assert found["profiles"] == ["paper"]
    assert {entry["regime"] for entry in found["ranking"]} == {"sft", "opd", "rlvr"}


def test_regime_of_a_record_without_the_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    geomcheck.write_record(geomcheck.measure(FIXTURES / "tiny-sft"), tmp_path / "sft.parquet")
    arguments = ["regime", str(tmp_path / "sft.parquet"), "--profiles", str(FIXTURES / "profiles"), "--at", "20%"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("tiny-sft at step 240 (20%): ")
    assert "was not measured for run 'tiny-sft'" in said


def test_regime_refuses(tmp_path: Path, refuses: Refuses) -> None:
    run = str(FIXTURES / "tiny-sft")
    refuses("no such file", "regime", run, "--profiles", str(tmp_path / "nothing.yaml"))
    (tmp_path / "bad.yaml").write_text("profile: 1\n")
    refuses("the profile needs `name`", "regime", run, "--profiles", str(tmp_path / "bad.yaml"))
    refuses("no checkpoint at step 7", "regime", run, "--at", "7")


def test_profiles_of_one_s_own_serve_command_and_suite(
    runs: list[str], pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = pytester.path / "profiles" / "toy.yaml"
    assert main(["calibrate", "--profile", "toy", *runs[:3], "-o", str(profile)]) == 0
    capsys.readouterr()
    assert main(["regime", runs[3], "--profiles", str(profile.parent)]) == 0
    assert "(100%): toy (" in capsys.readouterr().out
    suite = "geomcheck: 1\nprofiles: [paper, ../profiles/toy.yaml]\nexpect:\n  - {id: it, regime: toy}\n"
    (pytester.path / "suites").mkdir()
    (pytester.path / "suites" / "s.yaml").write_text(suite)
    pytester.runpytest_inprocess(f"--geom-run={runs[3]}", "-p", "no:cacheprovider").assert_outcomes(passed=1)
    (pytester.path / "suites" / "s.yaml").write_text(suite.replace("regime: toy", "regime: tory"))
    result = pytester.runpytest_inprocess(f"--geom-run={runs[3]}", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*s.yaml:4:22: `regime`: found `tory`; allowed: sft, opd, rlvr, toy; did you mean*"])
    (pytester.path / "suites" / "s.yaml").write_text(suite.replace("toy.yaml", "tory.yaml"))
    result = pytester.runpytest_inprocess(f"--geom-run={runs[3]}", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*s.yaml:2:11: `profiles`: profiles profiles/tory.yaml: no such file*"])


def test_compare_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(FIXTURES / "tiny-opd"), str(FIXTURES / "tiny-rlvr")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert max(map(len, said)) <= 100
    assert any(line.split()[:4] == ["stable_rank", "3.565", "2.618", "-0.947"] for line in said)
    assert any(line.split() == ["mask_jaccard", "41.5%", "19.9%"] for line in said)


def test_compare_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(FIXTURES / "tiny-opd"), str(FIXTURES / "tiny-sft"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [len(row["pairs"]) for row in found["metrics"] if row["metric"] == "subspace_alignment"] == [4]


def test_the_controls_of_the_paper(pytester: pytest.Pytester) -> None:
    """RLVR's stable-rank trajectory is not OPD's."""
    runs = (f"--geom-run={FIXTURES}/tiny-rlvr", f"--geom-reference={FIXTURES}/tiny-opd", "-p", "no:cacheprovider")
    pytester.runpytest_inprocess(*runs, "--geom-suite=opd-control-mixed").assert_outcomes(passed=1)
    pytester.runpytest_inprocess(*runs, "--geom-suite=opd-control-same").assert_outcomes(failed=1)
    for name in ("opd-control-mixed", "opd-control-same"):
        assert not geomcheck.load_suite(name).applies(name)


def test_compare_says_above_the_figures_that_the_runs_started_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(FIXTURES / "tiny-opd"), str(FIXTURES / "tiny-sft")]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("note: their W0 (in model.")


def test_measure_takes_the_metrics_that_nothing_measures_by_itself(tmp_path: Path, refuses: Refuses) -> None:
    file, run = str(tmp_path / "some.parquet"), str(FIXTURES / "tiny-rlvr")
    assert main(["measure", run, "-o", file, "--quiet", "--metrics=intruder_dimensions,frozen_rows"]) == 0
    always = {"frozen_share", "relative_update_norm"}
    assert geomcheck.read_record(file).measured_metrics() == {"intruder_dimensions", "frozen_rows"} | always
    refuses("no metric is called 'rows'", "measure", run, "-o", file, "--metrics=rows")
    refuses(
        "has no default for `lr`: ask for it in a suite", "measure", run, "-o", file, "--metrics=frozen_by_precision"
    )


def test_compare_says_what_is_wrong_with_one_run_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frozen = str(spoiled(tmp_path / "tiny-opd", replaced(ALL, LAYER, from_step(0))))
    clean = str(FIXTURES / "tiny-opd")
    assert main(["compare", clean, frozen]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "  B alone  layer 1 never moved: W0, to the bit, at every checkpoint"
    assert main(["compare", frozen, clean, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [[one["kind"] for one in found[run]] for run in "ab"] == [["never-moved"], []]
