"""Command lines about runs at a URL, here in the memory of fsspec."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from geomcheck.cli import main
from tests.runs import base_weights, moved, write_run
from tests.stories.conftest import HEALTHY, STRICT

Memory: Any = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem

URL = "memory://bucket/runs/opd"


@pytest.fixture(autouse=True)
def an_empty_memory() -> Iterator[None]:
    yield
    Memory.store.clear()
    Memory.pseudo_dirs[:] = [""]


@pytest.fixture
def url(opd_run: Path) -> str:
    return put(opd_run, URL)


def put(directory: Path, url: str) -> str:
    for file in directory.rglob("*"):
        if file.is_file():
            Memory().pipe(f"{url}/{file.relative_to(directory)}", file.read_bytes())
    return url


def verdicts(path: Path) -> Any:
    """A verdict file without its paths and times."""
    text = re.sub(r"memory://bucket/runs/opd|ckpts/opd|/[^\"]*/ckpts/opd", "RUN", path.read_text())
    return {key: value for key, value in json.loads(text).items() if key not in ("created", "seconds", "command")}


@pytest.mark.parametrize(("suite", "code"), [(HEALTHY, 0), (STRICT, 1)])
def test_a_gate_says_what_it_says_on_disk(
    geom: Callable[..., pytest.RunResult], url: str, write_suite, pytester: pytest.Pytester, suite: str, code: int
) -> None:
    write_suite(suite)
    assert geom("--geom-json=disk.json").ret == code
    result = geom("--geom-json=url.json", "--geom-record=url.parquet", "--geom-report=url.html", path=url)
    assert result.ret == code
    assert verdicts(pytester.path / "url.json") == verdicts(pytester.path / "disk.json")
    said = result.stdout.str() + (pytester.path / "url.html").read_text() + (pytester.path / "url.json").read_text()
    assert URL in said
    assert f"{tempfile.gettempdir()}/geomcheck-" not in said


def test_a_url_is_a_reference_too(geom, url: str, write_suite) -> None:
    write_suite(HEALTHY)
    result = geom(f"--geom-reference={url}", path=url)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--geom-reference={url} is the run that is checked*"])
    assert geom(f"--geom-reference={url}").ret == 0
    assert geom("--geom-reference=ckpts/opd", path=url).ret == 0


def test_a_record_at_a_url_is_not_taken_for_a_missing_one(geom, write_suite) -> None:
    write_suite(HEALTHY)
    result = geom("--geom-reference=memory://bucket/good.parquet", "--geom-missing-baseline=info")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*memory://bucket/good.parquet: a record is read from this machine alone*"])


def test_w0_by_the_ini_file(geom, url: str, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    Memory().mv(f"{url}/base", "/bucket/anchor", recursive=True)
    pytester.makeini("[pytest]\ngeom_base = memory://bucket/anchor\n")
    result = geom(path=url)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["geomcheck *: opd: 3 checkpoints, *W0: geom_base of the ini file*"])


@pytest.mark.parametrize(
    ("option", "place"),
    [("--geom-download", "cache/copies"), ("--geom-download=kept", "kept"), ("--geom-download=./on", "on")],
)
def test_pickles_are_copied_where_that_is_asked_for(
    geom, write_suite, pytester: pytest.Pytester, option: str, place: str
) -> None:
    write_suite(HEALTHY)
    run = write_run(pytester.path / "pickled" / "opd", base_weights(), {10: moved(base_weights(), 0.01)})
    (run / "checkpoint-10" / "model.safetensors").unlink()
    torch.save(moved(base_weights(), 0.01), run / "checkpoint-10" / "pytorch_model.bin")
    url = put(run, URL)
    refused = geom(path=url)
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["*only safetensors files are read from a URL*--geom-download*"])
    assert geom("--geom-cache=cache", option, path=url).ret == 0
    assert (pytester.path / place / "memory/bucket/runs/opd/checkpoint-10/pytorch_model.bin").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--geom-download", "suites"), "*write --geom-download=suites, with `=`*"),
        (("--geom-download=",), "*--geom-download= is empty*"),
        (("--geom-download", "--geom-cache=off"), "*--geom-download: the cache, where copies are kept, is off*"),
    ],
)
def test_a_copy_without_a_place_is_refused(geom, url: str, write_suite, arguments: tuple[str, ...], says: str) -> None:
    write_suite(HEALTHY)
    result = geom(*arguments, path=url)
    assert result.ret == 4
    result.stderr.fnmatch_lines([says])


def test_commands_take_urls(url: str, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", url, "--base", f"{url}/base"]) == 0
    assert f"{url}/base" in capsys.readouterr().out
    assert main(["measure", url, "-o", "r.parquet", "--quiet", "--weights=attention"]) == 0
    assert main(["compare", url, "ckpts/opd", "--quiet", "--weights=attention"]) == 0
    assert main(["report", url, "-o", "r.html", "--quiet"]) == 0
    assert f"{tempfile.gettempdir()}/geomcheck-" not in capsys.readouterr().out + Path("r.html").read_text()
    assert main(["measure", url, "-o", "c.parquet", "--quiet", "--weights=attention", "--download=kept"]) == 0
    assert Path("kept/memory/bucket/runs/opd/checkpoint-10/model.safetensors").is_file()
    assert main(["measure", "memory://bucket/none", "-o", "r.parquet"]) == 4
    assert "memory://bucket/none: is not there" in capsys.readouterr().err
