from __future__ import annotations

import pytest

from geomcheck.report.screen import Screen, elide


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
