"""torch distributed checkpoints, also Megatron's: metadata and shards that do not agree."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator

import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, TensorProperties

from tests.checkpoints.dcp_files import chunk_places, rewrite
from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited
from tests.reliability.corpus.project import Project
from tests.runs import Q

kit = Kit("dcp", "dcp")

META, ZERO, ONE = ".metadata", "__0_0.distcp", "__1_0.distcp"


def _meta(edit: Bytes) -> Callable[[Project], object]:
    return edited(lambda project: project.at(20) / META, edit)


def _shard(edit: Bytes, name: str = ONE) -> Callable[[Project], object]:
    return edited(lambda project: project.at(20) / name, edit)


def _change(change: Callable[[Metadata], object]) -> Callable[[Project], object]:
    return lambda project: rewrite(project.at(20), change)


def _exchange(project: Project, one: str, other: str, step: int = 20) -> None:
    here, there = project.at(20) / one, project.at(step) / other
    aside = project.root / "aside"
    shutil.move(here, aside)
    shutil.move(there, here)
    shutil.move(aside, there)


def _place(what: str, change: Callable[[int], object]) -> Callable[[Metadata], object]:
    """Change offset, length or file of the first chunk of a weight."""

    def edit(metadata: Metadata) -> None:
        index = chunk_places(metadata, Q)[0]
        stored = metadata.storage_data[index]
        setattr(stored, what, change(getattr(stored, what)))

    return edit


def _chunks(change: Callable[[list[ChunkStorageMetadata]], object]) -> Callable[[Metadata], object]:
    return lambda metadata: change(metadata.state_dict_metadata[Q].chunks)


def _exchange_places(metadata: Metadata) -> None:
    """The two halves of a weight lie where the other is said to."""
    a, b = chunk_places(metadata, Q)
    metadata.storage_data[a], metadata.storage_data[b] = metadata.storage_data[b], metadata.storage_data[a]


def _retyped(metadata: Metadata) -> None:
    metadata.state_dict_metadata[Q].properties = TensorProperties(dtype=torch.bfloat16)


METADATA: dict[str, Bytes] = {
    "nothing": lambda c: b"",
    "the-first-byte": lambda c: c[:1],
    "the-first-opcodes": lambda c: c[:40],
    "half": lambda c: c[: len(c) // 2],
    "all-but-the-end": lambda c: c[:-1],
}


def cases() -> Iterator[Case]:
    """Every case."""
    where = f"opd/step-20/{META}"
    for what, edit in METADATA.items():
        yield kit(f"metadata-cut-to-{what}", _meta(edit), Outcome.ERROR, where)
    yield kit("metadata-an-unknown-protocol", _meta(lambda c: b"\x80\x63" + c[2:]), Outcome.SAME)  # opcodes decide
    yield kit("metadata-of-nulls", _meta(lambda c: bytes(len(c))), Outcome.ERROR, where)
    yield kit(
        "metadata-of-another-class",
        _meta(lambda c: c.replace(b"TensorStorageMetadata", b"TensorStorageMetadatb")),
        Outcome.ERROR,
        where,
    )
    yield kit("metadata-of-code", _meta(lambda c: b"cos\nsystem\n(S'touch owned'\ntR."), Outcome.ERROR, where)
    yield kit(
        "metadata-a-name-flipped", _meta(lambda c: c.replace(b"q_proj", b"q_proi")), Outcome.ERROR, "step-20", "q_proi"
    )
    yield kit(
        "metadata-one-name-flipped", _meta(lambda c: c.replace(b"q_proj", b"q_proi", 1)), Outcome.ERROR, "step-20"
    )
    yield kit("no-metadata", lambda p: (p.at(20) / META).unlink(), Outcome.LEFT_OUT, "step-20", "lack .metadata")
    yield kit(
        "metadata-half-written",
        lambda p: (p.at(20) / META).rename(p.at(20) / ".metadata.tmp"),
        Outcome.LEFT_OUT,
        "step-20",
        ".metadata.tmp is still there",
    )
    yield kit("the-metadata-of-another-step", lambda p: shutil.copy(p.at(10) / META, p.at(20)), Outcome.SAME)
    yield kit("a-missing-shard", lambda p: (p.at(20) / ONE).unlink(), Outcome.ERROR, f"opd/step-20/{ONE}", "missing")
    for what, edit in {
        "empty": lambda c: b"",
        "cut": lambda c: c[:-100],
        "longer": lambda c: c + bytes(8),
        "nulls": lambda c: bytes(len(c)),
        "turned": lambda c: c[::-1],
    }.items():
        yield kit(f"a-shard-{what}", _shard(edit), Outcome.ERROR, f"opd/step-20/{ONE}")
    yield kit("a-signature-of-a-chunk", _shard(lambda c: b"PL" + c[2:]), Outcome.ERROR, f"opd/step-20/{ONE}")
    yield kit("two-shards-exchanged", lambda p: _exchange(p, ZERO, ONE), Outcome.ERROR, "step-20 are different models")
    yield kit("a-shard-of-another-step", lambda p: shutil.copy(p.at(10) / ONE, p.at(20)), Outcome.OTHER)
    yield kit("a-shard-exchanged-with-another-step", lambda p: _exchange(p, ONE, ONE, 10), Outcome.OTHER)
    yield kit(
        "a-shard-more", lambda p: shutil.copy(p.at(20) / ONE, p.at(20) / "__2_0.distcp"), Outcome.ERROR, "__2_0.distcp"
    )
    yield kit(
        "a-shard-that-is-a-pipe",
        lambda p: [(p.at(20) / ONE).unlink(), os.mkfifo(p.at(20) / ONE)],
        Outcome.ERROR,
        f"opd/step-20/{ONE}",
    )
    for what, change in {
        "offset-later": _place("offset", lambda n: n + 1),
        "offset-negative": _place("offset", lambda n: -1),
        "offset-beyond": _place("offset", lambda n: 10**12),
        "length-shorter": _place("length", lambda n: n - 64),
        "length-zero": _place("length", lambda n: 0),
        "length-huge": _place("length", lambda n: 2**62),
        "file-elsewhere": _place("relative_path", lambda _: "../step-10/__0_0.distcp"),
        "file-absolute": _place("relative_path", lambda _: "/etc/passwd"),
        "file-a-number": _place("relative_path", lambda _: 7),
        "chunk-missing": _chunks(lambda chunks: chunks.pop()),
        "chunk-twice": _chunks(lambda chunks: chunks.append(chunks[0])),
        "chunk-elsewhere": _chunks(
            lambda c: c.__setitem__(0, ChunkStorageMetadata(torch.Size((1, 0)), torch.Size((16, 16))))
        ),
        "chunk-larger": _chunks(
            lambda c: c.__setitem__(0, ChunkStorageMetadata(torch.Size((0, 0)), torch.Size((99, 16))))
        ),
        "size-larger": lambda m: setattr(m.state_dict_metadata[Q], "size", torch.Size((64, 16))),
        "size-huge": lambda m: setattr(m.state_dict_metadata[Q], "size", torch.Size((2**40, 2**40))),
        "no-storage-data": lambda m: setattr(m, "storage_data", None),
        "no-weights": lambda m: m.state_dict_metadata.clear(),
    }.items():
        yield kit(f"metadata-{what}", _change(change), Outcome.ERROR, "opd/step-20")
    yield kit(
        "a-weight-left-out",
        _change(lambda m: m.state_dict_metadata.pop(Q)),
        Outcome.ERROR,
        f"{Q} cannot be measured: missing from step-20",
    )
    yield kit("a-weight-of-another-dtype", _change(_retyped), Outcome.ERROR, Q, "bf16 from step-20")
    yield kit("two-halves-exchanged", _change(_exchange_places), Outcome.ERROR, "step-20", Q)
    yield from _megatron()


def _heads(values: dict[str, object]) -> Callable[[Project], object]:
    """Other numbers in the config of W0, which says how projections are split."""
    return edited(lambda p: p.base / "config.json", lambda content: json.dumps(json.loads(content) | values).encode())


def _megatron() -> Iterator[Case]:
    kit = Kit("megatron", "megatron")
    tracker = "latest_checkpointed_iteration.txt"
    yield kit(
        "no-marker", lambda p: (p.at(20) / "metadata.json").unlink(), Outcome.LEFT_OUT, "iter_0000020", "metadata.json"
    )
    for what, said, outcome in (
        ("earlier", "20", Outcome.LEFT_OUT),
        ("later", "40", Outcome.LEFT_OUT),
        ("right", "30\n", Outcome.SAME),
        ("garbage", "thirty", Outcome.USAGE),
        ("empty", "", Outcome.USAGE),
        ("huge", "3" * 999, Outcome.USAGE),
        ("negative", "-3", Outcome.USAGE),
        ("in-arabic-digits", "٣٠", Outcome.USAGE),
    ):
        yield kit(
            f"tracker-{what}",
            lambda p, s=said: (p.run / tracker).write_text(s),
            outcome,
            *(() if outcome is Outcome.SAME else (tracker,)),
        )
    yield kit("another-number-of-groups", _heads({"num_key_value_heads": 4}), Outcome.ERROR, "opd")
    yield kit("no-number-of-heads", _heads({"num_attention_heads": None}), Outcome.ERROR, "opd")
    yield kit("heads-that-do-not-divide", _heads({"num_attention_heads": 3}), Outcome.ERROR, "opd")
    yield kit("zero-heads", _heads({"num_attention_heads": 0}), Outcome.ERROR, "opd")
    yield kit("a-text-for-heads", _heads({"num_attention_heads": "4"}), Outcome.ERROR, "opd")
    yield kit("no-config-at-all", lambda p: (p.base / "config.json").unlink(), Outcome.ERROR, "opd")
    yield kit(
        "a-cut-shard", lambda p: os.truncate(next(p.at(20).glob("*.distcp")), 900), Outcome.ERROR, "opd/iter_0000020"
    )
