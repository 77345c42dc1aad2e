"""Pickles read as data: what the opcodes would build is written down, and nothing that they name is looked up,
imported or called."""

from __future__ import annotations

import pickletools
from collections.abc import Collection
from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the pickle names: a class or a function, never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return ascii(f"{self.module}.{self.name}"[:100])[1:-1]


@dataclass(eq=False, slots=True)
class Made:
    """An object that `by` would have made of `args`, with the state it would have been given."""

    by: Name | Made
    args: tuple[object, ...]
    state: object = None


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """A persistent id: something that lies outside the pickle."""

    to: object


@dataclass(frozen=True)
class Pickle:
    """One pickle, as data.

    Attributes:
        content: what it describes: plain values, `Made` and `Reference`.
        names: every global that it names.
        references: every persistent id.
    """

    content: object
    names: Collection[Name]
    references: Collection[Reference]


class PickleProblem(Exception):
    """The bytes are no pickle that a state dict could be made of; the message says why."""


_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
    *("BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


def parse_pickle(stream: IO[bytes]) -> Pickle:
    """Read one pickle; `stream` is left behind its end.

    Raises:
        PickleProblem: it is truncated or malformed, or uses opcodes that no state dict needs.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        return Pickle(machine.result(), machine.names, machine.references)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, MemoryError, RecursionError) as error:
        raise PickleProblem(f"malformed or truncated ({type(error).__name__})") from error


class _Machine:
    """The stack of a pickle."""

    def __init__(self) -> None:
        self.names: set[Name] = set()
        self.references: list[Reference] = []
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> object:
        """What STOP leaves on the stack."""
        if len(self._stack) != 1 or self._below:
            raise PickleProblem("malformed (its stack does not end with one object)")
        return self._stack[0]

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one opcode; those that build or look up come first, as they are the most frequent."""
        stack = self._stack
        if opcode in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            stack.append(_EMPTY[opcode]())
        elif opcode in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[opcode])))
        elif opcode == "MARK":
            self._below.append(stack)
            self._stack = []
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            self._compose(opcode, argument)

    def _compose(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        match opcode:
            case "GLOBAL":
                self._name(*argument.split(" ", 1))
            case "STACK_GLOBAL":
                self._name(*self._pop(2))
            case "REDUCE" | "NEWOBJ":
                stack.append(_made(*self._pop(2)))
            case "BUILD":
                (state,) = self._pop(1)
                if isinstance(stack[-1], Made):
                    stack[-1].state = state
            case "BINPERSID":
                self.references.append(found := Reference(*self._pop(1)))
                stack.append(found)
            case "TUPLE":
                items = self._since_mark()
                self._stack.append(tuple(items))
            case "APPEND":
                _fill(stack[-2], self._pop(1))
            case "SETITEM":
                _fill(stack[-3], self._pop(2))
            case "APPENDS" | "SETITEMS":
                items = self._since_mark()
                _fill(self._stack[-1], items)
            case _:
                raise PickleProblem(f"uses the opcode {opcode}, which no state dict needs")

    def _name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleProblem("malformed (a global without a name)")
        self.names.add(found := Name(module, name))
        self._stack.append(found)

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise PickleProblem("malformed (its stack is empty)")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items


def _made(by: object, args: object) -> object:
    if not isinstance(by, Name | Made) or not isinstance(args, tuple):
        raise PickleProblem("malformed (it calls what cannot be called)")
    if by == Name("collections", "OrderedDict") and not args:
        return {}
    return Made(by, args)


def _fill(container: object, items: list[Any]) -> None:
    """Append to a list, or set the alternating keys and values of a dict."""
    if isinstance(container, list):
        container.extend(items)
    elif isinstance(container, dict) and len(items) % 2 == 0:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float | None):  # a tuple could be nested so deeply that hash() crashes
                raise PickleProblem(f"a mapping with a {type(key).__name__} as a key, which no state dict needs")
            container[key] = value
    else:
        raise PickleProblem("malformed (it fills what is no list or mapping)")
