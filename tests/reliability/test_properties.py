"""Random edits of any byte: of what gives a run its structure, of weights, of records and of suites.

What must hold is not that a change is refused: a bit of a weight's mantissa is a legitimate other run. But a change of
structure is refused or changes nothing, a change of data is judged on finite figures or refused, and nothing crashes.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability.corpus.gate import FORBIDDEN, Result, essentials, good, session
from tests.reliability.corpus.project import Project
from tests.reliability.corpus.seeds import lay_out

FEW = settings(
    max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
REFUSED = (1, 2, 4)


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Up to three edits: how, where as a share of the region, and with which bytes."""
    one = st.tuples(
        st.sampled_from(["flip", "put", "insert", "delete", "cut", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    )
    return draw(st.lists(one, min_size=1, max_size=3))


def edited(content: bytes, changes: list[tuple[str, float, bytes]], *, keep_length: bool = False) -> bytes:
    """`content` after the edits."""
    for how, share, value in changes:
        at = int(share * len(content))
        if keep_length or how == "put":
            content = content[:at] + value[: len(content) - at] + content[at + len(value) :]
        elif how == "flip":
            flipped = bytes([content[at] ^ (1 << value[0] % 8)]) if at < len(content) else b""
            content = content[:at] + flipped + content[at + 1 :]
        elif how == "insert":
            content = content[:at] + value + content[at:]
        elif how == "delete":
            content = content[:at] + content[at + len(value) :]
        elif how == "cut":
            content = content[:at]
        else:
            content = content[:at] + content[at : at + 64] * 2 + content[at + 64 :]
    return content


def judged(seed: str, spoil: Callable[[Project], object]) -> Result:
    """The gate on a good run that was spoiled; whatever comes of it, it is no crash."""
    with tempfile.TemporaryDirectory() as place:
        project = lay_out(seed, Path(place) / "project")
        spoil(project)
        run = "opd.parquet" if seed == "record" else "opd"
        result = session(project.root, f"--geom-run={run}", "--geom-workers=1")
    assert result.code in (0, 1, 2, 4, 5), result.output
    assert not any(text in result.output for text in FORBIDDEN), result.output
    return result


def require_refused_or_harmless(seed: str, result: Result) -> None:
    if result.code == 0:
        assert essentials(result) == good(seed), result.output
    else:
        assert result.code in REFUSED
        assert all(verdict["outcome"] in ("error", "passed") for verdict in result.verdicts.values()), result.output


def header(content: bytes) -> int:
    """Where the data of a safetensors file begins."""
    return 8 + struct.unpack("<Q", content[:8])[0]


@pytest.mark.parametrize(("step", "name"), [(20, "a checkpoint"), (0, "W0")])
@FEW
@given(changes=edits())
def test_headers_of_safetensors(step: int, name: str, changes: list[tuple[str, float, bytes]]) -> None:
    def spoil(project: Project) -> None:
        content = project.weights(step).read_bytes()
        begin = header(content)
        project.weights(step).write_bytes(edited(content[:begin], changes) + content[begin:])

    require_refused_or_harmless("plain", judged("plain", spoil))


STRUCTURE = {"shards": "model.safetensors.index.json", "dcp": ".metadata", "adapter": "adapter_config.json"}


@pytest.mark.parametrize("seed", STRUCTURE)
@FEW
@given(changes=edits())
def test_files_that_say_where_weights_lie(seed: str, changes: list[tuple[str, float, bytes]]) -> None:
    def spoil(project: Project) -> None:
        path = project.at(20) / STRUCTURE[seed]
        path.write_bytes(edited(path.read_bytes(), changes))

    require_refused_or_harmless(seed, judged(seed, spoil))


@FEW
@given(changes=edits())
def test_records(changes: list[tuple[str, float, bytes]]) -> None:
    result = judged("record", lambda p: p.record.write_bytes(edited(p.record.read_bytes(), changes)))
    require_refused_or_harmless("record", result)


@pytest.mark.parametrize("seed", ["pickle", "legacy", "ranks"])
@FEW
@given(changes=edits())
def test_pickles_are_judged_or_refused(seed: str, changes: list[tuple[str, float, bytes]]) -> None:
    """Structure and weights lie in one file here, so that both may change: no crash, and nothing that is not finite."""

    def spoil(project: Project) -> None:
        path = sorted(project.at(20).glob("*.pt" if seed == "ranks" else "*.bin"))[0]
        path.write_bytes(edited(path.read_bytes(), changes))

    require_finite(judged(seed, spoil))


@FEW
@given(changes=edits())
def test_bytes_of_weights_are_judged_on_finite_figures_or_refused(changes: list[tuple[str, float, bytes]]) -> None:
    def spoil(project: Project) -> None:
        content = project.weights(20).read_bytes()
        begin = header(content)
        project.weights(20).write_bytes(content[:begin] + edited(content[begin:], changes, keep_length=True))

    require_finite(judged("plain", spoil))


@FEW
@given(changes=edits())
def test_suites_are_judged_or_refused(changes: list[tuple[str, float, bytes]]) -> None:
    require_finite(judged("plain", lambda p: p.suite.write_bytes(edited(p.suite.read_bytes(), changes))))


def require_finite(result: Result) -> None:
    for verdict in result.verdicts.values():
        if verdict["outcome"] != "error":
            figures = [seen["value"] for seen in verdict["observed"]]
            assert figures
            assert all(isinstance(figure, float | int) and abs(figure) < float("inf") for figure in figures)
