"""Digests of an older geomcheck are never called another W0, and never pass for the same."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import pytest

import geomcheck
from geomcheck.calibration import add_runs
from geomcheck.checkpoints import open_base
from geomcheck.comparison import compare
from geomcheck.errors import RunError, UsageError
from geomcheck.history import history
from geomcheck.measurement.provenance import require_measured_against
from geomcheck.record import Record, digests
from geomcheck.suite.likeness import different_in_w0, start_difference
from tests.runs import repeats

UNLIKE = digests.UNLIKE


def before(digest: str) -> str:
    """What an older geomcheck has in place of a digest."""
    return blake2b(digest.encode(), digest_size=16).hexdigest()


def older(record: Record) -> Record:
    """The record as an older geomcheck wrote it."""
    w0 = {name: before(digest) for name, digest in record.w0.items()}
    return replace(record, w0=w0, fingerprints={at: before(one) for at, one in record.fingerprints.items()})


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return [geomcheck.measure(run) for run in repeats(tmp_path_factory.mktemp("good"), 3)]


def test_every_digest_names_its_algorithm(records: list[Record]) -> None:
    found = [*records[0].w0.values(), *records[0].fingerprints.values()]
    assert {digests.algorithm(digest) for digest in found} == {digests.ALGORITHM}
    assert digests.short(found[0]) == found[0][: len("blake3:") + 12]
    assert digests.short(before(found[0])) == before(found[0])[:12]


def test_two_records_of_before_are_compared_as_ever(records: list[Record]) -> None:
    one, other = map(older, records[:2])
    assert start_difference(one, other) is None
    name = min(other.w0)
    odd = start_difference(one, replace(other, w0=other.w0 | {name: "0" * 32}))
    assert (odd and odd.untold) == ""
    assert str(odd).startswith(f"their W0 (in {name}) differ: ")


def test_nothing_is_concluded_from_digests_of_two_algorithms(records: list[Record]) -> None:
    for one, other in ((records[0], older(records[1])), (older(records[0]), records[1])):
        found = start_difference(one, other)
        assert str(found).startswith("their W0 cannot be compared: ")
        assert UNLIKE in str(found)
        assert different_in_w0(one, other) == []
    without = replace(older(records[1]), w0={})  # a record of an even older one
    assert UNLIKE in str(start_difference(records[0], without))


def test_a_suite_of_before_asks_for_another_calibration(records: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    geomcheck.calibrate([older(record) for record in records], name="mine").write(path)
    suite = geomcheck.load_suite(path)
    assert {verdict.outcome for verdict in suite.evaluate(older(records[0]))} == {"passed"}
    verdicts = suite.evaluate(records[0])
    assert {verdict.outcome for verdict in verdicts} == {"error"}
    assert all("not known to be from the W0 of the calibration" in verdict.message for verdict in verdicts)
    assert all(UNLIKE in verdict.message and "calibrate again" in verdict.message for verdict in verdicts)
    with pytest.raises(UsageError, match="cannot be added to the runs of the suite: not known to be from the W0"):
        add_runs(path, records[:1])


def test_a_run_that_may_be_in_the_suite_already_is_not_added(records: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    geomcheck.calibrate([older(record) for record in records[:2]], name="mine").write(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("  w0: ")))
    with pytest.raises(UsageError, match=r"may be in the suite already, as seed-0 \("):
        add_runs(path, records[:1])


def test_records_of_two_algorithms_are_not_calibrated_together(records: list[Record]) -> None:
    mixed = [records[0], older(records[1]), records[2]]
    with pytest.raises(UsageError, match="their W0 cannot be compared"):
        geomcheck.calibrate(mixed)
    with pytest.raises(UsageError, match="cannot be told apart, which may be one run"):
        geomcheck.calibrate(mixed, across_bases=True)


def test_a_comparison_a_history_and_a_diagnosis_say_so(records: list[Record]) -> None:
    one, other = records[0], older(records[1])
    assert UNLIKE in compare(one, other).notes[0]
    notes = history([other, one]).notes
    assert any(note.startswith("not known to be from the W0 of") for note in notes)
    assert not any(note.startswith("another W0") for note in notes)
    with pytest.raises(UsageError, match="their W0 cannot be compared"):
        geomcheck.diagnose(one, good=[other])


def test_a_record_of_before_is_measured_again_to_be_held_against_w0(records: list[Record]) -> None:
    base = open_base(Path(records[0].path) / "base", "the given base")
    require_measured_against(records[0], base)
    with pytest.raises(RunError, match="nobody can tell whether it holds the weights.*measure that run again"):
        require_measured_against(older(records[0]), base)
