from __future__ import annotations

import pytest

from geomcheck.report.text.screen import Screen, elide, elided


@pytest.mark.parametrize(
    ("width", "expected"),
    [(30, "model.layers.11.q_proj.weight"), (20, "model.la...oj.weight"), (5, "m...t"), (3, "..."), (0, "...")],
)
def test_names_lose_their_middle(width: int, expected: str) -> None:
    assert elide("model.layers.11.q_proj.weight", width) == expected
    assert len(expected) <= max(3, width)


def test_lines_break_at_blanks_only() -> None:
    text = "value 0.00023 <= value <= 0.00032 of model.layers.0.self_attn.q_proj.weight-and-more-of-it"
    lines = Screen(width=24).wrapped(text, indent=4, hang=2)
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= 20 or " " not in line.strip() for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])


def test_names_that_are_too_long_lose_what_they_share() -> None:
    names = ["model.layers.0.self_attn.q_proj.weight", "model.layers.11.mlp.down_proj.weight"]
    assert elided(names, 40) == names
    assert elided(names, 24) == ["...0.self_attn.q_proj", "...11.mlp.down_proj"]


@pytest.mark.parametrize(
    "names",
    [[], ["a.b.c.d.e"], ["a.b.c.d.e"] * 2, ["a", "b.c.d.e.f"], ["a.a.a.a", "a.a"], [".", "..", "...."], ["", "abcdef"]],
)
def test_names_of_any_shape_stay_within_the_width(names: list[str]) -> None:
    short = elided(names, 4)
    assert len(short) == len(names)
    assert all(len(name) <= 4 for name in short)
