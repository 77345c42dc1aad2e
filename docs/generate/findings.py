"""Every kind of finding, from its declaration."""

from __future__ import annotations

from collections.abc import Iterator

from docs.generate.text import cell
from geomcheck.diagnosis import Kind, load_kinds

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
    yield f"- Looks at: {', '.join(kind.looks_at)}"
    if kind.causes:
        yield f"- Likely: {cell('; or '.join(kind.causes))}"
    if kind.next_step:
        yield f"- Next: {cell(kind.next_step)}"
    if kind.source:
        yield f"- See: <{kind.source}>"
