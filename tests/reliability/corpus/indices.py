"""Shard indices and shards: missing, stale, of another save, pointing elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited
from tests.reliability.corpus.project import Project
from tests.runs import Q

kit = Kit("index", "shards")

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"
WHERE = f"opd/checkpoint-20/{INDEX}"


def _index(edit: Bytes) -> Callable[[Project], object]:
    return edited(lambda project: project.at(20) / INDEX, edit)


def _mapping(change: Callable[[dict[str, Any]], object]) -> Callable[[Project], object]:
    def edit(content: bytes) -> bytes:
        found = json.loads(content)
        change(found)
        return json.dumps(found).encode()

    return _index(edit)


def _first(value: object) -> Callable[[Project], object]:
    return _mapping(lambda index: index["weight_map"].update({Q: value}))


def _from(step: int, name: str) -> Callable[[Project], object]:
    return lambda project: shutil.copy(project.at(step) / name, project.at(20) / name)


def _shard(name: str, edit: Bytes) -> Callable[[Project], object]:
    return edited(lambda project: project.at(20) / name, edit)


def cases() -> Iterator[Case]:
    """Every case."""
    for share in (0, 1, 50, 99):
        cut = _index(lambda content, share=share: content[: len(content) * share // 100])
        yield kit(f"cut-to-{share}-percent", cut, Outcome.ERROR, WHERE)
    yield kit("a-list", _index(lambda _: b"[]"), Outcome.ERROR, WHERE)
    yield kit("no-utf8", _index(lambda c: c.replace(b"model.", b"mod\xff.")), Outcome.ERROR, WHERE)
    yield kit("nulls", _index(lambda c: bytes(len(c))), Outcome.ERROR, WHERE)
    yield kit("deep", _index(lambda _: b'{"weight_map":' + b"[" * 50_000), Outcome.ERROR, WHERE)
    yield kit("no-map", _mapping(lambda index: index.pop("weight_map")), Outcome.ERROR, WHERE)
    yield kit("an-empty-map", _mapping(lambda index: index.update(weight_map={})), Outcome.ERROR, WHERE)
    yield kit("a-map-that-is-a-list", _mapping(lambda index: index.update(weight_map=[FIRST])), Outcome.ERROR, WHERE)
    yield kit("a-number-for-a-file", _first(3), Outcome.ERROR, WHERE, Q)
    for what, value in {
        "up": "../base/model.safetensors",
        "absolute": "/etc/passwd",
        "empty": "",
        "a-dot": ".",
        "null": "a\0b",
        "itself": INDEX,
        "the-config": "config.json",
    }.items():
        yield kit(f"a-file-{what}", _first(value), Outcome.ERROR, "opd/checkpoint-20/")
    yield kit(
        "a-file-that-is-not-there",
        _first("model-00009-of-00009.safetensors"),
        Outcome.ERROR,
        "opd/checkpoint-20/model-00009-of-00009.safetensors",
        "missing",
    )
    yield kit("a-weight-in-the-wrong-file", _first(FIRST), Outcome.ERROR, "stale")
    yield kit(
        "a-weight-left-out",
        _mapping(lambda index: index["weight_map"].pop(Q)),
        Outcome.ERROR,
        f"holds {Q}, which model.safetensors.index.json does not name",
    )
    yield kit(
        "a-weight-that-is-nowhere",
        _mapping(lambda i: i["weight_map"].update({"x.weight": FIRST})),
        Outcome.ERROR,
        FIRST,
        "places x.weight here",
    )
    twice = _index(lambda c: c.replace(b'"weight_map": {', b'"weight_map": {"' + Q.encode() + b'": "x.safetensors", '))
    yield kit("a-name-twice", twice, Outcome.ERROR, "is there twice")  # readers differ in which counts
    yield kit("a-total-that-is-wrong", _mapping(lambda index: index.update(metadata={"total_size": 1})), Outcome.SAME)
    yield kit(
        "a-bigger-save-before",
        lambda p: (p.at(20) / "model-00004-of-00004.safetensors").write_bytes(b"x"),
        Outcome.ERROR,
        "model-00004-of-00004.safetensors: weights beside",
    )
    yield kit("no-index", lambda p: (p.at(20) / INDEX).unlink(), Outcome.USAGE, f"lack {INDEX}, which is written last")
    yield kit("no-index-at-all", lambda p: [(p.at(s) / INDEX).unlink() for s in (10, 20, 30)], Outcome.USAGE, "opd")
    yield kit("the-index-of-another-step", _from(10, INDEX), Outcome.SAME)
    yield kit(
        "a-missing-shard",
        lambda p: (p.at(20) / SECOND).unlink(),
        Outcome.ERROR,
        f"opd/checkpoint-20/{SECOND}",
        "missing",
    )
    yield kit(
        "a-shard-under-anothers-name",
        lambda p: shutil.copy(p.at(20) / FIRST, p.at(20) / SECOND),
        Outcome.ERROR,
        f"opd/checkpoint-20/{SECOND}",
        "stale",
    )
    yield kit("a-shard-of-another-step", _from(10, SECOND), Outcome.OTHER)
    yield kit("an-empty-shard", _shard(SECOND, lambda _: b""), Outcome.ERROR, f"opd/checkpoint-20/{SECOND}")
    yield kit("half-a-shard", _shard(SECOND, lambda c: c[: len(c) // 2]), Outcome.ERROR, f"opd/checkpoint-20/{SECOND}")
    yield kit(
        "an-index-beside-a-whole-model",
        lambda p: shutil.copy(p.base / "model.safetensors", p.at(20)),
        Outcome.ERROR,
        "checkpoint-20",
    )
