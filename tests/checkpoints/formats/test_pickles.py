from __future__ import annotations

import io
import pickle
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomcheck.checkpoints.formats.pickles import Made, Name, PickleProblem, Reference, parse_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.sampled_from([3, 4, 5]))
@settings(deadline=None)
def test_plain_values_are_what_pickle_reads(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol=protocol)
    assert parse_pickle(io.BytesIO(content)).content == pickle.loads(content)


@given(content=st.binary(max_size=200))
@settings(deadline=None, max_examples=500)
def test_bytes_that_are_no_pickle_are_refused(content: bytes) -> None:
    try:
        parse_pickle(io.BytesIO(content))
    except PickleProblem as problem:
        assert str(problem)  # noqa: PT017  (a few are pickles, of a constant)


def test_calls_are_written_down() -> None:
    parsed = parse_pickle(io.BytesIO(pickle.dumps([OrderedDict(a=1), complex(1, 2)], protocol=2)))
    ordered, made = parsed.content
    assert ordered == {"a": 1}
    assert isinstance(made, Made)
    assert (made.by, made.args) == (Name("__builtin__", "complex"), (1.0, 2.0))
    assert set(parsed.names) == {Name("collections", "OrderedDict"), Name("__builtin__", "complex")}


def test_references_are_listed() -> None:
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=2)
    pickler.persistent_id = lambda value: ("storage", 7) if value == "here" else None
    pickler.dump(["here", "there"])
    parsed = parse_pickle(io.BytesIO(stream.getvalue()))
    assert isinstance(parsed.content[0], Reference)
    assert [reference.to for reference in parsed.references] == [("storage", 7)]


def test_the_stream_is_left_behind_the_pickle() -> None:
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps(2))
    assert [parse_pickle(stream).content for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02r\xff\xff\xff\xff.",  # stores an empty stack under the largest key
        b"\x80\x02}r\xff\xff\xff\xff.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # claims 2^63 bytes
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
        b"(" * 100_000 + b".",
        b"}" + b"]" * 100_000 + b".",
        b"\x80\x02" + b"(" * 1000 + b"t" * 1000 + b"\x85" * 100_000 + b"}h\x00s.",
        b"I" + b"9" * 5000 + b"\n.",
        b"}(]]u.",
        b"]]a]b\x85R.",
        b"ios\nsystem\n.",
        b"(ios\nsystem\no.",
        b"\x82\x01.",
    ],
)
def test_costly_and_malformed_pickles_end_at_once(content: bytes) -> None:
    try:
        parse_pickle(io.BytesIO(content))
    except PickleProblem as problem:
        assert len(str(problem)) < 200  # noqa: PT017  (the second is a valid pickle)


def test_a_key_nested_so_deeply_that_hashing_would_crash_is_refused() -> None:
    with pytest.raises(PickleProblem, match="a mapping with a tuple as a key"):
        parse_pickle(io.BytesIO(b"\x80\x02}N" + b"\x85" * 300_000 + b"Ns."))
