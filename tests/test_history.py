"""A figure that drifts too slowly for any band is told; one that only varies is not."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

import geomcheck
from geomcheck.cli import main
from geomcheck.errors import UsageError
from geomcheck.history import history
from geomcheck.record import Figure, Record
from tests.figures import edit
from tests.report.records import record_of

NAMES = [f"model.layers.{layer}.self_attn.{module}.weight" for layer in (0, 1) for module in ("q_proj", "k_proj")]
BAND = "geomcheck: 1\nexpect: [{id: rank, metric: stable_rank, within: [19, 25], at: last}]\n"


def merged(ranks: Sequence[float], *, seed: int = 0) -> list[Record]:
    """A record per merge, with these stable ranks and other figures that vary by chance."""
    records = []
    for number, rank in enumerate(ranks):
        record = record_of(NAMES, seed=seed + number)
        edit(record, "stable_rank", {(500, name): Figure(rank + i / 10) for i, name in enumerate(NAMES)})
        records.append(record)
    return records


def slow(count: int, *, rate: float = 0.01, noise: float = 0.005) -> list[float]:
    chance = random.Random(3)
    return [20 * (1 + rate * number + chance.gauss(0, noise)) for number in range(count)]


def test_a_slow_drift_is_told_though_every_record_keeps_its_band(tmp_path: Path) -> None:
    records = merged(slow(12))
    (tmp_path / "band.yaml").write_text(BAND)
    suite = geomcheck.load_suite(tmp_path / "band.yaml")
    assert {verdict.outcome for record in records for verdict in suite.evaluate(record)} == {"passed"}
    found = history(records)
    (drifting,) = found.drifting
    assert drifting.metric.name == "stable_rank"
    assert drifting.drift is not None
    assert drifting.drift.relative(drifting.drift.slope) == pytest.approx(0.01, abs=0.002)
    assert drifting.drift.low < drifting.drift.slope < drifting.drift.high
    assert drifting.since_first == pytest.approx(0.11, abs=0.02)


def test_chance_drifts_rarely() -> None:
    chance = random.Random(1)
    wrong = 0
    for trial in range(12):
        records = merged([20 + chance.gauss(0, 0.2) for _ in range(8)], seed=100 * trial)
        wrong += bool(history(records).drifting)
    assert wrong <= 3  # of 5%, more are there once in five hundred times


def test_too_few_records_say_how_many_are_needed() -> None:
    found = history(merged(slow(4)))
    assert not found.drifting
    assert found.needed == 6
    (found,) = history(merged(slow(found.needed, noise=0))).drifting
    assert found.metric.name == "stable_rank"


def test_what_cannot_be_held_beside_the_last_is_shown_and_not_tested() -> None:
    other = record_of(NAMES, (100, 200))
    found = history([other, *merged(slow(8, noise=0))], names=["old", *"abcdefgh"])
    assert found.tested == 8
    assert "step 200, that of the last record at step 500" in found.entries[0].apart
    assert any(note.startswith("old is not in the test for drift") for note in found.notes)
    assert [one.metric.name for one in found.drifting] == ["stable_rank"]


def test_a_figure_that_is_missing_has_its_reason() -> None:
    records = merged(slow(7))
    edit(records[2], "stable_rank", {(500, NAMES[0]): Figure(undefined="its spectrum is flat")})
    (rank,) = (one for one in history(records).series if one.metric.name == "stable_rank")
    assert rank.values[2] is None
    assert "its spectrum is flat" in rank.reasons[2]
    assert rank.drift is None


def test_figures_around_zero_drift_by_amounts() -> None:
    records = merged(slow(8))
    for number, record in enumerate(records):
        edit(record, "hill_exponent", {(500, name): Figure(number - 3.5) for name in NAMES})
    (around,) = (one for one in history(records).drifting if one.metric.name == "hill_exponent")
    assert around.drift is not None
    assert around.drift.relative(1.0) is None
    assert around.drift.slope == pytest.approx(1.0)


def test_one_record_is_no_history() -> None:
    with pytest.raises(UsageError, match="two records or more"):
        history(merged([20.0]))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for number, record in enumerate(merged(slow(12)), 1):
        record.run = f"opd <b>{number}</b>"
        geomcheck.write_record(record, f"main-{number:02}.parquet")
    return sorted(path.name for path in tmp_path.glob("*.parquet"))


def test_the_command_leads_with_the_drift(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", *files, "--csv=h.csv"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("12 records, in the order given; records carry no date\n   1  main-01")
    assert "\nstable_rank drifts by +0.9" in text or "\nstable_rank drifts by +1.0" in text
    assert text.index("drifts by") < text.index("\n  record ")
    assert max(map(len, text.splitlines())) <= 80
    with Path("h.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "stable_rank"]
    assert [row["name"] for row in rows] == [f"main-{number:02}" for number in range(1, 13)]
    assert main(["history", *files, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    told = {one["metric"]: one["drift"] and one["drift"]["significant"] for one in document["metrics"]}
    assert told["stable_rank"] is True
    assert sum(map(bool, told.values())) == 1


def test_the_page_shows_charts_and_no_markup_of_names(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", *files, "--html=h.html"]) == 0
    page = Path("h.html").read_text()
    assert "1 figure drifts" in page
    assert page.count("<svg") == 8
    assert page.index("<h3>Stable rank") < page.index("<h3>Update support")
    assert "opd &lt;b&gt;3&lt;/b&gt;" in page
    assert "<b>3</b>" not in page
    assert "Content-Security-Policy" in page


def test_wrong_usage_of_the_command(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (files[:1], "two records or more"),
        ([*files, f"--html={files[0]}"], "which is never written to"),
        ([*files, "--csv=-"], "the output goes to a file"),
        ([*files, "--metrics=update_cosine"], "no two of these records hold update_cosine"),
    ):
        assert main(["history", *arguments]) == 4
        assert said in capsys.readouterr().err
