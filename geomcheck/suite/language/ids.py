"""Whether two ids differ by a slip of the keyboard."""

from __future__ import annotations

import re

LEAST = 4
"""Letters that a part of an id needs for a slip to be told from another word: ``q-proj`` and ``k-proj`` are two."""


def is_slip(one: str, other: str) -> bool:
    """Whether the ids are one but for what stands between their parts, or for one letter of a longer part.

    A letter more, less, another, or two in each other's place. Numbers and short parts are names of their own:

    >>> is_slip("stable-rank-bnd", "stable-rank-band"), is_slip("stable_rank_band", "stable-rank-band")
    (True, True)
    >>> is_slip("rank-layer-1", "rank-layer-2"), is_slip("rank-q", "rank-k"), is_slip("support-min", "support-max")
    (False, False, False)
    """
    if one == other:
        return False
    mine, theirs = (re.split(r"[-_.]", name) for name in (one, other))
    if "".join(mine) == "".join(theirs):
        return True
    if len(mine) != len(theirs):
        return False
    differing = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
    return len(differing) == 1 and _one_letter(*differing[0])


def _one_letter(a: str, b: str) -> bool:
    if not (a.isalpha() and b.isalpha()) or min(len(a), len(b)) < LEAST - 1 or max(len(a), len(b)) < LEAST:
        return False
    short, long = sorted((a, b), key=len)
    if len(long) - len(short) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return swapped or short[start + 1 :] == long[start + 1 :]
