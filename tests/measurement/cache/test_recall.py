"""What a second measurement answers from the cache, and what it does not."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import geomcheck
from geomcheck.checkpoints import find_base, open_run
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError, UsageError
from geomcheck.measurement import Cache, Resources, measure_record, survey
from geomcheck.measurement.cache import identity
from geomcheck.measurement.cache.store import Store
from geomcheck.record import Record, Request, write_record
from tests.conftest import Reads
from tests.runs import DOWN, K, Q, age, base_weights, moved, write_run
from tests.test_structure import ROOMS

METRICS = load_metrics()
EVERYTHING = {Request.of(metric, {"k": 2, "rank": 4, "lr": 1e-5}) for metric in METRICS if not metric.against_reference}
RANK = {Request.of(METRICS["stable_rank"], {})}
JACCARD = {Request.of(METRICS["mask_jaccard"], {})}


def measured(path: Path, cache: Path, requests: set[Request] = EVERYTHING, reference: Path | None = None) -> Record:
    run = open_run(path)
    base = find_base(run)
    record = survey(run, base)
    remembered = Cache(cache)
    try:
        measure_record(
            record,
            run,
            base,
            dict.fromkeys((Q, K, DOWN), requests),
            reference=open_run(reference) if reference else None,
            resources=Resources(workers=1, cache=remembered),
        )
    finally:
        remembered.close()
    return record


def same(one: Record, other: Record) -> bool:
    names = ("fingerprints", "versions", "skipped", "routes", "points")
    alike = all(getattr(one, n) == getattr(other, n) for n in names)
    return list(one.rows()) == list(other.rows()) and alike and sketches_of(one) == sketches_of(other)


def sketches_of(record: Record) -> list[bytes]:
    found = [record.sketches.at(point.step, sorted(record.measured_weights())) for point in record.points]
    assert all(one.any() for one in found)
    return [one.tobytes() for one in found]


def test_an_unchanged_run_is_answered_without_reading(
    settled_run: Path, tmp_path: Path, no_reading: Callable[[], None]
) -> None:
    cold = measured(settled_run, tmp_path / "cache")
    no_reading()
    assert same(measured(settled_run, tmp_path / "cache"), cold)


def test_what_was_measured_for_one_suite_serves_another(
    settled_run: Path, tmp_path: Path, no_reading: Callable[[], None]
) -> None:
    cold = measured(settled_run, tmp_path / "cache")
    no_reading()
    (request,) = RANK
    again = measured(settled_run, tmp_path / "cache", RANK)
    assert again.figures(request, "value") == cold.figures(request, "value")


def test_a_new_metric_is_measured_and_the_others_stay(settled_run: Path, tmp_path: Path, reads: Reads) -> None:
    cold = measured(settled_run, tmp_path / "off")
    measured(settled_run, tmp_path / "cache", RANK)
    reads.clear()
    assert same(measured(settled_run, tmp_path / "cache"), cold)
    assert set(Counter(reads).values()) == {2}  # for what compares entries, and for what factorizes
    assert len(set(reads)) == 12


def test_a_copy_elsewhere_is_recognised_by_content(
    settled_run: Path, tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **options: object) -> None:
        pytest.fail("what is known by its content was measured again")

    cold = measured(settled_run, tmp_path / "cache")
    copy = shutil.copytree(settled_run, tmp_path / "elsewhere" / "opd")
    monkeypatch.setattr("geomcheck.measurement.trajectory.measure_weight", forbidden)
    reads.clear()
    assert same(measured(copy, tmp_path / "cache"), cold)
    assert len(reads) == len(set(reads)) == 16  # with the embedding, of which nothing is asked
    reads.clear()
    assert same(measured(copy, tmp_path / "cache"), cold)
    assert not reads


def test_a_new_checkpoint_is_measured_and_the_old_ones_are_not(tmp_path: Path, reads: Reads) -> None:
    base = base_weights()
    weights = {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20, 30)}
    run = age(write_run(tmp_path / "run", base, {10: weights[10], 20: weights[20]}, max_steps=30))
    measured(run, tmp_path / "cache", RANK)
    age(write_run(tmp_path / "new", base, {30: weights[30]}))
    shutil.move(tmp_path / "new" / "checkpoint-30", run / "checkpoint-30")
    reads.clear()
    record = measured(run, tmp_path / "cache", RANK)
    assert {place for place, _ in reads} == {"base", "checkpoint-30"}
    assert same(record, measured(run, tmp_path / "cold", RANK))


def test_metrics_across_the_run_follow_its_last_checkpoint(tmp_path: Path) -> None:
    base = base_weights()
    weights = {step: moved(base, 1e-2, seed=step) for step in (10, 20, 30)}
    run = age(write_run(tmp_path / "run", base, weights))
    measured(run, tmp_path / "cache")
    shutil.rmtree(run / "checkpoint-30")
    assert same(measured(run, tmp_path / "cache"), measured(run, tmp_path / "cold"))


def test_a_changed_weight_is_measured_whatever_its_time_says(tmp_path: Path) -> None:
    base = base_weights()
    run = age(write_run(tmp_path / "run", base, {10: moved(base, 1e-2)}))
    before = measured(run, tmp_path / "cache")
    file = run / "checkpoint-10" / "model.safetensors"
    stat = file.stat()
    content = bytearray(file.read_bytes())
    content[-3] ^= 0x40
    with file.open("r+b") as handle:  # the same inode, size and modification time
        handle.write(content)
    os.utime(file, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    after = measured(run, tmp_path / "cache")
    assert after.fingerprints["checkpoint-10"] != before.fingerprints["checkpoint-10"]
    assert same(after, measured(run, tmp_path / "cold"))


def test_files_written_a_moment_ago_are_read_again(tmp_path: Path, reads: Reads) -> None:
    base = base_weights()
    run = write_run(tmp_path / "run", base, {10: moved(base, 1e-2)})
    cold = measured(run, tmp_path / "cache")
    reads.clear()
    assert same(measured(run, tmp_path / "cache"), cold)
    assert len(reads) == 8  # digested, and then known by content


def test_the_same_bits_in_another_shape_are_another_weight(tmp_path: Path) -> None:
    cold = []
    for shape in ((24, 16), (16, 24)):
        base = {name: w.reshape(shape) if name == Q else w for name, w in base_weights().items()}
        after = {name: w.reshape(shape) if name == Q else w for name, w in moved(base_weights(), 1e-2).items()}
        run = age(write_run(tmp_path / str(shape), base, {10: after}))
        cold.append(measured(run, tmp_path / f"cold {shape}"))
        assert same(measured(run, tmp_path / "cache"), cold[-1])
    assert cold[0].fingerprints != cold[1].fingerprints


def test_another_version_of_a_metric_is_measured_again(
    settled_run: Path, tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(settled_run, tmp_path / "cache", RANK)
    newer = dataclasses.replace(METRICS["stable_rank"], version=2, compute=lambda *_: {"value": 7.0})
    monkeypatch.setitem(METRICS._metrics, "stable_rank", newer)
    (request,) = RANK
    reads.clear()
    figures = measured(settled_run, tmp_path / "cache", RANK).figures(request, "value")
    assert {figure.value for figure in figures.values()} == {7.0}
    assert len(reads) == 12


def test_other_code_measures_again(
    settled_run: Path, tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(settled_run, tmp_path / "cache", RANK)
    monkeypatch.setattr("geomcheck.measurement.cache.recall.code", lambda: "another geomcheck")
    reads.clear()
    measured(settled_run, tmp_path / "cache", RANK)
    assert {place for place, _ in reads} == {"base", "checkpoint-10", "checkpoint-20", "checkpoint-30"}


def test_the_code_that_decides_figures_has_an_identity() -> None:
    assert len(identity.code()) == 32
    package = Path(geomcheck.__file__).parent
    below = ROOMS[: next(floor for floor, rooms in enumerate(ROOMS) if "suite" in rooms)]
    rooms = {room for floor in below for room in floor if (package / room).is_dir()}
    assert rooms == set(identity.DECISIVE)


def test_overlaps_with_a_reference_follow_the_reference(
    settled_run: Path, tmp_path: Path, no_reading: Callable[[], None]
) -> None:
    base = base_weights()
    others = [
        age(write_run(tmp_path / name, base, {step: moved(base, 1e-3, seed=seed + step) for step in (10, 20, 30)}))
        for name, seed in (("a", 5), ("b", 6))
    ]
    cold = [measured(settled_run, tmp_path / other.name / "..cache", JACCARD, other) for other in others]
    warm = [measured(settled_run, tmp_path / "cache", JACCARD, other) for other in others]
    assert list(cold[0].rows()) != list(cold[1].rows())
    assert all(same(one, other) for one, other in zip(cold, warm, strict=True))
    no_reading()
    assert same(measured(settled_run, tmp_path / "cache", JACCARD, others[0]), cold[0])


def test_a_reference_without_the_weight_is_no_crash(settled_run: Path, tmp_path: Path) -> None:
    base = base_weights()
    other = {name: w for name, w in moved(base, 1e-3).items() if name != Q}
    reference = age(write_run(tmp_path / "ref", base, {10: other, 20: other, 30: other}))
    measured(settled_run, tmp_path / "cache", JACCARD)
    first, second = (measured(settled_run, tmp_path / "cache", JACCARD, reference) for _ in range(2))
    assert (
        list(first.rows())
        == list(second.rows())
        == list(measured(settled_run, tmp_path / "cold", JACCARD, reference).rows())
    )
    (request,) = JACCARD
    assert "has no such weight" in str(second.figures(request, "value")[10, Q].undefined)


def test_what_must_not_pass_does_not_pass_from_the_cache(tmp_path: Path, no_reading: Callable[[], None]) -> None:
    base = base_weights()
    copied = age(write_run(tmp_path / "copied", base, {10: moved(base, 1e-2), 20: moved(base, 1e-2)}))
    alien = age(write_run(tmp_path / "alien", base_weights(seed=7), {10: moved(base, 1e-2)}))
    for _ in range(2):
        with pytest.raises(RunError, match="checkpoint-10 and checkpoint-20 hold the same weights"):
            measured(copied, tmp_path / "cache")
        with pytest.raises(RunError, match="are different models"):
            measured(alien, tmp_path / "cache")
        no_reading()


def test_weights_that_cannot_be_measured_stay_so(tmp_path: Path) -> None:
    base = base_weights()
    broken = moved(base, 1e-2)
    broken[Q][0, 0] = float("nan")
    broken[K] = torch.zeros(16, 16)
    run = age(write_run(tmp_path / "run", base, {10: broken}))
    for _ in range(2):
        with pytest.raises(RunError, match="cannot be measured: checkpoint-10: "):
            measured(run, tmp_path / "cache")


def test_a_file_that_lies_about_its_identity_is_an_error(
    settled_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geomcheck.measurement.cache.recall.identity", lambda source, settled_at: source.path.name)
    measured(settled_run, tmp_path / "cache", RANK)
    file = settled_run / "checkpoint-20" / "model.safetensors"
    save_file({name: w * 1.5 for name, w in load_file(file).items()}, file)
    with pytest.raises(RunError, match=r"has changed, though its file has .* --geom-cache=off"):
        measured(settled_run, tmp_path / "cache", EVERYTHING)


def test_a_cache_inside_what_is_read_is_refused(settled_run: Path, tmp_path: Path) -> None:
    for place in (settled_run, settled_run / "base" / "cache"):
        with pytest.raises(UsageError, match="would write to .*, which is never written to"):
            geomcheck.measure(settled_run, cache=place)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; name a directory"):
        geomcheck.measure(settled_run, cache=tmp_path / "file")
    assert sorted(path.name for path in settled_run.iterdir()) == [
        "base",
        "checkpoint-10",
        "checkpoint-20",
        "checkpoint-30",
    ]


ENTRIES: list[bytes] = [
    b"",
    b"[1]",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"answers": [], "routes": {}}',
    b'{"answers": {"x": 1}}',
    b'{"answers": {"x": {"value": NaN}}}',
    b'{"answers": {"x": {"value": true}}}',
    b'{"routes": {"D_t": "svd"}}',
    b'{"routes": {"D_t": [1, null]}}',
    b'{"routes": {"D_t": ["svd", NaN]}}',
    b'{"routes": {"D_t": ["svd", -1.0]}}',
    b'{"sketch": 7}',
    b'{"sketch": "00"}',
    b'{"sketch": "%s"}' % (b"007c" * 64),
    b'{"%s": "00"}' % Q.encode(),
    b'{"%s": "not a digest"}' % Q.encode(),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: repr(entry[:30]))
def test_entries_of_another_shape_are_no_answer(
    settled_run: Path, tmp_path: Path, entry: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even under a correct checksum, in a cache that someone else wrote."""
    cold = measured(settled_run, tmp_path / "cold", RANK)
    monkeypatch.setattr(Store, "get", lambda self, keys, each=0: dict.fromkeys(keys, entry))
    assert same(measured(settled_run, tmp_path / "cache", RANK), cold)


POISONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "figures below their range": lambda figures: dict.fromkeys(figures, -1e-3),
    "ranks above their shape": lambda figures: {stat: 1e6 if value > 1 else value for stat, value in figures.items()},
    "nothing": lambda figures: {},
    "another statistic": lambda figures: {"other": 0.5},
    "a statistic more": lambda figures: {"other": 0.5} | figures,
    "a figure that is no number": lambda figures: dict.fromkeys(figures, math.inf),
    "a figure of huge digits": lambda figures: dict.fromkeys(figures, 10**400),
    "a reason without end": lambda figures: "x" * 10_000,
    "no reason": lambda figures: None,
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_figures_that_cannot_be_are_no_answer(
    settled_run: Path, tmp_path: Path, poison: Callable[[dict[str, Any]], object]
) -> None:
    """Whoever may write to a cache may choose figures, but no impossible ones, and none that stop a session."""
    cold = measured(settled_run, tmp_path / "cache", RANK)
    shutil.rmtree(tmp_path / "cache" / "records")
    store = Store(tmp_path / "cache" / "measurements.sqlite", max_bytes=10**9, tell=pytest.fail)
    with sqlite3.connect(tmp_path / "cache" / "measurements.sqlite") as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM entries")]
    connection.close()
    entries = {key: json.loads(value) for key, value in store.get(keys).items()}
    poisoned = {
        key: {"answers": {label: poison(a if isinstance(a, dict) else {}) for label, a in entry["answers"].items()}}
        for key, entry in entries.items()
        if "answers" in entry
    }
    assert poisoned
    store.put({key: json.dumps(entry).encode() for key, entry in poisoned.items()})
    store.close()
    again = measured(settled_run, tmp_path / "cache", RANK)
    assert list(again.rows()) == list(cold.rows())
    assert same(again, cold)


def test_a_kept_record_that_holds_less_or_more_than_was_asked_is_no_answer(settled_run: Path, tmp_path: Path) -> None:
    cold = measured(settled_run, tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "records").iterdir()
    (key, column), *_ = sorted(cold.columns.items())
    shorter = dataclasses.replace(
        column, steps=column.steps[1:], codes=column.codes[1:], values=column.values[1:], undefined={}
    )
    forged = [
        dataclasses.replace(cold, columns={other: held for other, held in cold.columns.items() if other != key}),
        dataclasses.replace(cold, columns={**cold.columns, key: shorter}),
        dataclasses.replace(cold, columns={**cold.columns, (key[0], "other"): column}),
        dataclasses.replace(cold, columns={**cold.columns, (Request(key[0].metric, '{"k":9}'), key[1]): column}),
        dataclasses.replace(cold, columns={}),
        dataclasses.replace(
            cold, weights={n: dataclasses.replace(w, shape=(999, 999)) for n, w in cold.weights.items()}
        ),
    ]
    for record in forged:
        write_record(record, file)
        assert same(measured(settled_run, tmp_path / "cache"), cold)


def test_what_a_kept_record_says_of_itself_is_not_taken_over(settled_run: Path, tmp_path: Path) -> None:
    cold = measured(settled_run, tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "records").iterdir()
    theirs = dict.fromkeys(cold.w0, "0" * 32)
    places = dict.fromkeys(cold.fingerprints, "0" * 32)
    write_record(dataclasses.replace(cold, w0=theirs, fingerprints=places, device="abacus", notes=("bought",)), file)
    again = measured(settled_run, tmp_path / "cache")
    assert (again.w0, again.fingerprints, again.device, again.notes) == (cold.w0, cold.fingerprints, "cpu", cold.notes)


def test_a_kept_record_of_something_else_is_no_answer(settled_run: Path, tmp_path: Path) -> None:
    cold = measured(settled_run, tmp_path / "cache", RANK)
    (file,) = (tmp_path / "cache" / "records").iterdir()
    base = base_weights()
    other = write_run(tmp_path / "other", base, {10: moved(base, 1e-2)})
    write_record(measured(other, tmp_path / "off", RANK), file)
    assert same(measured(settled_run, tmp_path / "cache", RANK), cold)
    file.write_bytes(b"PAR1 garbage")
    assert same(measured(settled_run, tmp_path / "cache", RANK), cold)


def test_odd_places_for_a_cache_are_no_crash(settled_run: Path, tmp_path: Path) -> None:
    cold = measured(settled_run, tmp_path / "cold", RANK)
    (tmp_path / "odd" / "measurements.sqlite").mkdir(parents=True)
    with pytest.warns(UserWarning, match="cannot be used"):
        assert same(measured(settled_run, tmp_path / "odd", RANK), cold)
    (tmp_path / "link").symlink_to(settled_run / "base")
    with pytest.raises(UsageError, match="would write to"):
        geomcheck.measure(settled_run, cache=tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is a file; name a directory"):
        geomcheck.measure(settled_run, cache=tmp_path / "pipe")
