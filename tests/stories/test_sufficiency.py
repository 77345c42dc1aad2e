"""Projected training judged from the command line: the committed runs, and runs that prove nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from geomcheck.cli import main
from tests.confined import family

EXPERIMENTS = Path(__file__).parents[2] / "fixtures" / "experiments"
LEARNED = EXPERIMENTS / "runs" / "opd-learned"
SUFFICES = EXPERIMENTS / "channel-suffices.yaml"
DOES_NOT = EXPERIMENTS / "channel-does-not-suffice.yaml"

SUITE = """
geomcheck: 1
expect:
  - id: channel-suffices
    metric: functional_sufficiency
    score: eval_accuracy
    random: ../random-0
    above: 85%
    at: all
  - {id: rank, metric: stable_rank, below: 15}
"""


@pytest.fixture
def check(pytester: pytest.Pytester):
    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    return run


def test_the_committed_runs_keep_the_gain_in_their_own_channel(check, pytester: pytest.Pytester) -> None:
    """Accuracy .5255 before, .962 free, .9325 in the learned and .88 in the random channel."""
    result = check(f"--geom-run={LEARNED}", f"--geom-suite={SUFFICES}", "--geom-json=v.json", "--geom-report=r.html")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*PASSED keeps-the-gain *93.24%*", "*PASSED keeps-what-it-can-touch *79.44%*"])
    (kept, since) = json.loads((pytester.path / "v.json").read_text())["runs"][0]["suites"][0]["expectations"]
    assert kept["decisive"]["value"] == pytest.approx((0.9325 - 0.5255) / (0.962 - 0.5255))
    assert kept["decisive"]["random"] == pytest.approx((0.88 - 0.5255) / (0.962 - 0.5255))
    assert since["decisive"]["value"] == pytest.approx((0.9325 - 0.8185) / (0.962 - 0.8185))
    page = (pytester.path / "r.html").read_text()
    assert "functional sufficiency" in page
    assert ">best random<" in page  # the label of the control's points


def test_what_is_said_of_sft_they_violate(check, pytester: pytest.Pytester) -> None:
    result = check(f"--geom-run={LEARNED}", f"--geom-suite={DOES_NOT}", "--geom-report=r.html")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "functional_sufficiency left value < 60% at step 150: 93.24% of the free run's gain in eval_accuracy is "
            "kept inside K = 4 directions learned by step 30, the random channel keeps 81.21% *",
            "  worst      opd-learned (learned, K = 4)  93.24% at step 150",
            "*opd-random (random, K = 4)  81.21% at step 150",
        ]
    )
    page = (pytester.path / "r.html").read_text()
    assert "opd-random (random, K = 4)" in page
    assert "Side by side" in page


@pytest.mark.parametrize(
    ("run", "reason"),
    [("opd-free", "was not constrained"), ("opd-random", "has a random channel, where a learned one is expected")],
)
@pytest.mark.parametrize("suite", [SUFFICES, DOES_NOT])
def test_no_other_run_proves_anything(check, run: str, reason: str, suite: Path) -> None:
    result = check(f"--geom-run={EXPERIMENTS / 'runs' / run}", f"--geom-suite={suite}")
    assert result.ret == 1
    told = " ".join(result.stdout.str().split())
    assert reason in told


def test_collecting_reads_no_run(check, tmp_path: Path) -> None:
    shutil.copy(SUFFICES, tmp_path / "suite.yaml")  # whose other runs are not there
    result = check(f"--geom-run={LEARNED}", f"--geom-suite={tmp_path / 'suite.yaml'}", "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*::keeps-the-gain", "*::keeps-what-it-can-touch"])
    judged = check(f"--geom-run={LEARNED}", f"--geom-suite={tmp_path / 'suite.yaml'}")
    assert judged.ret == 1
    judged.stdout.fnmatch_lines(["*`free` *opd-free: the run * does not exist*"])


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A family of small runs, and a suite that takes the free one from --geom-reference."""
    family(pytester.path)
    shutil.copytree(pytester.path / "run" / "base", pytester.path / "free" / "base")
    for step in (10, 20, 30):
        target = pytester.path / "free" / f"checkpoint-{step}"
        shutil.copy(pytester.path / "run" / f"checkpoint-{step}" / "model.safetensors", target)
    (pytester.path / "suites").mkdir()
    (pytester.path / "suites" / "mine.yaml").write_text(SUITE)
    return pytester.path


def test_the_free_run_may_be_the_reference(check, project: Path) -> None:
    assert check("--geom-run=run", "--geom-reference=free").ret == 0
    missing = check("--geom-run=run")
    assert missing.ret == 1
    missing.stdout.fnmatch_lines(["*name it with `free: PATH` or --geom-reference=PATH*"])


def test_records_of_all_and_workers_of_xdist(check, project: Path, pytester: pytest.Pytester) -> None:
    for name in ("run", "free"):
        assert main(["measure", name, "-o", f"{name}.parquet", "--suite", "suites/mine.yaml", "--workers=1"]) == 0
        shutil.rmtree(name)
    arguments = ("--geom-run=run.parquet", "--geom-reference=free.parquet", "-p", "no:cacheprovider")
    assert check(*arguments).ret == 0
    pytest.importorskip("xdist")
    spread = pytester.runpytest_subprocess(*arguments, "-n1")
    spread.assert_outcomes(passed=2)


def test_outputs_stay_out_of_the_other_runs(check, project: Path) -> None:
    result = check("--geom-run=run", "--geom-reference=free", "--geom-json=random-0/v.json")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*would write to *random-0, which the suite *mine.yaml compares with*"])


def test_watched(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["watch", "run", "--suite=suites/mine.yaml", "--reference=free", "--workers=1"]
    assert main(arguments) == 0
    assert "settled     PASSED channel-suffices" in capsys.readouterr().out
    for step in (20, 30):
        (project / "run" / f"checkpoint-{step}" / "geomcheck_constraint.json").unlink()
    assert main(arguments) == 1
    assert "run 'run' was not constrained" in capsys.readouterr().out
