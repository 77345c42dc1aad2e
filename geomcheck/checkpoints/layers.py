"""The layers of a network: a layer is a stack, which is a list of layers that counts from 0, and a number in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

_LIST = re.compile(
    r"(?:^|(?<=\.))(?P<list>h|stage|conformer|encoders|mixers|self_attends"
    r"|(?!down|cross_attn_|mel_attn_|\w*embeds?_)(?:\w+_)?(?:blocks?\.[0-9]+|layers?|blocks?|resblocks))"
    r"\.(?P<number>[0-9]{1,6})(?=\.)"
)
"""A list of layers by its name, and a number in it. Other lists are parts of a layer: experts, heads, adapters."""

_PARTS = re.compile(r"(?:\w*mlps?|\w+_embed|\w+_embedder|\w+_proj|\w*head)(?:\.[0-9]+)*\.layers$|hidden_layers$")
"""A list with such a name that is part of an MLP: its members are single linear maps."""

PLAIN = ("layers", "layer", "blocks", "block", "h")
"""Names of lists that say nothing of whose layers they are."""

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
            if _PARTS.search(stack) is None:
                found = match
            continue
        between = name[found.end() : match.start()]
        if between not in (".", ".transformer.") or (found["list"], match["list"]) == _SUBLAYERS:
            break
        found = match
    return OUTSIDE if found is None else Place(name[: found.end("list")], int(found["number"]))


def names_of(stacks: Iterable[str]) -> dict[str, str]:
    """What to call each of `stacks`, shortly: as much of its path as tells it from the others.

    ``model.layers`` and ``mtp.layers`` are ``model`` and ``mtp``; a name is a part of its stack's path.
    """
    paths = [stack.split(".") for stack in sorted(set(stacks) - {""})]
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
    names = {".".join(path): _name(path, shared, [other for other in paths if other is not path]) for path in paths}
    return names if len(set(names.values())) == len(names) else {stack: stack for stack in names}


def _name(path: list[str], shared: int, others: list[list[str]]) -> str:
    """The part of `path` after what all have in common, as far as no other begins so."""
    start = min(shared, len(path) - 1)
    ends = range(start + 1, len(path))
    end = next((end for end in ends if all(other[:end] != path[:end] for other in others)), len(path))
    if start == len(path) - 1 > 0 and path[start] in PLAIN:
        start, end = start - 1, end - 1
    while start > 0 and path[start].isdigit():
        start -= 1
    return ".".join(path[start:end])
