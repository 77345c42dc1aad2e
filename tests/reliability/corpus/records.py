"""Record files: cut and flipped at the boundaries of Parquet, and edited by hand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geomcheck.record.tabular import digest_of_rows
from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited, nothing
from tests.reliability.corpus.project import Project
from tests.runs import Q

kit = Kit("record", "record")

Columns = dict[str, list[Any]]
WHERE = "opd.parquet"


def _file(edit: Bytes) -> Callable[[Project], object]:
    return edited(lambda project: project.record, edit)


def _footer(content: bytes) -> int:
    return len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]


def _page_of_values(content: bytes) -> int:
    """A place in the figures themselves; columns that repeat what is known are not read."""
    group = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0)
    columns = (group.column(index) for index in range(group.num_columns))
    values = next(column for column in columns if column.path_in_schema == "value")
    return int(values.data_page_offset) + values.total_compressed_size // 2


def _flip(at: Callable[[bytes], int]) -> Bytes:
    def edit(content: bytes) -> bytes:
        place = at(content)
        return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]

    return edit


def _edited(
    change: Callable[[dict[str, Any]], object] = lambda metadata: None,
    rows: Callable[[Columns], object] = lambda columns: None,
    *,
    sign: bool = True,
    seal: bool = True,
) -> Callable[[Project], object]:
    """Write the record again with other metadata and other rows, under fresh digests of both, or not."""

    def spoil(project: Project) -> None:
        table = pq.read_table(project.record)
        metadata = json.loads(table.schema.metadata[b"geomcheck"])
        columns = table.to_pydict()
        rows(columns)
        if seal:
            metadata["rows"] = digest_of_rows(pa.table(columns, schema=table.schema))
            kept = b"".join(sketch for sketch in columns["sketch"] if sketch)
            metadata["sketches"]["digest"] = hashlib.blake2b(kept, digest_size=16).hexdigest()
        change(metadata)
        text = json.dumps(metadata).encode()
        described = dict(table.schema.metadata) | {b"geomcheck": text}
        if sign:
            described[b"geomcheck.digest"] = hashlib.blake2b(text).hexdigest().encode()
        pq.write_table(pa.table(columns, schema=table.schema.with_metadata(described)), project.record)

    return spoil


def _figure(metric: str, value: float | None) -> Callable[[Columns], object]:
    """Put `value` for the first figure of a metric."""

    def rows(columns: Columns) -> None:
        columns["value"][columns["metric"].index(metric)] = value

    return rows


def _drop(keep: Callable[[Columns, int], bool]) -> Callable[[Columns], object]:
    def rows(columns: Columns) -> None:
        kept = [i for i in range(len(columns["step"])) if keep(columns, i)]
        columns.update({name: [cells[i] for i in kept] for name, cells in columns.items()})

    return rows


def _column(name: str, value: object) -> Callable[[Columns], object]:
    def rows(columns: Columns) -> None:
        columns[name][0] = value

    return rows


def cases() -> Iterator[Case]:
    """Every case."""
    cuts: dict[str, Bytes] = {
        "nothing": lambda c: b"",
        "the-magic": lambda c: c[:4],
        "a-page-header": lambda c: c[:20],
        "half": lambda c: c[: len(c) // 2],
        "before-the-footer": lambda c: c[: _footer(c)],
        "inside-the-footer": lambda c: c[: _footer(c) + 100],
        "before-its-length": lambda c: c[:-8],
        "before-the-last-magic": lambda c: c[:-4],
        "one-byte-short": lambda c: c[:-1],
    }
    for what, edit in cuts.items():
        yield kit(f"cut-to-{what}", _file(edit), Outcome.USAGE, WHERE)
    flips: dict[str, Callable[[bytes], int]] = {
        "the-last-magic": lambda c: len(c) - 2,
        "the-footer-length": lambda c: len(c) - 7,
        "a-page": _page_of_values,
        "the-metadata": lambda c: c.rindex(b"fingerprints"),
        "a-sketch": lambda c: _footer(c) - 20,
    }
    for what, at in flips.items():
        yield kit(f"flip-in-{what}", _file(_flip(at)), Outcome.USAGE, WHERE)
    yield kit("flip-in-the-footer-that-nobody-needs", _file(_flip(lambda c: _footer(c) + 1)), Outcome.SAME)
    yield kit("footer-length-huge", _file(lambda c: c[:-8] + b"\xff\xff\xff\x7f" + c[-4:]), Outcome.USAGE, WHERE)
    yield kit("bytes-behind", _file(lambda c: c + b"\0"), Outcome.USAGE, WHERE)
    yield kit("bytes-in-front", _file(lambda c: b"\0" + c), Outcome.USAGE, WHERE)
    yield kit("a-text", _file(lambda c: b"not a record"), Outcome.USAGE, WHERE)
    yield kit("nulls", _file(lambda c: bytes(len(c))), Outcome.USAGE, WHERE)
    yield kit("another-parquet-file", lambda p: pq.write_table(pa.table({"a": [1]}), p.record), Outcome.USAGE, WHERE)
    yield kit("a-directory", lambda p: (p.record.unlink(), p.record.mkdir()), Outcome.USAGE, WHERE)
    yield kit("a-pipe", lambda p: (p.record.unlink(), os.mkfifo(p.record)), Outcome.USAGE, WHERE)
    yield kit("gone", lambda p: p.record.unlink(), Outcome.USAGE, WHERE)
    yield kit("renamed", lambda p: p.record.rename(p.root / "opd.bin"), Outcome.SAME, run="opd.bin")
    unsigned = {
        "a-checkpoint-renamed": lambda m: m["points"][0].update(name="x"),
        "the-run-renamed": lambda m: m.update(run="opd-9"),
        "a-version": lambda m: m["metrics"].update(stable_rank=99),
        "w0": lambda m: m["base"].update(path="elsewhere"),
    }
    for what, change in unsigned.items():
        yield kit(f"unsigned-{what}", _edited(change, sign=False), Outcome.USAGE, WHERE, "does not match its digest")
    signed = {
        "another-format": lambda m: m.update(format=2),
        "no-points": lambda m: m.update(points=[]),
        "points-reversed": lambda m: m["points"].reverse(),
        "a-point-twice": lambda m: m["points"].append(m["points"][-1]),
        "a-point-less": lambda m: m["points"].pop(),
        "a-step-of-zero": lambda m: m["points"][0].update(step=0),
        "a-step-huge": lambda m: m["points"][-1].update(step=2**70),
        "progress-above-1": lambda m: m["points"][0].update(progress=2),
        "progress-nan": lambda m: m["points"][0].update(progress=float("nan")),
        "progress-that-falls": lambda m: m["points"][2].update(progress=0.1),
        "a-weight-less": lambda m: m["weights"].pop(Q),
        "a-shape-of-texts": lambda m: m["weights"][Q].update(shape=["a"]),
        "a-negative-shape": lambda m: m["weights"][Q].update(shape=[-32, 16]),
        "no-weights": lambda m: m.update(weights={}),
        "no-run": lambda m: m.pop("run"),
        "no-versions": lambda m: m.update(metrics={}),
        "a-list": lambda m: m.update(base=[]),
        "dtypes-a-number": lambda m: m["weights"][Q].update(dtypes=7),
    }
    for what, change in signed.items():
        yield kit(f"metadata-{what}", _edited(change), Outcome.USAGE, WHERE)
    yield kit(
        "metadata-another-version", _edited(lambda m: m["metrics"].update(stable_rank=99)), Outcome.PART, "stable_rank"
    )
    yield kit("metadata-an-escape", _edited(lambda m: m.update(run="opd\x1b[2J")), Outcome.OTHER)
    figures = {
        "nan": ("stable_rank", float("nan")),
        "infinite": ("stable_rank", float("inf")),
        "null": ("stable_rank", None),
        "rank-zero": ("stable_rank", 0.0),
        "rank-above-the-shape": ("stable_rank", 16.5),
        "support-above-1": ("update_support", 1.5),
        "norm-negative": ("relative_update_norm", -0.01),
    }
    for what, (metric, value) in figures.items():
        yield kit(f"figure-{what}", _edited(rows=_figure(metric, value)), Outcome.USAGE, WHERE, "damaged record")
    rows: dict[str, Callable[[Columns], object]] = {
        "a-step-lost": _drop(lambda c, i: c["step"][i] != 20),
        "a-weight-lost": _drop(lambda c, i: c["weight"][i] != Q),
        "one-figure-lost": _drop(lambda c, i: i != c["metric"].index("stable_rank")),
        "reversed": lambda c: c.update({name: cells[::-1] for name, cells in c.items()}),
        "a-wrong-layer": _column("layer", 7),
        "a-wrong-module": _column("module", "x"),
        "a-wrong-size": _column("numel", 3),
        "another-figure": _figure("stable_rank", 3.0),
    }
    for what, change in rows.items():
        if "wrong" not in what:  # those are columns that nobody reads again
            unsealed = _edited(rows=change, seal=False)
            yield kit(f"unsealed-{what}", unsealed, Outcome.USAGE, WHERE, "its rows do not match their digest")
        outcome = Outcome.PART if "lost" in what else Outcome.OTHER if "figure" in what else Outcome.SAME
        yield kit(f"rows-{what}", _edited(rows=change), outcome, *(["measure the run"] if "lost" in what else []))
    yield kit(
        "rows-a-metric-lost",
        _edited(rows=_drop(lambda c, i: c["metric"][i] != "stable_rank")),
        Outcome.PART,
        "stable_rank",
        "was not measured",
    )
    yield kit("rows-another-stat", _edited(rows=_column("stat", "x")), Outcome.PART, "measure the run")
    halves = _edited(rows=_figure("frozen_share", 0.5))
    yield kit("figure-frozen-a-half", halves, Outcome.ERROR, "does not tell whether")
    yield kit("rows-all-lost", _edited(rows=_drop(lambda c, i: False)), Outcome.ERROR, "was not measured")
    yield kit(
        "rows-twice", _edited(rows=lambda c: c.update({n: v + v for n, v in c.items()})), Outcome.USAGE, WHERE, "twice"
    )
    cells = {
        "a-foreign-step": ("step", 25),
        "a-foreign-weight": ("weight", "x"),
        "a-foreign-metric": ("metric", "x"),
        "no-params": ("params", "no json"),
        "params-a-list": ("params", "[]"),
        "a-null-step": ("step", None),
        "both-value-and-reason": ("undefined", "x"),
    }
    for what, (name, cell) in cells.items():
        yield kit(f"rows-{what}", _edited(rows=_column(name, cell)), Outcome.USAGE, WHERE)
    yield kit("as-a-base", nothing, Outcome.USAGE, "W0: opd.parquet", arguments=("--geom-base=opd.parquet",))
