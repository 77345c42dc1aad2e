"""What every declared metric promises, checked on the metric itself."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import geomcheck
from geomcheck import _plugins
from geomcheck.api import _chosen
from geomcheck.calibration.derive import _candidates
from geomcheck.diagnostics import FOLDS, Base, Metric, Parameter, Registry, Unit, Update, load_metrics, resolve_rank
from geomcheck.diagnostics.locking import alignment, subspace_energy, top_channel
from geomcheck.diagnostics.rank import rounding_share
from geomcheck.diagnostics.support import mask_jaccard
from geomcheck.errors import Undefined, UsageError
from tests.diagnostics.cases import Case, Run, cases, make

METRICS = list(load_metrics())
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def defaults(metric: Metric, **own: Any) -> dict[str, Any]:
    return {p.name: own.get(p.name, p.usual) for p in metric.measured_parameters}


def run(dtype: torch.dtype = torch.bfloat16) -> Run:
    early = make((40, 24), dtype, seed=3, step=0.1)
    return Run(early.update, Update(early.update.base, make((40, 24), dtype, seed=3, step=0.3).wt))


@each_metric
def test_the_declaration_is_complete(metric: Metric) -> None:
    assert metric.name.isidentifier()
    assert metric.name.islower()
    assert all((metric.title, metric.definition, metric.source))
    assert metric.fold in FOLDS
    assert metric.low == 0 or metric.name in ("stable_rank", "effective_rank") or (metric.low, metric.high) == (-1, 1)
    assert metric.undefined or metric.when_unchanged
    assert len({p.name for p in metric.parameters}) == len(metric.parameters)
    if metric.trivial_at is not None:
        assert metric.parameter(metric.trivial_at).kind == "checkpoint"
    for parameter in metric.parameters:
        assert parameter.about
        assert parameter.required or parameter.kind != "choice" or parameter.default in parameter.choices
        assert not parameter.selects or parameter.kind == "choice"


@each_metric
def test_ours_leave_nothing_to_the_defaults(metric: Metric) -> None:
    assert metric.words
    assert len({metric.words.shows, metric.words.high, metric.words.low}) == 3
    assert all(text.endswith(".") for text in (metric.words.shows, metric.words.high, metric.words.low))
    assert metric.distrust.endswith(".")
    assert metric.example
    assert not metric.follows or metric.follows.leader in ("", *load_metrics().names())
    assert all(level.low <= level.high and level.words for level in metric.levels)
    assert not metric.published or metric.published.cited().startswith("Published (arXiv ")


@each_metric
def test_the_example_is_a_band_that_a_suite_may_hold(metric: Metric, tmp_path: Path) -> None:
    low, high = metric.example
    given = "".join(f"{p.name}: {p.usual}, " for p in metric.parameters if p.required)
    suite = tmp_path / "mine.yaml"
    suite.write_text(
        f"geomcheck: 1\nname: mine\nexpect: [{{id: it, metric: {metric.name}, {given}within: [{low}, {high}]}}]\n"
    )
    (expectation,) = geomcheck.load_suite(suite).expectations
    assert expectation.id == "it"


@each_metric
def test_rounding_inflates_what_says_so(metric: Metric) -> None:
    """An update along a few of W0's directions, stored exactly, and in a format whose rounding is a quarter of it."""
    w0 = torch.tensor(np.random.default_rng(0).standard_normal((128, 96))).to(torch.bfloat16)
    left, values, right = torch.linalg.svd(w0.double(), full_matrices=False)
    direction = (left[:, :12] * values[:12] * 2.0 ** -torch.arange(12)) @ right[:12]
    if metric.name in ("frozen_share", "rounding_share", "representable_share"):
        return  # none of them is a figure of the update's size or directions
    figures = []
    for dtype in (torch.float32, torch.bfloat16):
        this, other = (Update(Base(w0), (w0.double() + step * direction).to(dtype)) for step in (0.016, 0.012))
        params = defaults(metric, k=4) | ({"rank": 8} if metric.parameter("rank") else {})
        figures.append(metric.compute(this, params, Run(this, other))[metric.stat({})])
        share = rounding_share(this)
    assert 0.2 < share < 0.3
    exact, rounded = figures
    changed = abs(rounded - exact) / (exact or 1.0)
    assert (changed > 0.05) == metric.inflated_by_rounding, f"{metric.name}: {exact:.4g} became {rounded:.4g}"


@each_metric
def test_figures_are_builtin_finite_floats_in_range(metric: Metric) -> None:
    here = run()
    figures = metric.compute(here.this, defaults(metric, rank=8), here)
    low, high = metric.range(defaults(metric))
    assert metric.stat({}) in figures
    for value in figures.values():
        assert type(value) is float
        assert low <= value <= high


@each_metric
def test_every_selectable_statistic_is_measured(metric: Metric) -> None:
    here = run()
    figures = metric.compute(here.this, defaults(metric, rank=8), here)
    chosen = [{}]
    for parameter in metric.parameters:
        if parameter.selects:
            chosen = [{**one, parameter.name: value} for one in chosen for value in parameter.choices]
    assert {metric.stat(one) for one in chosen} == set(figures)


@each_metric
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_without_change_there_is_a_figure_or_a_reason(metric: Metric, dtype: torch.dtype) -> None:
    w0 = make((40, 24), dtype, seed=3).w0
    still = Update(Base(w0), w0.clone())
    here = Run(still, still)
    if metric.when_unchanged:
        assert all(math.isfinite(v) for v in metric.compute(still, defaults(metric), here).values())
    else:
        with pytest.raises(Undefined):
            metric.compute(still, defaults(metric, rank=8), here)


@each_metric
@given(case=cases())
def test_any_update_gives_figures_in_range_or_a_reason(metric: Metric, case: Case) -> None:
    """Neither NaN nor another exception, whatever the shape, rank, scale and storage."""
    update = case.update
    try:
        figures = metric.compute(update, defaults(metric), Run(update, update))
    except Undefined:
        return
    low, high = metric.range(defaults(metric))
    assert all(low <= value <= high for value in figures.values())


def test_metrics_across_a_run_ask_for_the_right_checkpoints() -> None:
    metrics, here = load_metrics(), run(torch.float32)
    early, late = (top_channel(update, 5, "right") for update in (here.this, here.other))
    params = {"k": 5, "to": "last", "side": "right"}
    sim = metrics["subspace_alignment"].compute(here.this, params, here)["value"]
    assert sim == alignment(early, late) < 1
    energy = metrics["subspace_energy"].compute(here.this, {"k": 5, "from": "first"}, here)["value"]
    assert energy == subspace_energy(here.this, late)
    assert metrics["mask_jaccard"].compute(here.this, {}, here)["value"] == mask_jaccard(here.this, here.other)


def test_an_excess_may_be_negative() -> None:
    metric = load_metrics()["low_magnitude_overlap"]
    assert metric.range({"excess_over": "none"}) == (0.0, 1.0)
    assert metric.range({"excess_over": "shuffled"}) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("rank", "shape", "expected"),
    [
        (16, (8, 8), 16),
        ("12.5%", (4096, 4096), 512),
        ("12.5%", (12288, 4096), 512),
        ("12.5%", (1024, 4096), 128),
        ("100%", (5, 7), 5),
        ("1%", (10, 10), 1),
        ("0.01%", (10, 10), 1),
    ],
)
def test_ranks_and_shares_of_the_smaller_side(rank: int | str, shape: tuple[int, int], expected: int) -> None:
    assert resolve_rank(rank, shape) == expected


@given(st.integers(2, 5000), st.floats(0.01, 100))
def test_a_share_is_within_half_a_dimension(size: int, share: float) -> None:
    k = resolve_rank(f"{share:.4f}%", (size, 2 * size))
    assert 1 <= k <= size
    assert k == 1 or abs(k - share / 100 * size) <= 0.5 + size * 1e-6


def metric_named(name: str) -> Metric:
    return Metric(
        name=name,
        title="a",
        definition="b",
        unit=Unit.NUMBER,
        source="c",
        parameters=(Parameter(name="x", kind="number", about="d"),),
        compute=lambda *_: {"value": 1.0},
    )


def test_what_is_measured_on_request_is_left_out_where_none_is_asked_for() -> None:
    """Nothing but a flag keeps them from the defaults: reports, `measure`, calibration and `compare` all go by it."""
    asked = [metric for metric in METRICS if metric.on_request]
    assert {"intruder_dimensions", "effective_rank", "row_concentration"} <= {metric.name for metric in asked}
    by_default = {request.metric for request in _chosen(None, load_metrics(), default_all=True)}
    assert not by_default & {metric.name for metric in asked}
    assert not {metric.name for metric in _candidates(None)} & {metric.name for metric in asked}
    for metric in asked:
        free = not any(parameter.required for parameter in metric.parameters)
        assert replace(metric, on_request=False).measured_by_default == free
        if free:
            assert [request.metric for request in _chosen([metric.name], load_metrics(), default_all=True)]


def test_a_name_is_declared_once() -> None:
    registry = Registry()
    mine = registry.add(metric_named("mine"))
    assert registry["mine"] is mine
    assert "mine" in registry
    assert registry.names() == ("mine",)
    with pytest.raises(ValueError, match="declared twice"):
        registry.add(metric_named("mine"))


def test_a_metric_whose_parameter_has_no_default_is_measured_by_suites_alone() -> None:
    registry = Registry()
    registry.add(metric_named("mine"))
    assert _chosen(None, registry, default_all=True) == []
    with pytest.raises(UsageError, match="mine has no default for `x`: ask for it in a suite"):
        _chosen(["mine"], registry, default_all=True)


def install(monkeypatch: pytest.MonkeyPatch, loaded: object) -> None:
    entry = SimpleNamespace(name="mine", value="package:METRIC", load=lambda: loaded)
    groups = {"geomcheck.metrics": [entry]}
    monkeypatch.setattr(_plugins, "entry_points", lambda group: groups.get(group, []))


def test_installed_packages_add_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, metric_named("mine"))
    names = load_metrics.__wrapped__().names()
    assert names == (*load_metrics().names(), "mine")


@pytest.mark.parametrize("loaded", [print, metric_named("stable_rank")], ids=["no metric", "name in use"])
def test_bad_plugins_are_usage_errors_that_name_the_entry_point(
    monkeypatch: pytest.MonkeyPatch, loaded: object
) -> None:
    install(monkeypatch, loaded)
    with pytest.raises(UsageError, match=r"entry point 'mine' \(package:METRIC\)"):
        load_metrics.__wrapped__()


def test_the_interface_names_every_metric() -> None:
    promised = (
        "update_sparsity update_support principal_angle spectral_shift principal_overlap "
        "low_magnitude_overlap stable_rank "
        "update_norm relative_update_norm hill_exponent subspace_alignment subspace_energy "
        "principal_energy top_energy spectral_share mask_jaccard frozen_share"
    )
    assert set(promised.split()) <= set(load_metrics().names())


def test_shares_are_fractions_of_a_whole() -> None:
    shares = {metric.name for metric in METRICS if metric.is_share}
    assert {"update_support", "subspace_alignment", "frozen_share"} <= shares
    assert not shares & {"stable_rank", "principal_angle", "update_norm", "spectral_shift"}
    assert shares == {metric.name for metric in METRICS if metric.unit is Unit.FRACTION and metric.range({})[1] == 1}


@pytest.mark.parametrize(("k", "spanned"), [(23, {}), (24, {"k": 24}), (30, {"k": 30})])
def test_a_rank_spans_a_matrix_from_its_smaller_side_on(k: int, spanned: dict[str, int]) -> None:
    metric = load_metrics()["subspace_alignment"]
    for shape in ((40, 24), (24, 40)):
        assert metric.spanned(defaults(metric, k=k), shape) == spanned
