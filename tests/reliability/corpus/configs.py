"""``config.json``: damaged, missing, of another model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited
from tests.reliability.corpus.project import Project

kit = Kit("config", "plain")


def _config(edit: Bytes, step: int = 20) -> Callable[[Project], object]:
    return edited(lambda project: project.weights(step).with_name("config.json"), edit)


def _with(step: int = 20, **values: Any) -> Callable[[Project], object]:
    return _config(lambda content: json.dumps(json.loads(content) | values).encode(), step)


def cases() -> Iterator[Case]:
    """Every case."""
    edits: dict[str, Bytes] = {
        "empty": lambda c: b"",
        "cut": lambda c: c[:-5],
        "a-list": lambda c: b"[1]",
        "a-text": lambda c: b'"qwen3"',
        "not-utf8": lambda c: c.replace(b"qwen", b"q\xff"),
        "nulls": lambda c: bytes(len(c)),
        "html": lambda c: b"<html>",
        "deep": lambda c: b'{"a":' * 99_999,
        "two": lambda c: c + c,
        "huge": lambda c: b" " * 70_000_000,
    }
    for what, edit in edits.items():
        yield kit(what, _config(edit), Outcome.ERROR, "opd/checkpoint-20/config.json")
    yield kit("w0-cut", _config(edits["cut"], 0), Outcome.ERROR, "opd/base/config.json")
    yield kit("missing-from-one", lambda p: (p.at(20) / "config.json").unlink(), Outcome.SAME)
    yield kit(
        "missing-from-all",
        lambda p: [p.weights(s).with_name("config.json").unlink() for s in (0, 10, 20, 30)],
        Outcome.SAME,
    )
    for what, values in {
        "more-heads": {"num_attention_heads": 8},
        "fewer-groups": {"num_key_value_heads": 1},
        "another-head-size": {"head_dim": 4},
        "wider": {"hidden_size": 32},
    }.items():
        yield kit(what, _with(**values), Outcome.USAGE, "checkpoint-20", "does not belong to run opd")
    other = {"a-number": 3, "a-list": ["qwen3"], "null": None, "empty": "", "unknown": "qwen99", "another": "gpt2"}
    for what, value in other.items():  # names and shapes decide, where nothing is to be split
        yield kit(f"model-type-{what}", _with(model_type=value), Outcome.SAME)
    yield kit("a-comment-more", _with(_note="x" * 1000), Outcome.SAME)
    yield kit("tied-by-the-config", _with(tie_word_embeddings=True), Outcome.SAME)
    yield kit("another-name-or-path", _with(_name_or_path="/etc/passwd"), Outcome.SAME)
    yield kit("code-of-its-own", _with(auto_map={"AutoModel": "evil.Model"}), Outcome.SAME)
