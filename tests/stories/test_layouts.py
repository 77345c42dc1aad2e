"""Runs whose checkpoints do not hold plain projections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from geomcheck.cli import main
from geomcheck.record import read_record
from tests.checkpoints.test_comparable import fp8_run, run_of
from tests.runs import moved, write_run

QKV = "model.layers.0.self_attn.qkv_proj.weight"
SUITE = """
geomcheck: 1
name: any
applies_to: ["*"]
expect:
  - {id: norm, metric: relative_update_norm, below: 1}
"""


def test_fp8_is_judged_only_on_request(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(SUITE)
    fp8_run(pytester.path / "fp8")
    refused = geom(path="fp8")
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["*stored as F8_E4M3 in W0*--geom-dequantize*"])
    judged = geom("--geom-dequantize", path="fp8")
    assert judged.ret == 0
    judged.stdout.fnmatch_lines(["note: fp8: fp8 weights of W0, checkpoint-10 were dequantized to fp32*"])


def test_the_command_dequantizes_on_request_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = fp8_run(tmp_path / "run")
    output = tmp_path / "run.parquet"
    assert main(["measure", str(run), "-o", str(output), "--dequantize"]) == 0
    assert "note: fp8 weights of W0, checkpoint-10 were dequantized" in capsys.readouterr().out
    assert read_record(output).notes


def test_an_unknown_fusion_is_measured_whole_with_a_warning(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(SUITE)
    base = {QKV: torch.randn(40, 24), "model.layers.0.self_attn.o_proj.weight": torch.randn(24, 24)}
    run_of(pytester.path / "odd", base, {10: moved(base, 1e-2)}, {"model_type": "mystery"})
    result = geom("--geom-json=v.json", "--geom-record=r.parquet", path="odd")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"warning: norm: {QKV} holds several projections*split is not known for mystery"])
    (verdict,) = json.loads((pytester.path / "v.json").read_text())["runs"][0]["suites"][0]["expectations"]
    assert "holds several projections" in verdict["warnings"][0]
    again = geom(path="r.parquet")
    again.stdout.fnmatch_lines([f"warning: norm: {QKV} holds several projections*"])


def test_two_tensors_that_are_one_weight_are_an_error_of_the_run(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(SUITE)
    name = "model.layers.0.self_attn.q_proj.weight"
    base = {name: torch.randn(8, 8), f"module.{name}": torch.randn(8, 8)}
    write_run(pytester.path / "twice", base, {10: moved(base, 1e-2)})
    result = geom(path="twice")
    assert result.ret != 0
    result.stdout.fnmatch_lines([f"*{name} and module.{name} are both {name}*"])
