from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import geomcheck
from geomcheck.cli import main
from geomcheck.inspection import inspect
from tests.runs import DOWN, K, Q, base_weights, moved, simple_run, write_model, write_run


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["inspect", *arguments]) == 0
    return capsys.readouterr().out


def test_a_run_in_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    (run / "checkpoint-30" / "trainer_state.json").unlink()
    monkeypatch.chdir(tmp_path)
    text = shown(capsys, "opd")
    assert text == (
        "opd (opd)\n"
        "  written by  Hugging Face Trainer (TRL, LLaMA-Factory, Axolotl, Unsloth)\n"
        "  W0          base/ in the run (safetensors, bf16, 3.1 kB)\n"
        "              opd/base\n"
        "\n"
        "Checkpoints\n"
        "  checkpoint-10  step 10  33%  safetensors  fp32  6.21 kB\n"
        "  checkpoint-20  step 20  67%  safetensors  fp32  6.21 kB\n"
        "\n"
        "Notes\n"
        "  the LAST checkpoint, checkpoint-30, is left out: no trainer_state.json, which\n"
        "    is written last: the save was not finished. Judged as the last is\n"
        "    checkpoint-20\n"
        "\n"
        "Weights matched with W0\n"
        "  embedding embed_tokens  1  32 x 16  model.embed_tokens.weight\n"
        "  mlp down_proj           1  16 x 24  model.layers.0.mlp.down_proj.weight\n"
        "  attention k_proj        1  16 x 16  model.layers.0.s...ttn.k_proj.weight\n"
        "  attention q_proj        1  24 x 16  model.layers.0.s...ttn.q_proj.weight\n"
        "\n"
        "Not measured\n"
        "  1, such as model.layers.0.input_layernorm.weight: a vector or a number: no\n"
        "    diagnostic applies\n"
        "\n"
        "Frozen\n"
        "  headers do not say what never changed: that needs weights\n"
        "\n"
        "Cost, estimated\n"
        "  3 attention and MLP matrices x 2 checkpoints, 10.2 kB to read, 0.000197 GFLOP\n"
        "    for every metric: about a second on one core (46 GFLOP/s), less for fewer\n"
        "    metrics\n"
    )


def test_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    (run / "checkpoint-40").mkdir()
    found = json.loads(shown(capsys, str(run), "--json"))
    assert found["left_out"] == [["checkpoint-40", "empty"]]
    assert (found["format"], found["kind"], found["layout"]) == (1, "run", "safetensors")
    first = found["checkpoints"][0]
    assert (first["name"], first["step"], first["dtypes"]) == ("checkpoint-10", 10, {"fp32": 5})
    assert found["base"]["name"] == "base/ in the run"
    assert {g["example"] for g in found["groups"] if g["reason"] is None and g["kind"] != "embedding"} == {Q, K, DOWN}
    entries = 24 * 16 + 16 * 16 + 16 * 24
    assert found["cost"]["bytes_read"] == entries * (2 + 3 * 4)
    assert found["cost"]["gflop"] == pytest.approx(4 * entries * 16 * 4 / 1e9)
    assert found["frozen"] is None


def test_weights_without_a_counterpart_have_their_reason(tmp_path: Path) -> None:
    base = base_weights()
    after = moved(base, 1e-3)
    after["model.layers.0.self_attn.v_proj.weight"] = torch.ones(16, 16)
    del after[K]
    run = write_run(tmp_path / "opd", base, {10: after})
    reasons = {group.example: group.reason for group in inspect(run).groups}
    assert reasons["model.layers.0.self_attn.v_proj.weight"] == "not in W0"
    assert reasons[K] == "in W0, but in no checkpoint"


def test_groups_count_layers_not_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = {f"model.layers.{i}.self_attn.q_proj.weight": torch.randn(8, 8) for i in range(200)}
    run = write_run(tmp_path / "opd", base, {10: {name: w + 1e-3 for name, w in base.items()}})
    text = shown(capsys, str(run))
    assert "  attention q_proj  200  8 x 8  model.layers.0.s...ttn.q_proj.weight\n" in text
    assert len(text.splitlines()) < 25


def test_without_w0_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    (run / "base").rename(tmp_path / "elsewhere")
    text = shown(capsys, str(run))
    assert "  W0          none\n" in text
    assert "--geom-base=PATH" in text
    assert "Weights of the run, not matched\n" in text
    assert f"{tmp_path}/elsewhere" in shown(capsys, str(run), "--base", str(tmp_path / "elsewhere"))


def test_w0_of_another_model_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    other = write_model(tmp_path / "other", {"model.layers.0.mlp.up_proj.weight": torch.ones(4, 4)})
    assert main(["inspect", str(run), "--base", str(other)]) == 4
    assert "does not belong to run" in capsys.readouterr().err


def test_a_record_is_inspected_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = base_weights()
    after = {**moved(base, 1e-3), K: base[K].float()}
    run = write_run(tmp_path / "opd", base, {10: after})
    geomcheck.write_record(geomcheck.measure(run), tmp_path / "r.parquet")
    found = inspect(tmp_path / "r.parquet")
    assert (found.kind, found.name, found.frozen) == ("record", "opd", (K,))
    assert "stable_rank" in found.metrics
    text = shown(capsys, str(tmp_path / "r.parquet"))
    assert f"1 weight never changed, such as {K}" in text
    assert "Cost" not in text
    assert f"What is wrong\n  {K} never moved: W0, to the bit" in text
    document = json.loads(shown(capsys, str(tmp_path / "r.parquet"), "--json"))
    assert (document["kind"], document["findings"][0]["kind"]) == ("record", "never-moved")


@pytest.mark.parametrize(
    ("name", "content"), [("nowhere", None), ("empty", "directory"), ("r.parquet", b"not a record")]
)
def test_what_cannot_be_inspected_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: object
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    assert main(["inspect", str(path)]) == 4
    output = capsys.readouterr()
    assert (output.out, output.err.count("Traceback")) == ("", 0)
    assert name in output.err


def test_a_damaged_header_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path / "opd")
    (run / "checkpoint-20" / "model.safetensors").write_bytes(b"\0" * 20)
    assert main(["inspect", str(run)]) == 4
    assert "truncated or not a safetensors file" in capsys.readouterr().err


def test_names_in_files_do_not_drive_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = {**base_weights(), "model.layers.0.self_attn.\x1b[2J.weight": torch.randn(8, 8)}
    run = write_run(tmp_path / "opd", base, {10: moved(base, 1e-3)})
    assert main(["inspect", str(run)]) == 4
    said = capsys.readouterr().err
    assert "a weight is called" in said
    assert "\x1b" not in said


def test_no_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    run = simple_run(tmp_path / "opd")
    monkeypatch.setattr("geomcheck.checkpoints.formats.safetensors.SafetensorsDirectory.read", fail)
    assert len(inspect(run).checkpoints) == 3
