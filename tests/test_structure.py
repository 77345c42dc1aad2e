"""The house: every room imports from rooms below it alone, and no modules import in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "geomcheck"

ROOMS = (
    ("_text", "errors", "files", "_compat", "_gc", "_lazy", "options"),
    ("diagnostics",),
    ("checkpoints",),
    ("record",),
    ("measurement",),
    ("suite",),
    ("api",),
    ("calibration", "comparison", "inspection"),
    ("report",),
    ("live",),
    ("projection",),
    ("gate", "training"),
    ("plugin", "cli"),
)
"""From the ground floor up; rooms of one floor do not know each other, but for what `WITHIN` lists."""

WITHIN = {("files", "errors")}


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> frozenset[str]:
    return frozenset(module_of(file) for file in PACKAGE.rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """The modules of the package that a file imports, wherever and under whatever condition."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("geomcheck.") for alias in node.names if "geomcheck." in alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("geomcheck."):
            module = (node.module or "").removeprefix("geomcheck.")
            for alias in node.names:
                yield f"{module}.{alias.name}" if f"{module}.{alias.name}" in modules() else module


@cache
def edges() -> dict[str, set[str]]:
    return {module_of(file): set(imports(file)) - {module_of(file)} for file in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("module", sorted(modules() - {""}))
def test_a_room_imports_from_rooms_below_it(module: str) -> None:
    floor = {room: height for height, rooms in enumerate(ROOMS) for room in rooms}
    own = module.partition(".")[0]
    above = [
        other
        for other in sorted(edges()[module])
        if (room := other.partition(".")[0]) != own and floor[room] >= floor[own] and (own, room) not in WITHIN
    ]
    assert above == []


def test_no_modules_import_in_a_circle() -> None:
    try:
        TopologicalSorter(edges()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")
