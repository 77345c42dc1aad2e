"""Files of torch.save, new and legacy: cut and changed at the boundaries of archive, pickle and storages."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests.checkpoints.formats.hostile import rezip
from tests.reliability.corpus import seeds
from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited
from tests.reliability.corpus.project import Project
from tests.runs import NORM, Q

FILE = "pytorch_model.bin"
WHERE = f"opd/checkpoint-20/{FILE}"


def _file(project: Project) -> Path:
    return project.at(20) / FILE


def _replace(old: bytes, new: bytes, *, last: bool = False) -> Bytes:
    def edit(content: bytes) -> bytes:
        at = content.rindex(old) if last else content.index(old)
        return content[:at] + new + content[at + len(old) :]

    return edit


def _records(edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Callable[[Project], object]:
    return lambda project: rezip(_file(project), edit, compression)


def _of_pickle(old: bytes, new: bytes) -> Callable[[Project], object]:
    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        assert old in content
        return content.replace(old, new, 1)

    return _records(edit)


def _without(record: str) -> Callable[[Project], object]:
    def spoil(project: Project) -> None:
        with zipfile.ZipFile(_file(project)) as archive:
            kept = {name: archive.read(name) for name in archive.namelist() if not name.endswith(record)}
        with zipfile.ZipFile(_file(project), "w") as archive:
            for name, content in kept.items():
                archive.writestr(name, content)

    return spoil


def _saved(content: object) -> Callable[[Project], object]:
    return lambda project: torch.save(content, _file(project))


ARCHIVE: dict[str, Bytes] = {
    "cut-to-nothing": lambda c: b"",
    "cut-inside-the-signature": lambda c: c[:2],
    "cut-inside-the-first-header": lambda c: c[:20],
    "cut-inside-the-pickle": lambda c: c[:200],
    "cut-in-the-middle": lambda c: c[: len(c) // 2],
    "cut-before-the-directory": lambda c: c[: c.index(b"PK\x01\x02")],
    "cut-inside-the-directory": lambda c: c[: c.index(b"PK\x01\x02") + 30],
    "cut-before-the-end-record": lambda c: c[: c.rindex(b"PK\x05\x06")],
    "one-byte-short": lambda c: c[:-1],
    "no-signature": _replace(b"PK\x03\x04", b"PK\x03\x05"),
    "a-directory-signature-flipped": _replace(b"PK\x01\x02", b"PK\x01\x03"),
    "an-end-signature-flipped": _replace(b"PK\x05\x06", b"PK\x05\x07", last=True),
    "bytes-in-front": lambda c: b"\0" * 64 + c,
    "a-pickle-of-nothing": lambda c: pickle.dumps(None),
    "a-tar": lambda c: b"storages\0" + bytes(600),
    "a-text": lambda c: b"model weights live elsewhere\n",
    "a-safetensors-file": lambda c: _safetensors(),
    "nulls": lambda c: bytes(len(c)),
}


def _safetensors() -> bytes:
    from safetensors.torch import save

    return save({Q: torch.ones(32, 16)})


LEGACY: dict[str, Bytes] = {
    "cut-to-nothing": lambda c: b"",
    "cut-inside-the-magic": lambda c: c[:10],
    "cut-after-the-magic": lambda c: c[:15],
    "cut-inside-the-pickle": lambda c: c[:400],
    "cut-before-the-storages": lambda c: c[: len(c) // 3],
    "cut-inside-a-storage": lambda c: c[: len(c) - 1000],
    "one-byte-short": lambda c: c[:-1],
    "another-magic": lambda c: c[:3] + bytes([c[3] ^ 1]) + c[4:],
    "another-protocol": _replace(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xea\x03."),
    "another-endianness": _replace(b"little_endian", b"little_endiam"),
    "an-opcode-flipped": _replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"),
}


def cases() -> Iterator[Case]:
    """Every case."""
    kit = Kit("pickle", "pickle")
    for what, edit in ARCHIVE.items():
        yield kit(what, edited(_file, edit), Outcome.ERROR, WHERE)
    yield kit("no-pickle", _without("data.pkl"), Outcome.ERROR, WHERE)
    yield kit("no-storage", _without("data/0"), Outcome.ERROR, WHERE)
    yield kit("no-version", _without(".data/serialization_id"), Outcome.SAME)
    yield kit("big-endian", _records(lambda n, c: b"big" if n.endswith("byteorder") else c), Outcome.ERROR, WHERE)
    yield kit("compressed", _records(lambda n, c: c, zipfile.ZIP_DEFLATED), Outcome.ERROR, WHERE)
    yield kit("written-by-another-zip", _records(lambda n, c: c), Outcome.SAME)
    yield kit("a-short-storage", _records(lambda n, c: c[:-4] if n.endswith("data/0") else c), Outcome.ERROR, WHERE)
    yield kit("a-class-of-somebody", _of_pickle(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"), Outcome.ERROR, WHERE)
    yield kit("a-storage-of-somebody", _of_pickle(b"FloatStorage", b"GloatStorage"), Outcome.ERROR, WHERE)
    yield kit(
        "a-pickle-without-its-end", _records(lambda n, c: c[:-1] if n.endswith("pkl") else c), Outcome.ERROR, WHERE
    )
    yield kit("an-empty-pickle", _records(lambda n, c: b"" if n.endswith("pkl") else c), Outcome.ERROR, WHERE)
    yield kit(
        "an-unknown-opcode",
        _records(lambda n, c: c[:2] + b"\xff" + c[3:] if n.endswith("pkl") else c),
        Outcome.ERROR,
        WHERE,
    )
    yield kit("a-name-that-lost-a-letter", _of_pickle(b"q_proj", b"q_proi"), Outcome.ERROR, "q_proi", "not in W0")
    for what, content in {
        "an-empty-state-dict": {},
        "a-list": [torch.ones(2)],
        "a-tensor": torch.ones(3),
        "numbers": {"a": 1, "b": 2},
        "a-number": 7,
        "two-state-dicts": {"model": {Q: torch.ones(2, 2)}, "state_dict": {Q: torch.ones(2, 2)}},
        "a-sparse-tensor": {Q: torch.eye(3).to_sparse()},
        "names-that-are-numbers": {1: torch.ones(2, 2)},
        "a-whole-module": torch.nn.Linear(2, 2),
    }.items():
        yield kit(what, _saved(content), Outcome.ERROR, "opd/checkpoint-20")
    weights = seeds.trained(20)
    yield kit("wrapped", _saved({"state_dict": weights, "epoch": 3}), Outcome.SAME)
    yield kit(
        "with-an-alias", _saved({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}), Outcome.SAME
    )
    yield kit(
        "nan-in-a-norm",
        _saved({**weights, NORM: torch.full((16,), float("nan"))}),
        Outcome.ERROR,
        "checkpoint-20",
        NORM,
    )
    yield kit(
        "nan-in-a-weight", _saved({**weights, Q: torch.full((32, 16), float("nan"))}), Outcome.ERROR, "checkpoint-20", Q
    )
    yield kit(
        "two-files", lambda p: torch.save(weights, p.at(20) / "model.pt"), Outcome.ERROR, "model.pt: weights beside"
    )
    yield kit("data-flipped", edited(_file, _flip_data), Outcome.OTHER)
    old = Kit("legacy", "legacy")
    for what, edit in LEGACY.items():
        yield old(what, edited(_file, edit), Outcome.ERROR, WHERE)
    yield old("bytes-behind", edited(_file, lambda c: c + b"\0" * 9), Outcome.SAME)


def _flip_data(content: bytes) -> bytes:
    """One bit of a mantissa, in the middle of the largest storage."""
    at = content.index(b"PK\x03\x04", len(content) // 3) - 400
    at -= at % 4
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
