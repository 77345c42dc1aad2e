"""The layers of a network: a layer is a stack, which is a list of layers that counts from 0, and a number in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

_LIST = re.compile(
    r"(?:^|(?<=\.))(?P<list>h|stage|conformer|encoders|mixers|self_attends"
    r"|(?!down|cross_attn_|mel_attn_|\w*embeds?_)(?:\w+_)?(?:blocks?\.[0-9]+|layers?|blocks?|resblocks))"
    r"\.(?P<number>[0-9]{1,6})(?=\.)"
)
"""A list of layers by its name, and a number in it. Other lists are parts of a layer: experts, heads, adapters."""

_MLP = re.compile(r"\w*(?:mlps?|_embed|_embedder|_proj|head)")
"""An MLP whose list of layers holds single linear maps, and is no stack."""

PLAIN = ("layers", "layer", "blocks", "block", "h")
"""Names of lists that say nothing of whose layers they are."""

MAX_NAMED = 200
MAX_DEPTH = 40
"""Stacks of one model that get short names, and components of their paths."""

_SUBLAYERS = ("block", "layer")
"""T5's: the sublayers of a block, numbered too."""


class Place(NamedTuple):
    """Where a weight lies: the path of its stack (``model.layers``) and its number there, or neither."""

    stack: str
    number: int | None


OUTSIDE = Place("", None)


@lru_cache(maxsize=1 << 17)
def place_of(name: str) -> Place:
    """The layer of a canonical weight name: of lists inside lists, as stages hold blocks, the inner one."""
    found = None
    for match in _LIST.finditer(name):
        stack = name[: match.end("list")]
        if found is None:
            found = None if _of_mlp(stack.split(".")) else match
            continue
        between = name[found.end() : match.start()]
        if between not in (".", ".transformer.") or (found["list"], match["list"]) == _SUBLAYERS:
            break
        found = match
    return OUTSIDE if found is None else Place(name[: found.end("list")], int(found["number"]))


def _of_mlp(path: list[str]) -> bool:
    *above, last = path
    while above and above[-1].isdigit():
        above.pop()
    return last == "hidden_layers" or (last == "layers" and bool(above) and _MLP.fullmatch(above[-1]) is not None)


def names_of(stacks: Iterable[str]) -> dict[str, str]:
    """What to call each of `stacks`, shortly: as much of its path as tells it from the others.

    ``model.layers`` and ``mtp.layers`` are ``model`` and ``mtp``; a name is a part of its stack's path. Where there are
    more stacks than any model has, or deeper ones, they keep their paths.
    """
    whole = {stack: stack for stack in sorted(set(stacks) - {""})}
    if len(whole) > MAX_NAMED or any(stack.count(".") > MAX_DEPTH for stack in whole):
        return whole
    paths = [stack.split(".") for stack in whole]
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
    begun = Counter(tuple(path[:end]) for path in paths for end in range(len(path) + 1))
    names = {".".join(path): _name(path, shared, begun) for path in paths}
    return names if len(set(names.values())) == len(names) else whole


def _name(path: list[str], shared: int, begun: Mapping[tuple[str, ...], int]) -> str:
    """The part of `path` after what all have in common, as far as others have `begun` so too."""
    start = min(shared, len(path) - 1)
    end = next((end for end in range(start + 1, len(path)) if begun[tuple(path[:end])] == 1), len(path))
    if start == len(path) - 1 > 0 and path[start] in PLAIN:
        start, end = start - 1, end - 1
    while start > 0 and path[start].isdigit():
        start -= 1
    return ".".join(path[start:end])
