"""The guide's examples: the loop runs, the others are Python that names what there is."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from pathlib import Path

import pytest
import torch

import geomcheck
from geomcheck.training import Monitor

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "guides" / "training.md").read_text()
BLOCKS = re.findall(r"(<!-- runs -->\n)?```python\n(.*?)```", GUIDE, re.DOTALL)


def test_every_example_is_python_with_arguments_that_there_are() -> None:
    arguments = set(inspect.signature(Monitor).parameters) | set(inspect.signature(Monitor.observe).parameters)
    calls = [node for _, text in BLOCKS for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    ours = [call for call in calls if re.search(r"Monitor$|monitor\.observe$", ast.unparse(call.func))]
    assert len(ours) == 6
    assert {keyword.arg for call in ours for keyword in call.keywords} <= arguments


def test_the_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    shutil.copytree(ROOT / "fixtures" / "tiny-opd" / "base", tmp_path / "ckpts" / "tiny-opd" / "base")
    (tmp_path / "suites").symlink_to(ROOT / "suites")
    monkeypatch.chdir(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained("ckpts/tiny-opd/base", dtype=torch.float32)

    def train_one_step() -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-4 * torch.randn(parameter.shape))

    class Tracker:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def log(self, figures: dict[str, float], step: int) -> None:
            assert figures["geom/watched_weights"] == 14
            self.steps.append(step)

    tracker = Tracker()
    (loop,) = (text for runs, text in BLOCKS if runs)
    exec(loop, {"model": model, "train_one_step": train_one_step, "tracker": tracker})
    assert tracker.steps == [10, 20, 30]
    assert [point.step for point in geomcheck.read_record("out.geometry.parquet").points] == [10, 20, 30]
