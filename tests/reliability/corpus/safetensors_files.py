"""Safetensors files: truncated and changed at every boundary between length, header and data."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited
from tests.reliability.corpus.project import Project
from tests.runs import Q

kit = Kit("safetensors", "plain")

Header = dict[str, Any]

W0, MIDDLE, LAST = 0, 20, 30
PLACES = {W0: "opd/base/model.safetensors", MIDDLE: "opd/checkpoint-20/model.safetensors"}

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 309736\n"


def parts(content: bytes) -> tuple[Header, bytes]:
    """Header and data of a file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: bytes, data: bytes) -> bytes:
    """A file with this header."""
    return struct.pack("<Q", len(header)) + header + data


def header(change: Callable[[Header], object]) -> Bytes:
    """Change the header in place; the data stays."""

    def edit(content: bytes) -> bytes:
        found, data = parts(content)
        change(found)
        return joined(json.dumps(found).encode(), data)

    return edit


def header_text(old: bytes, new: bytes) -> Bytes:
    """Put `new` for the first `old` in the text of the header."""

    def edit(content: bytes) -> bytes:
        (length,) = struct.unpack("<Q", content[:8])
        text = content[8 : 8 + length]
        assert old in text
        return joined(text.replace(old, new, 1), content[8 + length :])

    return edit


def length(change: Callable[[int], int]) -> Bytes:
    """Change the length that the first eight bytes announce."""
    return lambda content: struct.pack("<Q", change(struct.unpack("<Q", content[:8])[0])) + content[8:]


def _boundaries(content: bytes) -> dict[str, int]:
    (size,) = struct.unpack("<Q", content[:8])
    return {
        "nothing": 0,
        "inside-the-length": 4,
        "after-the-length": 8,
        "inside-the-header": 8 + size // 2,
        "before-the-last-brace": 8 + size - 1,
        "after-the-header": 8 + size,
        "inside-the-data": (8 + size + len(content)) // 2,
        "one-byte-short": len(content) - 1,
    }


def _cut(boundary: str) -> Bytes:
    return lambda content: content[: _boundaries(content)[boundary]]


BOUNDARIES = tuple(_boundaries(b"\0" * 8))


def _flip(boundary: str, bit: int = 1) -> Bytes:
    def edit(content: bytes) -> bytes:
        at = min(_boundaries(content)[boundary], len(content) - 1)
        return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]

    return edit


def _weights(step: int) -> Callable[[Project], Any]:
    return lambda project: project.weights(step)


def _first(change: Callable[[dict[str, Any]], object]) -> Bytes:
    return header(lambda found: change(found[Q]))


def _swap_offsets(found: Header) -> None:
    """Two weights of one size lie where the other says: each still fits."""
    a, b = "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight"
    found[a]["data_offsets"], found[b]["data_offsets"] = found[b]["data_offsets"], found[a]["data_offsets"]


HEADERS: dict[str, Bytes] = {
    "length-zero": length(lambda n: 0),
    "length-one-more": length(lambda n: n + 1),
    "length-one-less": length(lambda n: n - 1),
    "length-beyond-the-file": length(lambda n: 10**9),
    "length-of-2-to-the-63": length(lambda n: 2**63),
    "length-all-ones": length(lambda n: 2**64 - 1),
    "header-empty-mapping": lambda content: joined(b"{}", parts(content)[1]),
    "header-a-list": lambda content: joined(b"[]", parts(content)[1]),
    "header-a-number": lambda content: joined(b"1", parts(content)[1]),
    "header-no-json": header_text(b"{", b"("),
    "header-not-utf8": header_text(b"model.", b"mod\xff\xfe."),
    "header-of-nulls": lambda content: content[:8] + bytes(len(content) - 8),
    "header-nested-deeply": lambda content: joined(b'{"a":' * 20_000 + b"1" + b"}" * 20_000, parts(content)[1]),
    "dtype-unknown": header_text(b'"F32"', b'"F31"'),
    "dtype-of-another-size": header_text(b'"F32"', b'"F64"'),
    "dtype-a-number": header_text(b'"F32"', b"32"),
    "dtype-missing": _first(lambda entry: entry.pop("dtype")),
    "shape-missing": _first(lambda entry: entry.pop("shape")),
    "offsets-missing": _first(lambda entry: entry.pop("data_offsets")),
    "shape-negative": _first(lambda entry: entry.update(shape=[-32, -16])),
    "shape-a-text": _first(lambda entry: entry.update(shape="32x16")),
    "shape-of-floats": _first(lambda entry: entry.update(shape=[32.0, 16.0])),
    "shape-that-overflows": _first(lambda entry: entry.update(shape=[2**32, 2**32])),
    "shape-larger-than-the-data": _first(lambda entry: entry.update(shape=[64, 16])),
    "offsets-reversed": _first(lambda entry: entry["data_offsets"].reverse()),
    "offsets-negative": _first(lambda entry: entry.update(data_offsets=[-4, 2044])),
    "offsets-beyond-the-file": _first(lambda entry: entry.update(data_offsets=[10**9, 10**9 + 2048])),
    "offsets-overlap": _first(lambda entry: entry.update(data_offsets=[0, 2048])),
    "a-gap-in-the-data": header(lambda found: found.pop(Q)),
    "metadata-a-number": header(lambda found: found.update(__metadata__=7)),
    "metadata-not-of-texts": header(lambda found: found.update(__metadata__={"format": 7})),
}

CONTENTS: dict[str, Bytes] = {
    "a-git-lfs-pointer": lambda content: LFS,
    "an-html-page": lambda content: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "gzipped": gzip.compress,
    "all-zero-bytes": lambda content: bytes(len(content)),
    "trailing-bytes": lambda content: content + b"\0" * 7,
    "twice-over": lambda content: content + content,
    "byte-order-mark": lambda content: b"\xef\xbb\xbf" + content,
    "text-mode-newlines": lambda content: content.replace(b"\n", b"\r\n") + b"\r\n",
}


def cases() -> Iterator[Case]:
    """Every case."""
    for step, place in PLACES.items():
        where = "w0" if step == W0 else "checkpoint"
        for boundary in BOUNDARIES:
            damage = edited(_weights(step), _cut(boundary))
            yield kit(f"{where}-cut-{boundary}", damage, Outcome.ERROR, place, "truncated or not a safetensors file")
    for name, edit in HEADERS.items():
        yield kit(name, edited(_weights(MIDDLE), edit), Outcome.ERROR, PLACES[MIDDLE])
    for name, edit in CONTENTS.items():
        yield kit(name, edited(_weights(LAST), edit), Outcome.ERROR, "opd/checkpoint-30/model.safetensors")
    for boundary in ("inside-the-length", "after-the-length", "inside-the-header", "before-the-last-brace"):
        damage = edited(_weights(MIDDLE), _flip(boundary, 0x80))
        yield kit(f"flip-{boundary}", damage, Outcome.ERROR, PLACES[MIDDLE])
    yield kit("flip-the-last-mantissa-bit-of-data", edited(_weights(MIDDLE), _flip("inside-the-data")), Outcome.OTHER)
    yield kit(
        "a-name-that-lost-a-letter",
        edited(_weights(MIDDLE), header_text(b"q_proj", b"q_proi")),
        Outcome.ERROR,
        "model.layers.0.self_attn.q_proi.weight cannot be measured: not in W0 (and 1 more)",
    )
    twice = header_text(b'"model.layers.0.self_attn.k', b'"model.layers.0.self_attn.q')
    yield kit("a-name-twice", edited(_weights(MIDDLE), twice), Outcome.ERROR, PLACES[MIDDLE])
    texts = header(lambda found: found.update(__metadata__={"a": "b"}))
    yield kit("metadata-of-texts", edited(_weights(MIDDLE), texts), Outcome.SAME)
    swapped = edited(_weights(MIDDLE), header(_swap_offsets))
    yield kit(
        "two-weights-swapped-by-offset", swapped, Outcome.ERROR, "different models in 2 of 7 weights", "k_proj.weight"
    )
