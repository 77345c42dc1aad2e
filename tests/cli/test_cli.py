from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import geomcheck
from geomcheck.cli import main
from geomcheck.options import OPTIONS
from tests.runs import simple_run
from tests.stories.conftest import HEALTHY


def test_measure_writes_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    assert main(["measure", str(run), "-o", str(tmp_path / "r.parquet")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/r.parquet: 3 checkpoints, 5 weights measured\n"
    assert geomcheck.read_record(tmp_path / "r.parquet").run == "opd"


def test_measure_says_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    (run / "checkpoint-30" / "trainer_state.json").unlink()
    assert main(["measure", str(run), "-o", str(tmp_path / "r.parquet")]) == 0
    assert "  note: the LAST checkpoint, checkpoint-30, is left out: " in capsys.readouterr().out


def test_measure_never_writes_into_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    assert main(["measure", str(run), "-o", str(run / "r.parquet")]) == 4
    message = f"geomcheck: {run}/r.parquet would write to the run {run}, which is never written to\n"
    assert capsys.readouterr().err == message
    assert not (run / "r.parquet").exists()


def test_measure_never_replaces_w0_or_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    base = shutil.copytree(run / "base", tmp_path / "anchor")
    weights = base / "model.safetensors"
    before = weights.read_bytes()
    assert main(["measure", str(run), "--base", str(base), "-o", str(weights)]) == 4
    assert f"would write to W0 {base}, which is never written to" in capsys.readouterr().err
    assert weights.read_bytes() == before
    suite = tmp_path / "suite.yaml"
    suite.write_text(HEALTHY)
    assert main(["measure", str(run), "--suite", str(suite), "-o", str(suite)]) == 4
    assert suite.read_text() == HEALTHY


def test_measure_never_replaces_the_model_that_an_adapter_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simple_run(tmp_path / "opd")
    anchor = (run / "base").rename(tmp_path / "anchor")
    (run / "checkpoint-10" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(anchor)}))
    assert main(["measure", str(run), "-o", str(anchor / "model.safetensors")]) == 4
    assert f"would write to W0 {anchor}, which is never written to" in capsys.readouterr().err


def test_errors_are_one_message_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(tmp_path / "nowhere"), "-o", str(tmp_path / "r.parquet")]) == 4
    assert capsys.readouterr().err == f"geomcheck: the run {tmp_path}/nowhere does not exist\n"


def test_suites_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suites"]) == 0
    listed = capsys.readouterr().out
    for name in ("opd", "sft", "rlvr"):
        assert any(line.startswith(f"{name} ") for line in listed.splitlines())


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "expect" in json.loads(capsys.readouterr().out)["properties"]


def test_metrics_are_listed_with_their_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics"]) == 0
    listed = capsys.readouterr().out
    assert "stable_rank: |D_t|_F^2 / |D_t|_op^2" in listed
    assert "    k = 12.5%: Dimension of the principal subspace; the paper uses 512 of 4096." in listed


def test_measure_refuses_a_directory_as_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(simple_run(tmp_path / "run" / "opd")), "-o", str(tmp_path)]) == 4
    assert "is a directory; name a file" in capsys.readouterr().err


def test_errors_quote_names_without_their_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a\x1b[31m").touch()
    assert main(["inspect", str(tmp_path)]) == 4
    assert "found a\\x1b[31m." in capsys.readouterr().err


def test_as_a_module_it_does_what_the_command_does():
    """It would end with exit code 0 and have looked at nothing."""
    command = [sys.executable, "-m", "geomcheck.cli", "watch", "nowhere", "--suite=opd", "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "does not exist" in done.stderr) == (4, True)


@pytest.mark.parametrize(
    "command", ["measure", "watch", "inspect", "diagnose", "calibrate", "power", "compare", "regime", "report"]
)
def test_what_pytest_takes_too_is_said_in_the_same_words(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    taken = [declared for declared in OPTIONS if f" --{declared.name} {declared.value} " in said]
    assert "base" in [declared.name for declared in taken]
    for declared in taken:
        assert f"--{declared.name} {declared.value} {declared.help}" in said


def test_home_is_expanded_and_an_empty_value_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (simple_run(tmp_path / "opd") / "base").rename(tmp_path / "anchor")
    assert main(["inspect", "~/opd", "--base=~/anchor"]) == 0
    assert main(["measure", "opd", "--base=~/anchor", "--cache=off", "-o", "~/out/r.parquet"]) == 0
    assert (tmp_path / "out" / "r.parquet").exists()
    assert not (tmp_path / "~").exists()
    assert not (tmp_path / "off").exists()
    assert main(["inspect", "opd", "--base="]) == 4
    assert capsys.readouterr().err == "geomcheck: --base is empty; is a variable not set?\n"
