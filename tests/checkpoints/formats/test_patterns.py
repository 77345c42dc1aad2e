from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.checkpoints.formats.patterns import Pattern, PatternProblem

NAMES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.11.mlp.experts.gate_up_proj",
    "q_proj",
    "lm_head",
    "",
    "a.",
    ".",
]
PATTERNS = [
    "q_proj",
    r".*\.q_proj",
    r"^model\.layers\.(0|1|11)\..*",
    r"layers.[0-9]+.self_attn.(?:q|k|v)_proj",
    r"(.*\.)?gate_up_proj$",
    r"(?:layers\.)\d{1,2}\.mlp.experts\.\w+",
    r"^lm_head$",
    r"[^.]*",
    r"(ab*|c+?)*q_proj",
    "",
    "|",
    r"x{0}q_proj",
    r"()*q_proj",
    r"[]a]*|a\.",
]


def tails(pattern: str, text: str) -> bool:
    """PEFT's rule, by Python's own engine."""
    starts = [0, *(dot.end() for dot in re.finditer(r"\.", text))]
    return any(re.compile(pattern).fullmatch(text, start) for start in starts)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("text", NAMES)
def test_patterns_match_what_they_match_in_python(pattern: str, text: str) -> None:
    assert Pattern(pattern).matches_a_tail(text) == tails(pattern, text)


@given(st.text("ab.|()*+?[]^$\\d{1,2}-", max_size=12), st.text("ab.0", max_size=8))
def test_any_pattern_is_read_as_in_python_or_refused(pattern: str, text: str) -> None:
    try:
        expected = tails(pattern, text)
    except (re.error, OverflowError, FutureWarning):
        with pytest.raises(PatternProblem):
            Pattern(pattern)
        return
    try:
        read = Pattern(pattern)
    except PatternProblem:
        return
    assert read.matches_a_tail(text) == expected


@pytest.mark.parametrize(
    "pattern",
    ["a?" * 60 + "a" * 60, "(?:a|a)" * 40, "(a*)*b", "(a|aa)+b", ".*.*.*.*.*.*.*b", "(x+x+)+y", "(((a?){9}){9}){9}"],
)
def test_patterns_that_take_python_for_ever(pattern: str) -> None:
    assert not Pattern(pattern).matches_a_tail("a" * 59 + "." + "x" * 5000)


@pytest.mark.parametrize(
    "pattern",
    ["x" * 301, "(", "*", "(?=a)", "(?!a)", "(?P<n>a)", r"(a)\1", r"\bq", "(?i)q", "((a{99}){99}){99}", "a*+", "[[a]"],
)
def test_what_needs_more_is_refused(pattern: str) -> None:
    with pytest.raises(PatternProblem):
        Pattern(pattern)
