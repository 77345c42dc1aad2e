"""Where a session computes and what it remembers."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import geomcheck
from geomcheck.cli import main
from tests.conftest import Reads
from tests.files import tree
from tests.runs import age, simple_run
from tests.stories.conftest import HEALTHY, STRICT

Command = Callable[..., pytest.RunResult]


@pytest.fixture
def check(pytester: pytest.Pytester, opd_run: Path, write_suite) -> Command:
    """``pytest --geom-run=ckpts/opd ...`` on an old run and a suite that holds, with pytest's cache."""
    age(opd_run)
    write_suite(HEALTHY)
    return lambda *arguments: pytester.runpytest_inprocess("--geom-run=ckpts/opd", *arguments)


def verdicts(pytester: pytest.Pytester, name: str) -> Any:
    return json.loads((pytester.path / name).read_text())


def test_an_unchanged_run_is_judged_without_reading_it(check: Command, pytester: pytest.Pytester, no_reading) -> None:
    assert check("--geom-json=cold.json", "--geom-record=cold.parquet").ret == 0
    no_reading()
    assert check("--geom-json=warm.json", "--geom-record=warm.parquet").ret == 0
    assert verdicts(pytester, "cold.json") == verdicts(pytester, "warm.json")
    cold, warm = ((pytester.path / f"{name}.parquet").read_bytes() for name in ("cold", "warm"))
    assert cold == warm
    assert (pytester.path / ".pytest_cache" / "d" / "geomcheck").is_dir()


def test_an_unchanged_run_is_judged_without_heavy_libraries(check: Command, pytester: pytest.Pytester) -> None:
    assert check().ret == 0
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            print("loaded:", *sorted({"torch", "scipy", "pandas"} & set(sys.modules)))
        """
    )
    outputs = ("--geom-json=verdicts.json", "--geom-record=record.parquet")
    options = ("-s", "-p", "no:hypothesispytest", "--geom-device=cpu", "--geom-run=ckpts/opd", *outputs)
    result = pytester.runpytest_subprocess(*options)
    assert result.ret == 0
    assert "loaded:" in result.outlines
    result = pytester.runpytest_subprocess(*options, "--geom-cache=off")
    assert "loaded: scipy torch" in result.outlines


def test_off_always_measures(check: Command, pytester: pytest.Pytester, reads: Reads) -> None:
    for _ in range(2):
        reads.clear()
        assert check("--geom-cache=off").ret == 0
        assert set(Counter(reads).values()) == {1, 2}  # entry by entry, and matrices again to factor them
        assert {name for (_, name), count in Counter(reads).items() if count == 1} == {"model.embed_tokens.weight"}
    pytester.makeini("[pytest]\ngeom_cache = off")
    assert check().ret == 0
    assert not list((pytester.path / ".pytest_cache").rglob("*.sqlite"))


def test_clearing_pytests_cache_clears_ours(check: Command, reads: Reads) -> None:
    check()
    reads.clear()
    check("--cache-clear")
    assert reads


def test_a_directory_can_be_named(check: Command, pytester: pytest.Pytester, reads: Reads) -> None:
    check("--geom-cache=here", "-p", "no:cacheprovider")
    assert (pytester.path / "here" / "measurements.sqlite").is_file()
    pytester.makeini("[pytest]\ngeom_cache = here")
    reads.clear()
    check("-p", "no:cacheprovider")
    assert not reads


def test_collecting_makes_no_cache(check: Command, pytester: pytest.Pytester) -> None:
    check("--collect-only", "--geom-cache=here")
    assert not (pytester.path / "here").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--geom-cache=ckpts/opd/cache"], "*--geom-cache=*ckpts/opd/cache would write to the run ckpts/opd, which*"),
        (["--geom-cache=ckpts/opd/base"], "*would write to *"),
        (["--geom-cache=suites/mine.yaml"], "*would write to the suite*"),
        (["--geom-cache", "here"], "*write --geom-cache=here, with `=`*"),
        (["--geom-cache-size=20"], "*cache size '20': give a whole number with its unit*"),
        (["--geom-device=gpu"], "*device 'gpu': give auto, cpu, cuda or cuda:N*"),
        (["--geom-device=cuda:99"], "*device cuda:99: torch sees * CUDA devices here; use cpu or auto*"),
        (["--geom-workers=all"], "*--geom-workers=all: give a whole number of local workers, 1 or more, or ray*"),
    ],
)
def test_wrong_values_are_usage_errors(check: Command, arguments: list[str], message: str) -> None:
    result = check(*arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])


def test_a_session_inside_the_run_caches_nothing_in_it(
    pytester: pytest.Pytester, opd_run: Path, write_suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = write_suite(HEALTHY)
    shutil.move(pytester.path / "ckpts" / "opd", pytester.path / "opd")
    monkeypatch.chdir(pytester.path / "opd")
    result = pytester.runpytest_inprocess("--geom-run=.", f"--geom-suite={suite}", "--rootdir=.")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["note: nothing is cached: * would write to the run *; name a directory with*"])
    assert not list((pytester.path / "opd").rglob("*.sqlite"))


def test_a_damaged_cache_is_a_note_and_no_verdict(check: Command, pytester: pytest.Pytester) -> None:
    check("--geom-cache=here", "--geom-json=cold.json")
    (pytester.path / "here" / "measurements.sqlite").write_bytes(b"garbage" * 9999)
    result = check("--geom-cache=here", "--geom-json=again.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["note: the cache *measurements.sqlite was damaged *a new one is started"])
    assert verdicts(pytester, "cold.json") == verdicts(pytester, "again.json")


@pytest.mark.parametrize("place", ["d", "d/geomcheck", "d/geomcheck/records", "d/geomcheck/measurements.sqlite"])
def test_links_that_lie_in_pytests_cache_are_noted_and_lead_nowhere(
    check: Command, pytester: pytest.Pytester, place: str
) -> None:
    """A pull request, or the cache of a CI system, may bring them."""
    check("--geom-cache=off", "--geom-json=cold.json")
    run, link = pytester.path / "ckpts" / "opd", pytester.path / ".pytest_cache" / place
    shutil.rmtree(pytester.path / ".pytest_cache")
    link.parent.mkdir(parents=True)
    link.symlink_to(run / "checkpoint-10" / "optimizer.pt" if link.suffix else run)
    (run / "checkpoint-10" / "optimizer.pt").write_bytes(bytes(30_000_000))
    os.utime(run / "checkpoint-10" / "optimizer.pt", (1, 1))
    before = tree(run)
    result = check("--geom-cache-size=20MB", "--geom-json=again.json")
    assert result.ret == 0
    assert tree(run) == before
    result.stdout.fnmatch_lines(["note: *remove it*"])
    assert verdicts(pytester, "cold.json") == verdicts(pytester, "again.json")


def test_workers_of_xdist_share_the_cache_of_the_controller(
    check: Command, pytester: pytest.Pytester, write_suite
) -> None:
    pytest.importorskip("xdist")
    write_suite(STRICT, "strict")
    check("--geom-json=alone.json")
    pytester.makeconftest(
        "from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory\nSafetensorsDirectory.read = None"
    )
    spread = pytester.runpytest_subprocess("--geom-run=ckpts/opd", "-n2", "--geom-json=spread.json")
    spread.assert_outcomes(passed=3, failed=1)
    alone, spread_out = (verdicts(pytester, f"{name}.json") for name in ("alone", "spread"))
    for run in (*alone["runs"], *spread_out["runs"]):
        run["notes"] = [note for note in run["notes"] if "no diagnosis" not in note]  # that reads weights
        del run["findings"]
    assert alone == spread_out


def test_the_fixture_uses_the_cache(check: Command, pytester: pytest.Pytester, reads: Reads) -> None:
    pytester.makepyfile("def test_it(geom_record):\n    assert geom_record.measured_weights()")
    for _ in range(2):
        reads.clear()
        assert check("test_the_fixture_uses_the_cache.py").ret in (0, 5)
    assert not reads


def test_the_command_caches_where_it_is_told(tmp_path: Path, reads: Reads) -> None:
    run = age(simple_run(tmp_path / "opd"))
    command = ["measure", str(run), "-o", str(tmp_path / "r.parquet"), "--device", "cpu", "--workers", "2"]
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
    first = geomcheck.read_record(tmp_path / "r.parquet")
    assert first.device == "cpu"
    reads.clear()
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
    assert not reads
    assert list(geomcheck.read_record(tmp_path / "r.parquet").rows()) == list(first.rows())
    assert main([*command, "--cache", str(run / "cache")]) == 4
