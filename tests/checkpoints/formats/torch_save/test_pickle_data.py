from __future__ import annotations

import argparse
import io
import os
import pickle
import pickletools
import time
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomcheck.checkpoints.formats.torch_save import pickle_data
from geomcheck.checkpoints.formats.torch_save.pickle_data import (
    Call,
    ForbiddenName,
    Global,
    PickleProblem,
    Reference,
    read_pickle,
)
from tests.checkpoints.dcp_files import Runs

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.text() | st.integers(-(2**60) + 1, 2**60 - 1)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.tuples(inner, inner, inner, inner) | st.dictionaries(KEYS, inner)
    ),
    max_leaves=20,
)


def anything(_: str) -> bool:
    return True


def content_of(data: bytes) -> object:
    return read_pickle(io.BytesIO(data), anything).content


@given(VALUES, st.integers(0, 5))
@settings(deadline=None)
def test_plain_values_are_what_pickle_says(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol=protocol)
    if any(opcode.name == "GLOBAL" for opcode, _, _ in pickletools.genops(content)):
        return  # old protocols have no bytes: they call for them
    assert content_of(content) == value


def test_a_value_that_is_shared_or_contains_itself_is_read() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    read = content_of(pickle.dumps(loop))
    assert read[1] is read


def test_objects_become_records() -> None:
    read = content_of(pickle.dumps(argparse.Namespace(layers=2, path=Path("a"))))
    assert isinstance(read, Call)
    assert read.name == "argparse.Namespace"
    assert read.attributes["layers"] == 2
    assert read.attributes["path"].args == ("a",)
    assert content_of(pickle.dumps(OrderedDict(a=1))) == {"a": 1}
    assert content_of(pickle.dumps(os.system)) == Global("posix.system")


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run_even_if_every_name_is_allowed(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps([Runs(os.mkdir, str(tmp_path / "ran"))], protocol=protocol)
    (call,) = content_of(content)
    assert call.args == (str(tmp_path / "ran"),)
    assert not (tmp_path / "ran").exists()


def test_a_name_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"names 'builtins.getattr', which such a file never needs; nothing of it was"):
        read_pickle(io.BytesIO(pickle.dumps(getattr)), lambda name: name.startswith("torch."))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80",
        b"\x80\x04",
        b"\x80\x04.",
        b"(" * 5 + b".",
        b"a.",
        b"]}s.",
        b"Nb.",
        b"h\x05.",
        b"0" * 9 + b".",
        b"K\x01\x85\x86.",
        b"cos\nsystem\n(S'true'\no.",  # the old way to instantiate
        b"(S'true'\nios\nsystem\n.",
        b"\x82\x01.",  # the extension registry
        b"\x8e" + b"\xff" * 7 + b"\x7f.",  # a length of 2^63 bytes
        b"\x8a\xff" + b"\x01" * 10,
        b"I" + b"9" * 10_000 + b"\n.",
        b"Vtext\nK\x01\x93.",
        b")\x81.",
        b"K\x01)R.",
        b"S'no end",
        b"\x95" + b"\xff" * 8 + b"N",
    ],
)
def test_damage_is_an_error_of_one_kind(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        content_of(content)


def test_tuples_nested_without_end_are_no_key() -> None:
    nested = b")" + b"\x85" * 300_000
    assert isinstance(content_of(nested + b"."), tuple)
    with pytest.raises(ValueError, match="a tuple as a key, too long or of other values"):
        content_of(b"}" + nested + b"Ns.")


def test_a_memo_of_any_number_takes_no_memory() -> None:
    assert content_of(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.") is None


@given(st.sampled_from([b"", b"\x80\x04"]), st.binary(max_size=300))
@settings(deadline=None, max_examples=500)
def test_noise_is_read_or_refused(start: bytes, content: bytes) -> None:
    try:
        content_of(start + content)
    except PickleProblem as problem:
        assert str(problem)  # noqa: PT017  (a few are pickles, of a constant)


def test_keys_that_are_slow_to_hash_are_refused() -> None:
    long_tuple = b"(" + b"N" * 1_000_000 + b"tq\x00"
    with pytest.raises(ValueError, match="a tuple as a key, too long"):
        content_of(b"}(" + long_tuple + b"N" + b"h\x00N" * 1_000_000 + b"u.")
    long_integer = b"\x8b" + (1_000_000).to_bytes(4, "little") + b"\x01" * 1_000_000 + b"q\x00"
    with pytest.raises(ValueError, match="an integer of 7999993 bits"):
        content_of(b"}(" + long_integer + b"N" + b"h\x00N" * 1_000_000 + b"u.")


def test_names_that_are_slow_to_put_together_are_refused() -> None:
    name = b"X" + (1_000_000).to_bytes(4, "little") + b"a" * 1_000_000 + b"q\x00"
    with pytest.raises(ValueError, match="a global by what is no name"):
        content_of(b"\x80\x04" + name + b"h\x00\x93" * 100_000 + b".")


def test_calls_are_written_down() -> None:
    asked: list[str] = []
    parsed = read_pickle(
        io.BytesIO(pickle.dumps([OrderedDict(a=1), complex(1, 2)], protocol=2)), lambda name: not asked.append(name)
    )
    ordered, made = parsed.content
    assert ordered == {"a": 1}
    assert isinstance(made, Call)
    assert (made.what, made.args) == (Global("__builtin__.complex"), (1.0, 2.0))
    assert asked == ["collections.OrderedDict", "__builtin__.complex"]


class _Referring(pickle.Pickler):
    def persistent_id(self, value: object) -> tuple[str, int] | None:
        return ("storage", 7) if value == "here" else None


def test_references_are_listed() -> None:
    stream = io.BytesIO()
    _Referring(stream, protocol=2).dump(["here", "there"])
    parsed = read_pickle(io.BytesIO(stream.getvalue()), anything)
    assert isinstance(parsed.content[0], Reference)
    assert [reference.to for reference in parsed.references] == [("storage", 7)]


def test_the_stream_is_left_behind_the_pickle() -> None:
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps(2))
    assert [read_pickle(stream, anything).content for _ in range(2)] == [1, 2]


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
        content_of(content)
    except PickleProblem as problem:
        assert len(str(problem)) < 200  # noqa: PT017  (the second is a valid pickle)


def test_numbers_whose_hashes_are_equal_are_no_keys() -> None:
    same = [b"\x8a\x0b" + (n * (2**61 - 1)).to_bytes(11, "little") + b"N" for n in range(1, 200_000)]
    start = time.monotonic()
    with pytest.raises(PickleProblem, match="a int as a key, too long"):
        content_of(b"}(" + b"".join(same) + b"u.")
    with pytest.raises(PickleProblem, match="a tuple as a key"):
        content_of(b"}J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86Ns.")
    assert time.monotonic() - start < 5


def test_deep_records_are_taken_apart_again() -> None:
    nested = b"cm\nf\n" * 30_000 + b")" + b"R\x85" * 29_999 + b"R."
    assert isinstance(content_of(nested), Call)
    assert isinstance(content_of(b")" + b"\x85Q" * 100_000 + b"."), Reference)


def test_a_refused_name_is_shown_without_what_a_terminal_would_obey() -> None:
    with pytest.raises(ForbiddenName, match=r"names 'm\.\\x1b\[2J\\u202e', which") as caught:
        read_pickle(io.BytesIO(b"Vm\nV\\u001b[2J\\u202e\n\x93."), lambda _: False)
    assert caught.value.name == r"m.\x1b[2J\u202e"


@pytest.mark.parametrize("content", [b"(K\x01\x85\x86t.", b"NN.", b"(N.", b"(]0N.", b"N(\x85."])
def test_a_stack_that_does_not_fit_is_malformed(content: bytes) -> None:
    with pytest.raises(PickleProblem, match="malformed"):
        content_of(content)


@pytest.mark.parametrize(("content", "match"), [(b"(" * 2000, "inside one another"), (b"]" * 3000, "operations")])
def test_a_bomb_of_small_operations_is_refused(content: bytes, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_data, "MAX_OPERATIONS", 2500)
    with pytest.raises(PickleProblem, match=match):
        read_pickle(io.BytesIO(content + b"."), lambda _: False)
