"""A red gate begins with what is wrong with the run, and with which expectations that explains."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from geomcheck.gate import diagnosis
from tests.diagnosis.spoiled import EVERY, LATE, LAYER, from_step, replaced, spoiled
from tests.runs import K, Q, write_run
from tests.stories.conftest import STRICT

TINY = (Path(__file__).parents[2] / "suites" / "tiny-opd.yaml").read_text(encoding="utf-8")
TITLE = "= geomcheck: what is wrong ="
STALE = "1. layer 1 stands still from checkpoint-90 on: that of checkpoint-60, to the bit"


@pytest.fixture
def stale(pytester: pytest.Pytester, write_suite) -> str:
    """A run whose second layer was no longer saved from the third checkpoint on."""
    write_suite(TINY, name="tiny-opd")
    return str(spoiled(pytester.path / "tiny-opd", replaced(LATE, LAYER, from_step(60))))


@pytest.fixture
def copied(pytester: pytest.Pytester, write_suite) -> str:
    """A run that the gate refuses, as one checkpoint is a copy of another."""
    write_suite(TINY, name="tiny-opd")
    return str(spoiled(pytester.path / "tiny-opd", replaced((120,), EVERY, from_step(60))))


def test_findings_come_before_any_failure(geom, stale: str, pytester: pytest.Pytester) -> None:
    result = geom("--geom-json=v.json", "--junitxml=j.xml", "--geom-report=r.html", path=stale)
    assert result.ret == 1
    output = result.stdout.str()
    assert output.index(TITLE) < output.index(STALE) < output.index("= short test summary")
    assert "explains  support, rotation, spectral-drift\n" in output
    run = json.loads((pytester.path / "v.json").read_text())["runs"][0]
    (found,) = run["findings"]
    assert found["kind"] == "stale"
    assert [one["id"] for one in found["explains"]] == ["support", "rotation", "spectral-drift"]
    told = ElementTree.parse(pytester.path / "j.xml").find(".//testsuite/properties/property[@name='geom_finding']")
    assert told is not None
    assert "layer 1 stands still" in told.attrib["value"]
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert page.index("layer 1 stands still") < page.index('aria-label="Verdicts"')


def test_what_a_fact_explains_fits_on_a_screen_and_v_gives_all(geom, stale: str) -> None:
    result = geom(path=stale)
    output = result.stdout.str()
    assert "  expected   " not in output
    assert "::support - finding 1: 40.92% at step 150" in output
    start = next(index for index, line in enumerate(result.stdout.lines) if TITLE in line)
    assert len(result.stdout.lines) - start <= 40
    verbose = geom("-v", path=stale).stdout.str()
    assert verbose.count("  expected   ") == 3


def test_the_furthest_have_their_texts_and_other_outputs_have_all(geom, write_suite, pytester: pytest.Pytester) -> None:
    ids = [f"e{i}" for i in range(1, 10)]
    write_suite(
        "geomcheck: 1\nname: mine\nexpect:\n"
        + "".join(f"  - {{id: {name}, metric: update_norm, below: {name[1:]}e-6, at: last}}\n" for name in ids)
    )
    result = geom("--junitxml=j.xml", "--geom-json=v.json")
    output = result.stdout.str()
    assert 1 <= output.count("  expected   ") <= 3
    assert "__ e1 __" in output
    assert "FAILED suites" not in output
    result.stdout.fnmatch_lines(["The texts of * more failures are shown with -v.", "* of 9 failures * with -rf."])
    assert (pytester.path / "j.xml").read_text().count("  expected   ") == 9
    assert output.index("FAILED e1 ") < output.index("FAILED e2 ") < output.index("= FAILURES =")
    assert json.loads((pytester.path / "v.json").read_text())["summary"]["failed"] == 9
    assert geom("-v").stdout.str().count("  expected   ") == 9
    assert geom("--tb=long").stdout.str().count("  expected   ") == 9
    assert geom("-rf").stdout.str().count("FAILED suites/mine.yaml::e") == 9


def test_what_is_wrong_with_several_runs_alike_is_told_once(geom, copied: str, pytester: pytest.Pytester) -> None:
    others = [str(spoiled(pytester.path / f"tiny-opd-{i}", replaced((120,), EVERY, from_step(60)))) for i in (2, 3)]
    runs = [f"--geom-run={path}" for path in (copied, *others)]
    result = geom(*runs[1:], "--geom-suite=tiny-opd", path=copied)
    output = result.stdout.str()
    assert output.count("is a copy of checkpoint-60") == 1
    result.stdout.fnmatch_lines(["1-3. checkpoint-120 is a copy *", "     runs      tiny-opd, tiny-opd-2, tiny-opd-3"])
    assert output.count("  ERROR  6 expectations: see finding ") == 3
    assert "FAILED suites" not in output


def test_the_furthest_failure_comes_first(geom, stale: str) -> None:
    output = geom("-v", path=stale).stdout.str()
    places = [output.index(f"__ {name} __") for name in ("support", "spectral-drift", "rotation")]
    assert places == sorted(places)  # 1.1, 0.62 and 0.07 half widths below their bands, in this order


def test_a_refused_run_is_explained_once(geom, copied: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    output = geom(path=copied).stdout.str()
    assert "1. checkpoint-120 is a copy of checkpoint-60, to the bit" in output
    assert output.count("hold the same weights") == 1
    assert "cause 1" not in output
    assert output.count("- see finding 1: cannot ") == 6
    summary = (tmp_path / "summary.md").read_text()
    assert summary.index("is a copy of") < summary.index("| run |")


def test_quiet_is_the_sentence_and_what_it_explains(geom, stale: str) -> None:
    lines = geom("-q", path=stale).stdout.lines
    start = next(index for index, line in enumerate(lines) if TITLE in line)
    assert [line.strip() for line in lines[start + 1 : start + 3]] == [
        STALE,
        "explains support, rotation, spectral-drift",
    ]


def test_a_green_gate_looks_for_nothing(geom, write_suite, monkeypatch: pytest.MonkeyPatch, pytester) -> None:
    write_suite(STRICT.replace("below: 5%", "above: 5%"))
    monkeypatch.setattr(diagnosis, "_case", lambda *_: pytest.fail("it looked"))
    assert geom("--geom-json=v.json").ret == 0
    assert json.loads((pytester.path / "v.json").read_text())["runs"][0]["findings"] is None


def test_what_explains_nothing_is_counted_alone(geom, write_suite) -> None:
    write_suite(STRICT)
    output = geom().stdout.str()
    assert TITLE not in output
    assert "note: opd: no finding explains what fails" in output


@pytest.mark.parametrize("error", [RuntimeError("it broke"), KeyboardInterrupt()])
def test_a_diagnosis_that_fails_hides_no_verdict(
    geom, stale: str, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester, error: BaseException
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(diagnosis, "_case", broken)
    result = geom("--geom-json=v.json", path=stale)
    assert result.ret == 1
    output = result.stdout.str()
    assert "note: tiny-opd: no diagnosis: " in output
    assert "The texts of 1 more failure are shown with -v." in output
    assert json.loads((pytester.path / "v.json").read_text())["summary"]["failed"] == 3


def test_a_finding_explains_what_rests_on_its_weights_and_checkpoints(
    geom, write_suite, pytester: pytest.Pytester
) -> None:
    """The stale weight is of the first layer and of the last checkpoint."""
    names = (Q, Q.replace("layers.0", "layers.1"), K)
    base = {name: torch.randn(24, 24, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(names)}
    states = [{name: weight + 1e-2 * step * weight.flip(0) for name, weight in base.items()} for step in (1, 2, 3)]
    states[2][Q] = states[1][Q]
    run = write_run(pytester.path / "ckpts" / "opd2", base, dict(zip((10, 20, 30), states, strict=True)))
    expectations = [
        ("its-layer", "per: layer", "last", "[model.layers.0.*]"),
        ("another-layer", "per: layer", "last", "[model.layers.1.*]"),
        ("earlier", "per: run", "first", "[model.layers.0.*]"),
    ]
    write_suite(
        "geomcheck: 1\nname: mine\nexpect:\n"
        + "".join(
            f"  - {{id: {name}, metric: relative_update_norm, {per}, at: {at}, below: 1e-9,"
            f" weights: {{include: {of}}}}}\n"
            for name, per, at, of in expectations
        )
    )
    output = geom(path=str(run)).stdout.str()
    assert f"{Q} stands still at checkpoint-30" in output
    assert "explains  its-layer\n" in output
