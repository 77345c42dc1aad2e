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
    """Every change; but not whether a dataclass is frozen, which no figure depends on."""
    tree = get_ast(source)
    nodes = list(ast_nodes(tree))
    lines = source.splitlines()
    for name, operator in operators():
        positions = [(node, start) for node in nodes for start, _ in operator.mutation_positions(node) if not _a_marker(node)]
        for occurrence, (node, start) in enumerate(positions):
            mutated = mutate_code(source, operator, occurrence)
            line = start[0]
            if mutated is None or lines[line - 1].startswith("@dataclass"):
                continue
            changed = mutated.splitlines()
            after = changed[line - 1].strip() if line <= len(changed) else ""
            yield Mutant(name, ASTQuery(node).get_definition_name() or "", line, lines[line - 1].strip(), after, mutated)


def _a_marker(node: Any) -> bool:
    """Whether it is the star of keyword-only parameters, which Cosmic Ray takes for a product."""
    return getattr(node, "value", "") == "*" and node.parent.type in ("parameters", "typedargslist", "param")


def _meaning(source: str) -> str:
    """The module without its annotations."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.dump(tree)
