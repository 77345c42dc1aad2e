from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.checkpoints.formats.inert import Call, Global, read_pickle
from tests.checkpoints.dcp_files import Runs

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner, inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
)


def anything(_: str) -> bool:
    return True


@given(VALUES, st.integers(0, 5))
def test_plain_values_are_what_pickle_says(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol=protocol)
    if any(opcode.name == "GLOBAL" for opcode, _, _ in pickletools.genops(content)):
        return  # old protocols have no bytes: they call for them
    assert read_pickle(content, anything) == value


def test_a_value_that_is_shared_or_contains_itself_is_read() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    read = read_pickle(pickle.dumps(loop), anything)
    assert read[1] is read


def test_objects_become_records() -> None:
    read = read_pickle(pickle.dumps(argparse.Namespace(layers=2, path=Path("a"))), anything)
    assert isinstance(read, Call)
    assert read.name == "argparse.Namespace"
    assert read.attributes["layers"] == 2
    assert read.attributes["path"].args == ("a",)
    assert read_pickle(pickle.dumps(OrderedDict(a=1)), anything) == {"a": 1}
    assert read_pickle(pickle.dumps(os.system), anything) == Global("posix.system")


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run_even_if_every_name_is_allowed(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps([Runs(os.mkdir, str(tmp_path / "ran"))], protocol=protocol)
    (call,) = read_pickle(content, anything)
    assert call.args == (str(tmp_path / "ran"),)
    assert not (tmp_path / "ran").exists()


def test_a_name_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"names 'builtins.getattr', which such a file never needs; nothing of it was"):
        read_pickle(pickle.dumps(getattr), lambda name: name.startswith("torch."))


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
        read_pickle(content, anything)


def test_tuples_nested_without_end_are_no_key() -> None:
    nested = b")" + b"\x85" * 300_000
    assert isinstance(read_pickle(nested + b".", anything), tuple)
    with pytest.raises(ValueError, match="a tuple as a key, too long or of other values"):
        read_pickle(b"}" + nested + b"Ns.", anything)


def test_a_memo_of_any_number_takes_no_memory() -> None:
    assert read_pickle(b"Nr\xff\xff\xff\xffj\xff\xff\xff\xff.", anything) is None


@given(st.binary(max_size=300))
def test_noise_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_pickle(b"\x80\x04" + content, anything)


def test_keys_that_are_slow_to_hash_are_refused() -> None:
    long_tuple = b"(" + b"N" * 1_000_000 + b"tq\x00"
    with pytest.raises(ValueError, match="a tuple as a key, too long"):
        read_pickle(b"}(" + long_tuple + b"N" + b"h\x00N" * 1_000_000 + b"u.", anything)
    long_integer = b"\x8b" + (1_000_000).to_bytes(4, "little") + b"\x01" * 1_000_000 + b"q\x00"
    with pytest.raises(ValueError, match="an integer of 7999993 bits"):
        read_pickle(b"}(" + long_integer + b"N" + b"h\x00N" * 1_000_000 + b"u.", anything)


def test_names_that_are_slow_to_put_together_are_refused() -> None:
    name = b"X" + (1_000_000).to_bytes(4, "little") + b"a" * 1_000_000 + b"q\x00"
    with pytest.raises(ValueError, match="a global by what is no name"):
        read_pickle(b"\x80\x04" + name + b"h\x00\x93" * 100_000 + b".", anything)
