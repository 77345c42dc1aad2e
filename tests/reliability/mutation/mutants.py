"""Which mutants a module has, and which of them are drawn."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code

from tests.reliability.mutation.operators import operators

SEED = 20261121


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        operator: name of the operator.
        where: qualified name of the changed function or class; empty at the top level.
        line: line number in the original.
        before, after: the changed line, stripped.
        source: the whole mutated module.
    """

    operator: str
    where: str
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What survives a change elsewhere in the file: where it is, and the line before and after."""
        return self.where, self.before, self.after


def mutants(source: str, only: Sequence[str] = ()) -> list[Mutant]:
    """All mutants of a module, or of some functions of it: those that compile, each once.

    A change of an annotation is none.
    """
    seen = {_meaning(source)}
    found = []
    for mutant in _candidates(source):
        if only and mutant.where not in only:
            continue
        try:
            meaning = _meaning(mutant.source)
        except SyntaxError:
            continue
        if meaning not in seen:
            seen.add(meaning)
            found.append(mutant)
    return found


def draw(found: list[Mutant], size: int, module: str) -> list[Mutant]:
    """At most `size` of them, drawn with a fixed seed, in the order of the lines."""
    if size >= len(found):
        return found
    return sorted(random.Random(f"{SEED} {module}").sample(found, size), key=lambda mutant: mutant.line)


def _candidates(source: str) -> Iterator[Mutant]:
    """Every change, but none of a message's text, nor whether a dataclass is frozen: no verdict depends on them."""
    tree = get_ast(source)
    nodes = list(ast_nodes(tree))
    lines = source.splitlines()
    for name, operator in operators():
        positions = [(node, start) for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (node, start) in enumerate(positions):
            if _idle(node):
                continue
            line = start[0]
            try:
                mutated = mutate_code(source, operator, occurrence)
            except AttributeError:  # Cosmic Ray cannot replace an exception with a dotted name
                continue
            if mutated is None or lines[line - 1].startswith("@dataclass"):
                continue
            changed = mutated.splitlines()
            after = changed[line - 1].strip() if line <= len(changed) else ""
            yield Mutant(
                name, ASTQuery(node).get_definition_name() or "", line, lines[line - 1].strip(), after, mutated
            )


def _idle(node: Any) -> bool:
    """Whether it is part of a message, or the star of keyword-only parameters, which Cosmic Ray takes for a product."""
    if getattr(node, "value", "") == "*" and node.parent.type in ("parameters", "typedargslist", "param"):
        return True
    while node is not None and node.type != "fstring":
        node = node.parent
    return node is not None


def _meaning(source: str) -> str:
    """The module without its annotations and double negations."""
    return ast.dump(_Plain().visit(ast.parse(source)))


class _Plain(ast.NodeTransformer):
    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        inner = node.operand
        twice = isinstance(node.op, ast.Not) and isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.Not)
        return inner.operand if twice else node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node
