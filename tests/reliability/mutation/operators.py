"""Cosmic Ray's operators, the useful ones, and one that it lacks: a statement that is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator
from parso.python.tree import Name

CORE = (
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_USub",
    "ZeroIterationForLoop",
    *(
        f"ReplaceComparisonOperator_{old}_{new}"
        for old, new in (
            ("Lt", "LtE"),
            ("Lt", "GtE"),
            ("LtE", "Lt"),
            ("LtE", "Gt"),
            ("Gt", "GtE"),
            ("Gt", "LtE"),
            ("GtE", "Gt"),
            ("GtE", "Lt"),
            ("Eq", "NotEq"),
            ("NotEq", "Eq"),
            ("Is", "IsNot"),
            ("IsNot", "Is"),
        )
    ),
    *(
        f"ReplaceBinaryOperator_{old}_{new}"
        for old, new in (
            ("Add", "Sub"),
            ("Sub", "Add"),
            ("Mul", "Div"),
            ("Div", "Mul"),
            ("FloorDiv", "Mul"),
            ("Mod", "Mul"),
            ("Pow", "Mul"),
            ("BitOr", "BitAnd"),
            ("BitAnd", "BitOr"),
        )
    ),
)
"""Replacements that only raise a TypeError (``a << b`` of floats) are left out: they would flatter the score."""


class RemoveStatement(Operator):
    """Leaves out a ``raise``, or a call whose value nobody takes: a check that no longer checks."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """The one position of a statement that can go."""
        if _removable(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """`pass` in its place, and as many lines as before."""
        height = node.end_pos[0] - node.start_pos[0]
        return Name("pass" + "\n" * height, node.start_pos, node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """For the tests of Cosmic Ray."""
        return (Example("check(x)\n", "pass\n"), Example("raise ValueError\n", "pass\n"))


def _removable(node: Any) -> bool:
    if node.parent is None or node.parent.type != "simple_stmt":
        return False
    is_call = node.type in ("atom_expr", "power") and node.children[-1].type == "trailer"
    return is_call or node.type == "raise_stmt"


def operators() -> Iterator[tuple[str, Operator]]:
    """Name and instance of every operator that is used."""
    for name in CORE:
        yield name, get_operator(f"core/{name}")()
    yield "RemoveStatement", RemoveStatement()
