"""Every kind of finding, from its declaration."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from docs.generate.text import cell
from geomcheck.diagnosis import Kind, load_kinds

PICTURES = Path(__file__).parents[1] / "assets" / "findings"
"""Holds ``KIND.svg`` for the kinds that can be shown; drawn by ``fixtures.defects.pictures``."""

GROUPS = {
    "A": "Facts of the bytes",
    "B": "The order of the checkpoints",
    "C": "Against good runs",
    "D": "The trainer's log",
}


def finding_list() -> str:
    """A section per group, and in it one per kind."""
    kinds = load_kinds()
    shown = {group: [kind for kind in kinds if kind.group == group] for group in GROUPS}
    return "\n\n".join(
        "\n\n".join([f"## {GROUPS[group]}", *("\n".join(_section(kind)) for kind in held)])
        for group, held in shown.items()
        if held
    )


def _section(kind: Kind) -> Iterator[str]:
    yield from (
        f"### {kind.name}",
        "",
        f"**{kind.title[0].upper()}{kind.title[1:]}** ({kind.grade}). {cell(kind.about)}",
        "",
    )
    picture = PICTURES / f"{kind.name}.svg"
    if picture.exists():
        yield from (f"![{cell(_in_words(picture))}](../assets/findings/{picture.name})", "")
    yield f"- Looks at: {', '.join(kind.looks_at)}"
    if kind.causes:
        yield f"- Likely: {cell('; or '.join(kind.causes))}"
    if kind.next_step:
        yield f"- Next: {cell(kind.next_step)}"
    if kind.source:
        yield f"- See: <{kind.source}>"


def _in_words(picture: Path) -> str:
    """The title of a picture, and what it says to those who do not see it."""
    drawing = ET.parse(picture).getroot()
    return ". ".join(str(drawing.findtext(f"{{*}}{part}")) for part in ("title", "desc"))
