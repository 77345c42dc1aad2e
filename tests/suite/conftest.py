"""Hand-built records, and suites written inline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import SuiteError
from geomcheck.record.column import Column
from geomcheck.record.record import Figure, Origin, Point, Record
from geomcheck.record.request import Request
from geomcheck.suite import Suite, load_suite

SHAPES = {
    "model.embed_tokens.weight": (1000, 64),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.layers.0.self_attn.k_proj.weight": (32, 64),
    "model.layers.0.mlp.up_proj.weight": (128, 64),
    "model.layers.1.self_attn.q_proj.weight": (64, 64),
    "model.layers.1.self_attn.k_proj.weight": (32, 64),
    "model.layers.1.mlp.up_proj.weight": (128, 64),
    "model.norm.weight": (64,),
}
ATTENTION = tuple(name for name in SHAPES if "self_attn" in name)
Value = float | Figure | Callable[[int, str], float | Figure | None]


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """Build a record; `figures` maps (metric, params) to a value, or to a function of step and weight."""

    def make(
        figures: Mapping[tuple[str, str], Value] | None = None,
        *,
        steps: Sequence[int] = (100, 200, 300),
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        frozen: Callable[[int, str], bool] = lambda step, name: False,
        skipped: Mapping[str, str] | None = None,
        run: str = "run-opd",
    ) -> Record:
        shapes = SHAPES if shapes is None else shapes
        record = Record(
            run=run,
            path=f"/runs/{run}",
            layout="hf",
            points=tuple(Point(f"checkpoint-{step}", step, step / max(steps)) for step in steps),
            origin=Origin("/base", "--geom-base"),
            weights={name: describe(name, shape) for name, shape in shapes.items()},
            skipped=dict(skipped or {}),
        )
        unchanged: Value = lambda step, name: float(frozen(step, name))  # noqa: E731
        noise = {("rounding_share", "value"): 0.0, ("frozen_share", "value"): unchanged}
        for (metric, stat), value in {**noise, **(figures or {})}.items():
            _fill(record, metric, stat, value, shapes)
        return record

    return make


def _fill(record: Record, key: str, stat: str, value: Value, shapes: Mapping[str, tuple[int, ...]]) -> None:
    name, _, params = key.partition(" ")
    metric = load_metrics()[name]
    request = Request(name, params) if params else Request.of(metric, {})
    record.versions[name] = metric.version
    figures = {}
    for point in record.points:
        for weight, shape in shapes.items():
            if len(shape) != 2 or weight in record.skipped:
                continue
            found: Any = value(point.step, weight) if callable(value) else value
            if found is not None:
                figures[point.step, weight] = found if isinstance(found, Figure) else Figure(value=found)
    if figures:
        record.columns[request, stat] = Column.of(figures)


@pytest.fixture
def suite_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a suite file; a text without `geomcheck:` is the list of its expectations."""

    def write(text: str, name: str = "suite.yaml") -> Path:
        text = dedent(text)
        if "geomcheck:" not in text:
            text = "geomcheck: 1\nweights: attention\nexpect:\n" + indent(text, "  ")
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def load(suite_file: Callable[..., Path]) -> Callable[..., Suite]:
    """Load a suite written inline."""

    def loaded(text: str) -> Suite:
        return load_suite(suite_file(text))

    return loaded


@pytest.fixture
def refusals(suite_file: Callable[..., Path]) -> Callable[..., list[str]]:
    """The problems of an invalid suite, as `line:column: message`."""

    def refused(text: str) -> list[str]:
        with pytest.raises(SuiteError) as caught:
            load_suite(suite_file(text))
        return [str(problem).split("suite.yaml:", 1)[1] for problem in caught.value.problems]

    return refused


@pytest.fixture
def judge(load: Callable[..., Suite]) -> Callable[..., Any]:
    """The verdict of one expectation, written inline as its keys, on a record."""

    def judged(keys: str, record: Record, reference: Record | None = None) -> Any:
        lines = "\n".join(f"    {line}" for line in dedent(keys).strip().splitlines())
        (verdict,) = load(f"  - id: it\n{lines}\n").evaluate(record, reference)
        return verdict

    return judged
