"""Digests of weights by content: by which algorithm one was taken, and whether two are of the same content.

A digest names its algorithm, as ``blake3:0123...``; one that names none is BLAKE2b, as geomcheck took them before. Of
digests of two algorithms nothing can be concluded, so whatever compares those of two records, or of a record and a
suite, asks here first. The old algorithm is not computed beside the new: that would take five times as long of every
weight, to spare one measurement.
"""

from __future__ import annotations

ALGORITHM = "blake3"
"""What `geomcheck.measurement.content` takes."""

BEFORE = "blake2b"
"""What a digest is that names no algorithm."""

PATTERN = rf"(?:{ALGORITHM}:)?[0-9a-f]"
"""A regular expression: how a digest begins, up to its first digit."""

UNLIKE = "digests of different algorithms tell nothing of each other"


def named(digits: str) -> str:
    """A digest of `ALGORITHM`, from its hexadecimal digits."""
    return f"{ALGORITHM}:{digits}"


def algorithm(digest: str) -> str:
    """The algorithm of a digest, or of the start of one.

    >>> algorithm("blake3:00ff"), algorithm("00ff")
    ('blake3', 'blake2b')
    """
    name, colon, _ = digest.rpartition(":")
    return name if colon else BEFORE


def comparable(one: str, other: str) -> bool:
    """Whether two digests, or the starts of two, are of one algorithm, so that they differ only where contents do.

    >>> comparable("blake3:00ff", "blake3:11ff"), comparable("blake3:00ff", "00ff")
    (True, False)
    """
    return algorithm(one) == algorithm(other)


def short(digest: str) -> str:
    """The algorithm, where it is named, and the first twelve digits."""
    name, colon, digits = digest.rpartition(":")
    return f"{name}{colon}{digits[:12]}"
