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
    ("_version", "_text", "_html", "urls", "errors", "files", "own", "_compat", "_gc", "_lazy", "_plugins", "options"),
    ("diagnostics",),
    ("checkpoints",),
    ("record",),
    ("measurement",),
    ("suite",),
    ("api",),
    ("calibration", "comparison", "defects", "history", "inspection"),
    ("diagnosis", "scaffold"),
    ("report",),
    ("live",),
    ("projection",),
    ("gate", "training"),
    ("",),
    ("plugin", "cli"),
)
"""From the ground floor up; rooms of one floor do not know each other, but for what `WITHIN` lists. The package itself,
which exports the public API, is the room without a name."""

WITHIN = {("_plugins", "errors"), ("files", "errors"), ("own", "errors"), ("errors", "urls")}


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
            names = [alias.name for alias in node.names]
            yield from (inside(name) for name in names if name == "geomcheck" or name.startswith("geomcheck."))
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("geomcheck."):
            module = inside(str(node.module))
            submodules = [f"{module}.{alias.name}".removeprefix(".") for alias in node.names]
            yield from (name if name in modules() else module for name in submodules)


def inside(name: str) -> str:
    return name.removeprefix("geomcheck").removeprefix(".")


@cache
def edges() -> dict[str, set[str]]:
    return {module_of(file): set(imports(file)) - {module_of(file)} for file in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("module", sorted(modules()))
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
