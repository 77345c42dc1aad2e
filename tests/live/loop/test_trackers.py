"""What real trackers hold of a training that was watched: figures, bands as lines beside them, and alerts.

A tracker that is not installed is skipped: ``nox -s trackers`` installs trackio and W&B.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("transformers")

from geomcheck.training import GeometryCallback
from tests.live.loop.test_callback import STEPS, load, logged, trainer, write_anchor

pytestmark = pytest.mark.filterwarnings("ignore")  # of the trackers

SUITE = """
geomcheck: 1
name: watched
expect:
  - id: size
    metric: relative_update_norm
    bands: [{step: 2, within: [0.0001%, 90%]}, {step: 4, within: [80%, 90%]}]
  - {id: rank, metric: stable_rank, above: 31, level: warn}
"""

FIGURES = ["geom/size", "geom/size/low", "geom/size/high", "geom/rank", "geom/rank/low"]

ALERTS = [("warn", "rank is violated at step 2"), ("error", "size is violated at step 4")]


def watched(directory: Path, tracker: str, suite: str = SUITE) -> Any:
    """A training that this tracker follows, and whose expectations are violated."""
    anchor = write_anchor(directory / "anchor")
    (directory / "suite.yaml").write_text(suite)
    options = {"report_to": [tracker], "run_name": "watched"}
    return trainer(load(anchor), directory / "run", GeometryCallback(directory / "suite.yaml"), **options)


def expected(trained: Any) -> dict[str, dict[int, float]]:
    """What the training logged, by figure and step; the figure itself is the record's."""
    found = {name: {step: e[name] for step, e in logged(trained).items() if name in e} for name in FIGURES}
    assert {name: list(points) for name, points in found.items()} == {
        **dict.fromkeys(FIGURES, STEPS),
        **{name: [2, 4] for name in ("geom/size/low", "geom/size/high")},
    }
    assert found["geom/size/low"] == pytest.approx({2: 1e-6, 4: 0.8})
    return found


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = watched(tmp_path, "tensorboard")
    trained.train()
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    shown = EventAccumulator(str(events))
    shown.Reload()
    for name, points in expected(trained).items():
        found = {event.step: event.value for event in shown.Scalars(f"train/{name}")}
        assert found == pytest.approx(points, rel=1e-6)


@pytest.fixture
def trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """trackio, keeping its files in `tmp_path`."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # which it reads when it is imported
    found = pytest.importorskip("trackio")
    for place in ("utils", "sqlite_storage", "bucket_storage"):
        monkeypatch.setattr(f"trackio.{place}.TRACKIO_DIR", tmp_path / "trackio")
    return found


def test_trackio(trackio: Any, tmp_path: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    trained = watched(tmp_path, "trackio")
    trained.train()
    (run,) = trackio.Api().runs(trained.args.project)
    alerts = [alert for alert in run.alerts() if alert["title"].startswith(("rank", "size"))]
    assert sorted((alert["level"], alert["title"]) for alert in alerts) == sorted(ALERTS)
    (violation,) = (alert for alert in alerts if alert["level"] == "error")
    assert "suite.yaml:" in violation["text"]
    rows = SQLiteStorage.get_logs(trained.args.project, run.name)
    for name, points in expected(trained).items():
        key = f"train/{name}"
        assert {row["train/global_step"]: row[key] for row in rows if key in row} == pytest.approx(points)
    steps = {row["step"]: row["train/global_step"] for row in rows if "train/geom/seconds" in row}
    assert {alert["title"]: steps[alert["step"]] for alert in alerts} == {title: int(title[-1]) for _, title in ALERTS}


def test_a_tracker_that_fails_is_a_warning(
    trackio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr("trackio.AlertLevel")  # as of a version that has none
    trained = watched(tmp_path, "trackio")
    trained.train()
    assert trained.state.global_step == STEPS[-1]
    assert list(logged(trained)) == STEPS
    told = [record.getMessage() for record in caplog.records if record.name == "geomcheck.training"]
    assert sum("not in the tracker" in text for text in told) == 1
    assert sum("is violated at step" in text for text in told) == 2


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    trained = watched(tmp_path, "wandb")
    trained.train()
    wandb.finish()
    (log,) = (tmp_path / "wandb").rglob("run-*.wandb")
    records: list[Any] = []
    deadline = time.monotonic() + 60
    while not any(record.HasField("exit") for record in records) and time.monotonic() < deadline:
        records = list(wandb_records(log.read_bytes()))  # another process writes it, and goes on for a while
    alerts = [record.alert for record in records if record.HasField("alert")]
    assert [(a.level.lower(), a.title) for a in alerts if a.title.startswith(("rank", "size"))] == ALERTS
    assert all(len(alert.title) < 64 for alert in alerts)
    rows = []
    for record in (record.history for record in records if record.HasField("history")):
        rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.item})
    for name, points in expected(trained).items():
        key = f"train/{name}"
        assert {row["train/global_step"]: row[key] for row in rows if key in row} == pytest.approx(points)


def wandb_records(log: bytes) -> Iterator[Any]:
    """The records of an offline run: protobufs, cut into chunks of LevelDB's log format within blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, whole = 7, b""
    while place < len(log):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", log.ljust(place + 7, b"\0"), place + 4)
        if place + 7 + length > len(log):
            return  # not yet written
        whole += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last chunk of one
            yield Record.FromString(whole)
            whole = b""
