"""SECURITY.md says what is so."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()


def test_bounds_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([\w.]+)\.(\w+)` \| ([\d,]+) \|", TEXT, re.MULTILINE)
    assert len(rows) > 20
    said = {(module, name): int(value.replace(",", "")) for module, name, value in rows}
    assert said == {(module, name): getattr(importlib.import_module(module), name) for module, name in said}


def test_each_promise_names_tests_that_are_there() -> None:
    promises = re.findall(r"^\d+\. \*\*.*?(?=^\d+\. \*\*|^## )", TEXT, re.MULTILINE | re.DOTALL)
    assert len(promises) == 10
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named, promise
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
