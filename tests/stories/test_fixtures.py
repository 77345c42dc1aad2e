"""The committed real runs, and synthetic runs of known geometry, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures import synthetic

FIXTURES = Path(synthetic.__file__).parent
METHODS = ("sft", "opd", "rlvr")


def gate(pytester: pytest.Pytester, run: Path, suite: str, *options: str) -> tuple[pytest.RunResult, dict[str, Any]]:
    """The result, and the expectations of the JSON by id."""
    named = suite if suite.endswith(".yaml") else FIXTURES.parent / "suites" / f"{suite}.yaml"
    arguments = (f"--geom-run={run}", f"--geom-suite={named}", "--geom-json=v.json", "-p", "no:cacheprovider")
    result = pytester.runpytest_inprocess(*arguments, *options)
    (judged,) = json.loads((pytester.path / "v.json").read_text())["runs"][0]["suites"]
    return result, {expectation["id"]: expectation for expectation in judged["expectations"]}


class TestRealRuns:
    @pytest.mark.parametrize("method", METHODS)
    def test_each_passes_its_own_suite(self, pytester: pytest.Pytester, method: str) -> None:
        result, expectations = gate(pytester, FIXTURES / f"tiny-{method}", f"tiny-{method}")
        assert result.ret == 0
        assert {e["outcome"] for e in expectations.values()} == {"passed"}
        assert all(e["weights"] == {"measured": 14, "frozen": 0, "skipped": 0} for e in expectations.values())

    @pytest.mark.parametrize("suite", METHODS)
    @pytest.mark.parametrize("run", METHODS)
    def test_each_fails_the_others_suites(self, pytester: pytest.Pytester, run: str, suite: str) -> None:
        if run == suite:
            return
        result, expectations = gate(pytester, FIXTURES / f"tiny-{run}", f"tiny-{suite}")
        assert result.ret == 1
        failed = {name for name, e in expectations.items() if e["outcome"] == "failed"}
        assert {"rotation", "spectral-drift"} <= failed

    def test_a_failure_names_metric_bound_values_worst_weights_and_line(self, pytester: pytest.Pytester) -> None:
        result, _ = gate(pytester, FIXTURES / "tiny-sft", "tiny-opd", "-v")
        result.stdout.fnmatch_lines(
            [
                "stable_rank left 2 <= value <= 4.2 at 5 of 5 checkpoints, furthest at step 1200: 6.4* (mean of 14 *",
                "  expected   2 to 4.2 at every checkpoint, mean over weights",
                "  metric     stable_rank",
                "  observed   step *240 *480 *720 *960 *1200*",
                "             value  5.11!  6.109!  6.35!  6.436!  6.454!  *",
                "  furthest   from the others:",
                "             model.layers.*.weight  * at step 1200",
                "  weights    14 measured, 0 frozen, 0 skipped",
                "  why        The update stays in few directions; SFT's spreads over more.",
                "  suite      *suites/tiny-opd.yaml:36",
            ]
        )

    @pytest.mark.parametrize("method", METHODS)
    def test_the_papers_suites_leave_them_alone(self, pytester: pytest.Pytester, method: str) -> None:
        result = pytester.runpytest_inprocess(f"--geom-run={FIXTURES / f'tiny-{method}'}", "--collect-only", "-q")
        assert result.ret == 0
        collected = [line.partition("::")[0] for line in result.outlines if "::" in line]
        assert {Path(name).name for name in collected} == {"sanity.yaml"}


SUITE = """
geomcheck: 1
name: known
weights: {{include: ["*_proj.weight"]}}
expect:
  - id: known
    metric: {metric}
    near: {near}
    tolerance: {tolerance}
    at: {at}
    per: weight
"""

KNOWN = [
    ("stable-rank-flat", "stable_rank", "4", "1e-4", "all"),
    ("stable-rank-expanding", "stable_rank", "8", "1e-4", "last"),
    ("stable-rank-expanding", "stable_rank", "2", "1e-4", "first"),
    ("stable-rank-contracting", "stable_rank", "2", "1e-4", "last"),
    ("rotated", "principal_angle\n    stat: max", "1 deg", "1e-4 deg", "last"),
    ("rotated", "principal_angle\n    stat: mean\n    side: left", "0.2 deg", "1e-4 deg", "first"),
    ("rotated", "spectral_shift", "0", "1e-7", "all"),
    ("visible-23", "update_support", "23%", "1e-9", "all"),
    ("visible-23", "update_sparsity", "77%", "1e-9", "all"),
    ("locked", "subspace_alignment", "1", "1e-6", "first"),
    ("rotating", "subspace_alignment", "0.2", "1e-5", "first"),
    ("small-entries", "low_magnitude_overlap", "1", "1e-9", "last"),
    ("principal-entries", "principal_overlap\n    rank: 12.5%", "1", "1e-9", "last"),
    ("rescaled", "spectral_share", "1", "1e-6", "last"),
    ("rescaled", "spectral_shift", "0.01953125", "1e-9", "last"),
]


@pytest.mark.parametrize(("run", "metric", "near", "tolerance", "at"), KNOWN)
def test_known_geometry_is_measured(
    pytester: pytest.Pytester, run: str, metric: str, near: str, tolerance: str, at: str
) -> None:
    synthetic.write_run(pytester.path, run)
    suite = pytester.path / "known.yaml"
    suite.write_text(SUITE.format(metric=metric, near=near, tolerance=tolerance, at=at))
    result, expectations = gate(pytester, pytester.path / run, str(suite))
    assert result.ret == 0, expectations["known"]["message"]


def test_a_frozen_layer_is_counted_and_judged_by_what_it_has(pytester: pytest.Pytester) -> None:
    synthetic.write_run(pytester.path, "frozen-layer")
    suite = pytester.path / "known.yaml"
    each = SUITE.format(metric="stable_rank", near="4", tolerance="1e-4", at="all")
    suite.write_text(each)
    result, expectations = gate(pytester, pytester.path / "frozen-layer", str(suite))
    assert result.ret == 1
    assert (
        "model.layers.0.mlp.down_proj.weight (and 6 more) never changed, and has no" in expectations["known"]["message"]
    )
    suite.write_text(each.replace("per: weight", ""))
    result, expectations = gate(pytester, pytester.path / "frozen-layer", str(suite))
    assert result.ret == 0
    assert expectations["known"]["weights"] == {"measured": 7, "frozen": 7, "skipped": 0}
    result.stdout.fnmatch_lines(
        ["note: frozen-layer: 7 weights of 14 never changed (frozen), such as *: they count with an update*"]
    )
    suite.write_text(
        SUITE.format(metric="frozen_share", near="50%", tolerance="0", at="last").replace("per: weight", "")
    )
    result, _ = gate(pytester, pytester.path / "frozen-layer", str(suite))
    assert result.ret == 0
