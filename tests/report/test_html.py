"""The page without a browser: what it says, that it is safe, and that it stays small."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

import geomcheck
from geomcheck.diagnostics import load_metrics
from geomcheck.record import Figure
from geomcheck.report.html import Reported, drawn, page, wanted
from tests.figures import edit
from tests.report.records import mixture_of_experts, record_of, report
from tests.runs import NORM, Q, simple_run

LIMIT = 8 * 2**20
NAMES = [f"model.layers.{layer}.self_attn.{p}_proj.weight" for layer in range(6) for p in "qkvo"]
VOID = {"meta", "link", "input", "br"}

SUITE = """
geomcheck: 1
name: mine
expect:
  - {id: too-high, metric: stable_rank, below: 5, why: "It <b>spreads</b>."}
  - {id: too-low, metric: update_support, above: 90%, at: last}
  - {id: groups, metric: update_support, per: weight, within: [30%, 50%]}
  - {id: steady, metric: stable_rank, trend: rising}
  - {id: shaky, metric: hill_exponent, below: 1, level: warn}
  - {id: unmeasured, metric: top_energy, above: 10%}
  - {id: kind-of-run, regime: sft}
  - {id: fine, metric: stable_rank, within: [15, 40]}
"""


class Parsed(HTMLParser):
    """Elements, attributes and text of a page; fails on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.raw[self._open[-1]] if self._open and self._open[-1] in self.raw else self.said).append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.said))

    @property
    def data(self) -> dict[str, list[dict]]:
        return json.loads(self.raw["script"][0])


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(SUITE)
    return tmp_path / "mine.yaml"


def require_harmless(text: str) -> Parsed:
    """One style, one data block, one script, nothing that is fetched or runs otherwise."""
    parsed = Parsed(text)
    tags = Counter(tag for tag, _ in parsed.elements)
    assert (tags["script"], tags["style"], tags["link"]) == (2, 1, 1)
    assert not tags.keys() & {
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form-action",
        "video",
        "audio",
        "image",
        "use",
    }
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "srcset")], tag
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    ids = Counter(attributes["id"] for _, attributes in parsed.elements if "id" in attributes)
    assert not [name for name, count in ids.items() if count > 1]
    return parsed


def test_failures_come_first_with_all_that_explains_them(suite: Path) -> None:
    parsed = require_harmless(page([report(record_of(NAMES), suite)]))
    text = parsed.text
    assert "6 of 8 expectations failed" in text
    headings = ["too-high", "groups", "too-low", "steady", "kind-of-run", "unmeasured", "shaky", "fine"]
    verdicts = text[: text.rindex("Left out, and doubtful")]
    places = [verdicts.rindex(f" {heading} ") for heading in headings]
    assert places == sorted(places)
    assert "expected below 5." in text
    assert "The update spreads over more directions than it should" in text
    assert "Training touched less of the network than it should have." in text
    assert "Outside at every checkpoint, from step 100 on; off by " in text
    assert "Every layer is outside." not in text
    assert "Furthest from the others is layer" in text
    assert "Weights furthest from the others" in text
    assert re.search(r"[1-9][0-9]* of 24 weights outside at some checkpoint\.", text)
    assert "It <b>spreads</b>." in text
    assert f"{suite}:5" in text
    assert "This could not be judged, which counts as a failure" in text
    assert text.count("model.layers.") > 10


def test_points_differ_in_shape_as_well_as_in_colour(suite: Path) -> None:
    parsed = Parsed(page([report(record_of(NAMES), suite)]))
    classes = Counter(a.get("class") for tag, a in parsed.elements if tag in ("path", "circle"))
    assert classes["out"] >= 5  # crosses: paths
    assert classes["in"] >= 5  # discs: circles


def test_without_a_suite_there_are_figures_and_no_verdict() -> None:
    parsed = require_harmless(page([report(record_of(NAMES))]))
    assert "No suite was judged: figures only" in parsed.text
    assert "expectations" not in parsed.text
    for title in ("Update support", "Stable rank", "Relative update norm", "Hill tail estimate"):
        assert title in parsed.text


def test_reference_figures_are_cited() -> None:
    text = Parsed(page([report(record_of(NAMES))])).text
    assert "Published (arXiv 2606.07082, Qwen3-8B on mathematics): SFT 91.9%; OPD 48.4%; RLVR 22.8%." in text
    assert "SFT grows from about 20 to 75; OPD flat, about 20 to 30." in text


def test_every_metric_is_defined() -> None:
    text = Parsed(page([report(record_of(NAMES))])).text
    metric = geomcheck.diagnostics.load_metrics()["hill_exponent"]
    assert metric.definition in text
    assert metric.undefined in text
    assert metric.source in text


HOSTILE = [
    "model.layers.0.mlp.<script>alert(1)</script>.weight",
    "model.layers.0.mlp.</script><script>alert(2)//",
    'model.layers.1.mlp." onmouseover="alert(3)',
    "model.layers.1.mlp.' autofocus onfocus='alert(4)",
    "model.layers.2.mlp.${alert(5)}{{7*7}}{% raw %}",
    "model.layers.2.mlp.\x1b[31m\x00\r\n<!--",
    "model.layers.3.mlp.\u202egnp.exe\u2066",
    "model.layers.3.mlp.]]>&lt;img src=x onerror=alert(6)&gt;",
]


def test_names_are_text_whatever_they_hold(suite: Path) -> None:
    record = record_of(HOSTILE, run="<b>run</b>")
    record.skipped["model.<i>x</i>"] = "</dl><script>alert(7)</script>"
    record.notes = ("<svg onload=alert(8)>",)
    text = page([report(record, suite)], ["<script>alert(9)</script>"])
    parsed = require_harmless(text)
    assert not any(mark in text for mark in ("\x1b", "\x00", "\u202e", "\u2066"))
    assert "<svg onload=alert(8)>" in parsed.text
    assert "model.layers.0.mlp.<script>alert(1)</script>.weight" in parsed.data["runs"][0]["names"]
    assert "model.layers.3.mlp.\\u202egnp.exe\\u2066" in parsed.data["runs"][0]["names"]
    assert "{{7*7}}{% raw %}" in text


def test_the_policy_allows_this_style_and_this_script_only() -> None:
    parsed = Parsed(page([report(record_of(NAMES))]))
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = {
        kind: base64.b64encode(hashlib.sha256(parsed.raw[kind][-1].encode()).digest()).decode()
        for kind in ("style", "script")
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest['style']}'; script-src 'sha256-{digest['script']}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_experts_share_a_cell_that_names_the_extreme_ones() -> None:
    names = [f"model.layers.0.mlp.experts.{e}.up_proj.weight" for e in range(8)]
    record = record_of(names, steps=(10, 20))
    edit(record, "stable_rank", {(20, name): Figure(value=float(i)) for i, name in enumerate(names, 1)})
    run = Parsed(page([report(record)])).data["runs"][0]
    assert run["cells"] == [{"at": [0, 0], "count": 8, "name": None}]
    (rank,) = [figure for figure in run["figures"] if figure["key"].startswith("stable_rank ")]
    assert rank["values"][1] == [4.5]
    lowest, low, highest, high = rank["extremes"][0]
    assert (run["names"][lowest], low, run["names"][highest], high) == (names[0], 1.0, names[7], 8.0)


def test_46000_experts_stay_small(suite: Path) -> None:
    record = mixture_of_experts()
    started = time.perf_counter()
    text = page([report(record)])
    print(f"{len(record.weights)} weights x {len(record.points)}: {time.perf_counter() - started:.2f} s")
    assert len(record.weights) > 46_000
    assert len(text.encode()) < 2**20
    require_harmless(text)


def test_the_size_is_bounded_even_where_nothing_can_be_folded() -> None:
    """As many layers, modules and checkpoints as weights, under names of a thousand characters."""
    names = [f"model.layers.{i % 4000}.{'x' * 1000}.m{i}.weight" for i in range(8000)]
    text = page([report(record_of(names, steps=tuple(range(1, 21))))])
    assert len(text.encode()) < LIMIT
    assert len(Parsed(text).data["runs"][0]["layers"]) <= 120


def test_frozen_skipped_and_rounded_weights_are_told() -> None:
    record = record_of(NAMES)
    for step in (100, 200, 300, 400, 500):
        edit(record, "frozen_share", {(step, NAMES[0]): Figure(value=1.0)})
        tied = Figure(undefined="tied at <k>")
        edit(record, "update_support", {(step, NAMES[0]): Figure(value=0.0), (step, NAMES[1]): tied})
    record.skipped["model.layers.0.mlp.odd.weight"] = "stored as F8_E4M3"
    text = Parsed(page([report(record)])).text
    left_out = "they count with an update of 0, and are left out of figures that need one."
    assert f"1 weight of 24 never changed (frozen), {NAMES[0]}: {left_out} {NAMES[0]}" in text
    assert "stored as F8_E4M3: model.layers.0.mlp.odd.weight" in text
    assert "explained by rounding to the stored format" in text
    assert "update_support: tied at <k> (5)" in text


def test_a_frozen_weight_has_the_figures_that_an_unchanged_one_has() -> None:
    record = record_of([Q, NAMES[-1]], steps=(10,))
    for metric in record.measured_metrics():
        own, other = (1.0, 0.0) if metric == "frozen_share" else (0.0, 0.25)
        edit(record, metric, {(10, Q): Figure(value=own), (10, NAMES[-1]): Figure(value=other)})
    run = Parsed(page([report(record)])).data["runs"][0]
    shown = {figure["key"].split()[0]: figure["values"][0] for figure in run["figures"]}
    assert shown["update_support"] == [0.0, 0.25]
    assert shown["stable_rank"] == [None, 0.25]
    assert all(values == [0.0 if load_metrics()[name].when_unchanged else None, 0.25] for name, values in shown.items())


def test_a_comparison_overlays_runs_and_keeps_their_maps() -> None:
    parsed = require_harmless(page([report(record_of(NAMES, run="a")), report(record_of(NAMES, run="b", seed=1))]))
    assert "Comparison of 2 runs" in parsed.text
    assert [run["name"] for run in parsed.data["runs"]] == ["a", "b"]
    lines = Counter(a.get("class") for tag, a in parsed.elements if tag == "polyline")
    assert lines["line run0 dash0"] == lines["line run1 dash1"] >= 6
    assert "choose-run" in {a.get("id") for _, a in parsed.elements}


def test_runs_without_figures_say_so() -> None:
    empty = dataclasses.replace(record_of([NORM]), columns={})
    parsed = require_harmless(page([report(empty), Reported("gone", "runs/gone", None, problem="no <such> file")]))
    assert "gone could not be measured: no <such> file" in re.sub(r"\s+", " ", parsed.text)
    assert "1 run could not be measured" in parsed.text
    assert "Nothing was measured." in parsed.text


@pytest.mark.parametrize("steps", [(7,), tuple(range(1, 300))], ids=["one", "many"])
def test_any_number_of_checkpoints(steps: tuple[int, ...], suite: Path) -> None:
    text = page([report(record_of(NAMES[:3], steps=steps), suite)])
    require_harmless(text)
    assert len(text) < 2**20


@pytest.mark.parametrize("value", [0.0, 5e-324, 1.7e308], ids=["zero", "smallest", "largest"])
def test_extreme_figures_are_drawn(value: float, suite: Path) -> None:
    record = record_of(NAMES)
    for request, stat in record.measured():
        if request.metric in ("stable_rank", "relative_update_norm", "spectral_shift"):
            edit(record, request.metric, dict.fromkeys(record.figures(request, stat), Figure(value=value)))
    text = page([report(record, suite)])
    require_harmless(text)
    assert "nan" not in re.findall(r'(?:cx|cy|y1|points)="([^"]*)"', text)


def test_a_metric_that_is_not_installed_is_shown_under_its_name() -> None:
    record = record_of(NAMES)
    known = next(key for key in record.measured() if key[0].metric == "stable_rank")
    record.columns[known[0]._replace(metric="theirs<x>"), "value"] = record.columns.pop(known)
    parsed = require_harmless(page([report(record)]))
    assert "theirs<x> (value)" in [figure["title"] for figure in parsed.data["figures"].values()]


def test_a_report_asks_for_what_it_draws(tmp_path: Path) -> None:
    record = geomcheck.measure(simple_run(tmp_path / "opd"), metrics=[metric.name for metric in drawn()])
    plan = wanted(record)
    assert NORM not in plan
    assert {request.metric for request in plan[Q]} >= {"stable_rank", "update_support", "update_spectrum"}
    run = Parsed(page([report(record)])).data["runs"][0]
    assert len(run["spectrum"]) == 16
    assert [len(stats) for stats in run["angles"].values()] == [3, 3]
    spectra = [values[0] for values in run["spectrum"]]
    assert spectra == sorted(spectra, reverse=True)


def test_the_algorithms_that_answered_are_told(tmp_path: Path) -> None:
    record = geomcheck.measure(simple_run(tmp_path / "opd"), metrics=["stable_rank"])
    text = Parsed(page([report(record)])).text
    assert "singular values of D, k=1: float64 factorization of the whole matrix (9 times, estimated error" in text


def test_a_band_per_checkpoint_is_drawn_and_tells_which_side_was_left(tmp_path: Path) -> None:
    record = geomcheck.measure(simple_run(tmp_path / "opd"), metrics=["relative_update_norm"])
    suite = tmp_path / "bands.yaml"
    band = "{step: 10, within: [1e-4, 2e-4]}, {step: 30, within: [1e-4, 3e-4]}"
    expectation = f"{{id: norm, metric: relative_update_norm, bands: [{band}]}}"
    suite.write_text(f"geomcheck: 1\nname: bands\nexpect:\n  - {expectation}\n")
    parsed = Parsed(page([report(record, suite)]))
    assert any(tag == "polygon" and "allowed" in (own.get("class") or "") for tag, own in parsed.elements)
    assert "1 of 1 expectation failed" in parsed.text
    assert "at step 30; expected 10⁻⁴ to 3×10⁻⁴." in parsed.text
