"""`geomcheck watch` from the command line, on fixtures that arrive while it watches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from geomcheck.cli import main
from geomcheck.record import read_record
from tests.diagnosis.spoiled import LATE, LAYER, from_step, replaced, spoiled

ROOT = Path(__file__).resolve().parents[2]
SUITE = str(ROOT / "suites" / "tiny-opd.yaml")
COMMAND = [sys.executable, "-c", "import sys; from geomcheck.cli import main; sys.exit(main())", "watch"]


def arriving(run: Path, fixture: str, steps: tuple[int, ...]) -> threading.Thread:
    """A thread that writes the checkpoints of a fixture into `run`, as a training does: one by one, file by file."""

    def write() -> None:
        for step in steps:
            shutil.copytree(ROOT / "fixtures" / fixture / f"checkpoint-{step}", run / f"checkpoint-{step}")
            time.sleep(0.2)

    shutil.copytree(ROOT / "fixtures" / fixture / "base", run / "base")
    return threading.Thread(target=write, daemon=True)


def test_a_run_that_grows_and_holds(tmp_path, capsys):
    training = arriving(tmp_path / "run", "tiny-opd", (30, 60, 90, 120, 150))
    training.start()
    code = main(["watch", str(tmp_path / "run"), "--suite", SUITE, "--every", "0.05", "--idle", "1", "--workers", "1"])
    training.join()
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[-1] == "geomcheck: the run has ended at step 150"
    assert sum(line.startswith("  settled     PASSED ") for line in lines) >= 6


def test_a_run_that_grows_and_leaves_its_band(tmp_path, capsys):
    """The stable rank of the SFT fixture is 5.11, 6.109, 6.35 at its first checkpoints."""
    suite = tmp_path / "rank.yaml"
    suite.write_text("geomcheck: 1\nexpect:\n  - {id: rank, metric: stable_rank, below: 6.2, why: It spreads.}\n")
    record = tmp_path / "record.parquet"
    steps = (240, 480, 720)  # those after it would never be asked for
    training = arriving(tmp_path / "run", "tiny-sft", steps)
    training.start()
    code = main(
        ["watch", str(tmp_path / "run"), f"--suite={suite}", "--every=0.05", "--workers=1", f"--record={record}"]
    )
    training.join()
    out = capsys.readouterr().out
    assert code == 1
    assert "provisional PASSED rank" in out or "480" not in out  # all three may have been there at the first look
    assert "stable_rank left value < 6.2 at step 720: 6.35 (mean of 14 weights)" in out
    assert "why        It spreads." in out
    assert out.splitlines()[-1] == "geomcheck: violated, whatever still comes: rank"
    assert [point.step for point in read_record(record).points] == [240, 480, 720]


def test_json(capsys):
    assert main(["watch", str(ROOT / "fixtures" / "tiny-opd"), "--suite", SUITE, "--json", "--workers=1"]) == 0
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["end"], last["end"]["code"], last["finished"]) == (None, 0, True)
    (suite,) = last["runs"][0]["suites"]
    assert {e["standing"] for e in suite["expectations"]} == {"settled"}
    assert last["summary"]["passed"] == 6


def test_json_of_a_run_that_goes_on(tmp_path, capsys):
    arriving(tmp_path / "run", "tiny-opd", ())
    shutil.copytree(ROOT / "fixtures" / "tiny-opd" / "checkpoint-30", tmp_path / "run" / "checkpoint-30")
    assert main(["watch", str(tmp_path / "run"), "--suite", SUITE, "--json", "--once", "--workers=1"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    by_id = {e["id"]: e for e in last["runs"][0]["suites"][0]["expectations"]}
    assert (by_id["support"]["outcome"], by_id["support"]["standing"]) == (None, "not due yet")
    assert by_id["support"]["waits_for"] == "the last checkpoint"
    assert (by_id["stable-rank-band"]["outcome"], by_id["stable-rank-band"]["standing"]) == ("passed", "provisional")
    assert last["end"] == {"code": 0, "why": "the run goes on"}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 4, "watch needs --suite"),
        (["--suite=opd", "--every=0"], 4, "--every=0: give a number above 0"),
        (["--suite=opd", "--every=1e300"], 4, "--every=1e+300: give seconds, at most 86400"),
        (["--suite=opd", "--reference=nowhere"], 4, "the reference: the run nowhere does not exist"),
        (["--suite=opd", "--reference=bad.yaml"], 4, "the reference: bad.yaml"),
        (["--suite=opd", "--idle=nan"], 4, "--idle=nan"),
        (["--suite=opd", "--steps=0"], 4, "--steps=0"),
        (["--suite=nothing"], 4, "no suite 'nothing'"),
        (["--suite=opd", "--once"], 4, "does not exist"),
        (["--suite=opd", "--record=run/record.parquet"], 4, "would write to the run"),
        (["--suite=opd", "--cache=run/cache"], 4, "would write to the run"),
        (["--suite=opd", "--workers=0"], 4, "--workers=0"),
        (["--suite=bad.yaml"], 2, "bad.yaml:1:13"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, options, code, said):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("geomcheck:  9\nexpect: 3\n")
    assert main(["watch", "run", *options]) == code
    assert said in capsys.readouterr().err
    assert not Path("run").exists()


def test_on_a_terminal(tmp_path):
    """Colours, a line that says what is waited for, and no table twice."""
    shutil.copytree(ROOT / "fixtures" / "tiny-opd", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint-150")
    controller, terminal = pytest.importorskip("pty").openpty()
    command = [*COMMAND, str(tmp_path / "run"), "--suite", SUITE, "--workers=1", "--every=0.05", "--idle=0.02"]
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "NO_COLOR")} | {"TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=terminal, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(terminal)
        out = b"".join(iter(lambda: _read(controller), b"")).decode()
    os.close(controller)
    assert process.returncode == 1  # at step 120 the update is still too small, and the run ended there
    assert "\x1b[32m" in out
    assert "waiting: next checkpoint, to step 150" in out
    assert out.count("geomcheck: run: checkpoint-120, step 120 of 150 (80%)") == 2  # as it goes on, and as it ended


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 4096)
    except OSError:  # the other end is closed
        return b""


def test_nothing_came(tmp_path, capsys):
    assert main(["watch", str(tmp_path / "run"), "--suite=opd", "--every=0.01", "--idle=0.001"]) == 5
    assert capsys.readouterr().out.splitlines()[-1] == "geomcheck: no checkpoint came"


def test_interrupt_ends_with_what_is_known(tmp_path):
    arriving(tmp_path / "run", "tiny-opd", ())
    shutil.copytree(ROOT / "fixtures" / "tiny-opd" / "checkpoint-30", tmp_path / "run" / "checkpoint-30")
    with subprocess.Popen(
        [*COMMAND, str(tmp_path / "run"), "--suite", SUITE, "--workers=1"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "waiting: next checkpoint, to step 150" in line:
                process.send_signal(signal.SIGINT)
                lines += process.stdout.readlines()
    assert process.returncode == 130
    assert any(line.startswith("  provisional PASSED stable-rank-band") for line in lines), lines
    assert lines[-1] == "geomcheck: interrupted\n"


def test_a_finding_is_told_when_it_appears_and_once(tmp_path, capsys):
    run = spoiled(tmp_path / "run", replaced(LATE, LAYER, from_step(60)))
    held = tmp_path / "later"
    held.mkdir()
    for step in (120, 150):
        (run / f"checkpoint-{step}").rename(held / f"checkpoint-{step}")

    def write() -> None:
        for step in (120, 150):
            time.sleep(0.5)
            (held / f"checkpoint-{step}").rename(run / f"checkpoint-{step}")

    training = threading.Thread(target=write, daemon=True)
    training.start()
    main(["watch", str(run), "--suite", SUITE, "--every", "0.05", "--idle", "1", "--workers", "1"])
    training.join()
    assert capsys.readouterr().out.count("layer 1 stands still") == 1


def test_json_has_the_findings(tmp_path, capsys):
    run = spoiled(tmp_path / "run", replaced(LATE, LAYER, from_step(60)))
    main(["watch", str(run), "--suite", SUITE, "--once", "--json", "--workers", "1"])
    document = json.loads(capsys.readouterr().out.splitlines()[0])
    assert [found["kind"] for found in document["runs"][0]["findings"]] == ["stale"]
