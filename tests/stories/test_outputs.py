from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import geomcheck
from tests.runs import Q, base_weights, moved, write_run
from tests.stories.conftest import HEALTHY, STRICT


def test_the_json_has_the_shape_of_the_contract(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    geom("--geom-json=out/verdicts.json")
    verdicts = json.loads((pytester.path / "out" / "verdicts.json").read_text())
    assert set(verdicts) == {"format", "geomcheck", "runs", "errors", "summary"}
    assert (verdicts["format"], verdicts["geomcheck"]) == (1, geomcheck.__version__)
    assert verdicts["summary"] == {"passed": 1, "failed": 1, "error": 0, "warned": 0, "info": 0}
    (run,) = verdicts["runs"]
    assert set(run) == {"name", "path", "layout", "notes", "findings", "checkpoints", "base", "suites"}
    first = {"name": "checkpoint-10", "step": 10, "progress": pytest.approx(1 / 3), "judged": True}
    assert run["checkpoints"][0] == first
    assert run["base"] == {"path": "ckpts/opd/base", "how": "base/ in the run"}
    (suite,) = run["suites"]
    assert (suite["name"], suite["path"]) == ("strict", "suites/mine.yaml")
    support, norm = suite["expectations"]
    contract = {"id", "metric", "params", "condition", "at", "per", "fold", "level", "outcome", "message"}
    assert contract | {"observed", "worst", "weights"} <= set(support)
    assert (support["outcome"], norm["outcome"]) == ("failed", "passed")
    assert [entry["step"] for entry in norm["observed"]] == [10, 20, 30]
    assert {"step", "group", "value", "holds"} <= set(norm["observed"][0])
    assert {"step", "weight", "value"} <= set(norm["worst"][0])
    assert norm["weights"] == {"measured": 3, "frozen": 0, "skipped": 0}


def test_errors_are_in_the_json_too(geom, write_suite, opd_run: Path, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    broken = moved(base_weights(), 1e-2)
    broken[Q][0, 0] = float("nan")
    write_run(opd_run, base_weights(), {10: broken})
    geom("--geom-json=v.json")
    verdicts = json.loads((pytester.path / "v.json").read_text())
    assert verdicts["summary"]["error"] == 2
    assert "NaN" in verdicts["runs"][0]["suites"][0]["expectations"][0]["message"]


def test_a_record_gates_as_the_run_does(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    geom("--geom-record=r.parquet", "--geom-json=from-run.json")
    geom("--geom-json=from-record.json", path="r.parquet")
    read = [json.loads((pytester.path / f"from-{source}.json").read_text()) for source in ("run", "record")]
    assert read[0]["summary"] == read[1]["summary"]
    assert read[0]["runs"][0]["suites"] == read[1]["runs"][0]["suites"]


def test_a_record_says_what_it_cannot_answer(geom, write_suite) -> None:
    write_suite(HEALTHY)
    geom("--geom-record=r.parquet", "-k", "support")
    result = geom(path="r.parquet")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*cannot judge stable_rank: the record of run 'opd' holds no stable_rank*"])


def test_junit_carries_metric_value_and_bound(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    geom("--junitxml=j.xml")
    cases = ET.parse(pytester.path / "j.xml").getroot().findall(".//testcase")
    support = {p.get("name"): p.get("value") for p in cases[0].findall(".//property")}
    assert support["geom_metric"] == "update_support"
    assert support["geom_condition"] == "value < 5%"
    assert support["geom_outcome"] == "failed"
    assert float(support["geom_value"] or "nan") > 0.05
    assert (support["geom_run"], support["geom_step"], support["geom_level"]) == ("opd", "30", "error")
    failure = cases[0].find("failure")
    assert failure is not None
    assert "\n" not in failure.attrib["message"]
    assert "furthest" in (failure.text or "")


def test_github_gets_a_table(geom, write_suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    write_suite(STRICT)
    geom()
    lines = (pytester.path / "summary.md").read_text().splitlines()
    assert lines[2] == "|  | run | expectation | metric | value | expected | off by, in half widths |"
    first, *cells, _ = lines[4].split(" | ")
    assert (first, *cells[:3]) == ("| FAILED", "opd", "strict::support", r"update\_support")
    assert cells[3].startswith("9")
    assert cells[3].endswith(" at step 30")
    assert cells[4] == "below 5%"


def test_an_earlier_record_stands_beside_and_decides_nothing(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    pages = []
    for previous in ([], ["--geom-previous=r.parquet"], ["--geom-previous=gone.parquet"]):
        outputs = ("--geom-record=r.parquet", "--geom-markdown=page.md", "--geom-code-quality=q.json")
        assert geom(*outputs, *previous).ret == 1
        pages.append((pytester.path / "page.md").read_text())
    alone, beside, gone = pages
    assert "before |" not in alone
    assert "| before |" in beside
    assert beside.count(r"\+0.0% since") == 2
    assert "no earlier figures" in gone
    assert "before |" not in gone
    (entry,) = json.loads((pytester.path / "q.json").read_text())
    assert (entry["severity"], entry["location"]["path"]) == ("critical", "suites/mine.yaml")


def test_the_same_run_gives_the_same_digits(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    texts = []
    for workers in ("1", "3"):
        geom(f"--geom-workers={workers}", "--geom-json=v.json")
        texts.append((pytester.path / "v.json").read_text())
    assert texts[0] == texts[1]


def test_an_invalid_suite_is_in_the_outputs(
    geom, write_suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    write_suite(HEALTHY.replace("above", "abvoe"))
    assert geom("--geom-json=v.json").ret == 2
    verdicts = json.loads((pytester.path / "v.json").read_text())
    assert verdicts["summary"]["passed"] == 0
    assert "suites/mine.yaml:8:5: unknown key `abvoe`" in verdicts["errors"][0]
    assert "abvoe" in (pytester.path / "summary.md").read_text()


def test_an_older_output_does_not_survive(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    (pytester.path / "v.json").write_text("old")
    geom("--geom-json=v.json", "--collect-only")
    assert (pytester.path / "v.json").read_text() == "old"
    geom("--geom-json=v.json", "-k", "nothing")
    assert json.loads((pytester.path / "v.json").read_text())["summary"]["passed"] == 0


def test_the_records_of_several_runs_keep_their_places(write_suite, opd_run: Path, pytester: pytest.Pytester) -> None:
    """Where one run cannot be measured any more, its older record must not pass for this session's."""
    write_suite(HEALTHY)
    shutil.copytree(opd_run, pytester.path / "ckpts" / "opd-2")
    runs = ("--geom-run=ckpts/opd", "--geom-run=ckpts/opd-2", "--geom-record=r.parquet", "-p", "no:cacheprovider")
    assert pytester.runpytest_inprocess(*runs).ret == 0
    assert {path.name for path in pytester.path.glob("r*.parquet")} == {"r-1-opd.parquet", "r-2-opd-2.parquet"}
    shards = pytester.path / "ckpts" / "opd" / "checkpoint-20" / "model.safetensors"
    shards.write_bytes(shards.read_bytes()[:900])
    result = pytester.runpytest_inprocess(*runs)
    assert result.ret == 1
    assert {path.name for path in pytester.path.glob("r*.parquet")} == {"r-2-opd-2.parquet"}


def test_outputs_are_readable_by_others(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    umask = os.umask(0o022)
    try:
        geom("--geom-json=v.json", "--geom-record=r.parquet")
    finally:
        os.umask(umask)
    for name in ("v.json", "r.parquet"):
        assert (pytester.path / name).stat().st_mode & 0o777 == 0o644


def test_an_output_that_cannot_be_written_is_refused_before_any_work(geom, write_suite, pytester) -> None:
    write_suite(HEALTHY)
    (pytester.path / "taken").mkdir()
    result = geom("--geom-json=taken")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*taken is a directory; name a file"])


def test_an_output_that_fails_late_is_no_pass(geom, write_suite, monkeypatch: pytest.MonkeyPatch) -> None:
    write_suite(HEALTHY)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    result = geom("--geom-record=r.parquet")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["geomcheck: an output could not be written: *No space left on device*"])


@pytest.mark.parametrize(
    ("hook", "status"),
    [("pytest_runtest_setup(item):\n    pytest.exit('enough')", 2), ("pytest_runtest_protocol(item):\n    1 / 0", 3)],
    ids=["interrupted", "crashed"],
)
def test_a_session_that_is_cut_short_leaves_no_outputs(
    geom, write_suite, pytester: pytest.Pytester, hook: str, status: int
) -> None:
    """They would look like those of a run of which nothing, or less, was expected."""
    write_suite(HEALTHY)
    names = ("v.json", "r.parquet", "r.html")
    for name in names:
        (pytester.path / name).write_text("old")
    pytester.makeconftest(f"import pytest\n\ndef {hook}\n")
    result = geom("--geom-json=v.json", "--geom-record=r.parquet", "--geom-report=r.html")
    assert result.ret == status
    if status == 2:  # of a crash pytest shows the traceback and no summary
        result.stdout.fnmatch_lines(["geomcheck: cut short: no verdicts, record or report are written"])
    assert not any((pytester.path / name).exists() for name in names)


def test_an_expectation_that_another_plugin_failed_is_an_error_in_the_json(
    geom, write_suite, pytester: pytest.Pytester
) -> None:
    write_suite(HEALTHY)
    pytester.makeconftest("def pytest_runtest_setup(item):\n    assert item.name != 'rank', 'out of time'\n")
    assert geom("--geom-json=v.json").ret == 1
    verdicts = json.loads((pytester.path / "v.json").read_text())
    assert verdicts["summary"] == {"passed": 1, "failed": 0, "error": 1, "warned": 0, "info": 0}
    lost = verdicts["runs"][0]["suites"][0]["expectations"][1]
    assert lost["id"] == "rank"
    assert "it was not judged: AssertionError: out of time (conftest.py:2)" in lost["message"]
