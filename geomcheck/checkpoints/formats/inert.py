"""What a pickle says, without doing it. Nothing is imported or called: a global is its name, a call is a record."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_BITS = 1024
MAX_KEY_LENGTH = 16
MAX_NAME_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Global:
    """Something that the pickle refers to by name (``torch.bfloat16``), never looked up."""

    name: str


@dataclass(eq=False, slots=True)
class Call:
    """What the pickle asks to be called or built, and was not.

    Attributes:
        what: the callable or class.
        args: positional arguments.
        state: what ``__setstate__`` or ``__dict__`` would get.
        items: what would be set by key.
    """

    what: Global
    args: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Dotted name of the callable."""
        return self.what.name

    @property
    def attributes(self) -> dict[Any, Any]:
        """The state, where it is one of attributes by name."""
        return self.state if isinstance(self.state, dict) else {}


def read_pickle(data: bytes, allowed: Callable[[str], bool]) -> Any:
    """Read a pickle into dicts, lists, tuples, scalars, `Global` and `Call`.

    Time and memory are linear in the length of `data`, whatever it says. Sets come back as lists.

    Args:
        data: the pickle.
        allowed: which globals it may name, by dotted name.

    Raises:
        ValueError: it is damaged, names another global, or uses what such a file never needs.
    """
    machine = _Machine(allowed)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except ValueError:
        raise
    except Exception as error:  # an operation without its operands: there are many ways
        raise ValueError(f"a damaged pickle ({type(error).__name__})") from error


class _Machine:
    """The stack machine of `pickle`, with records in place of effects."""

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self.stack: list[Any] = []
        self._allowed = allowed
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        operation = _OPERATIONS.get(opcode)
        if operation is None:
            raise ValueError(f"a pickle with the operation {opcode}, which such a file never needs")
        operation(self, argument)

    def nothing(self, _: Any) -> None:
        pass

    def push(self, argument: Any) -> None:
        if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
            raise ValueError(f"a pickle with an integer of {argument.bit_length()} bits")
        self.stack.append(argument)

    def push_none(self, _: Any) -> None:
        self.stack.append(None)

    def push_true(self, _: Any) -> None:
        self.stack.append(True)

    def push_false(self, _: Any) -> None:
        self.stack.append(False)

    def push_tuple(self, _: Any) -> None:
        self.stack.append(())

    def push_list(self, _: Any) -> None:
        self.stack.append([])

    def push_dict(self, _: Any) -> None:
        self.stack.append({})

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def put(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self._memo[index])

    def tuple1(self, _: Any) -> None:
        self._tuple(1)

    def tuple2(self, _: Any) -> None:
        self._tuple(2)

    def tuple3(self, _: Any) -> None:
        self._tuple(3)

    def _tuple(self, length: int) -> None:
        items = tuple(self.stack[-length:])
        if len(items) != length:
            raise IndexError
        self.stack[-length:] = [items]

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self.stack):
            self._marks.pop()
        else:
            self.stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._since_mark()

    def dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def tuple_since_mark(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def list_since_mark(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("a pickle that appends to what is no list")
        self.stack[-1].extend(items)

    def dict_since_mark(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._update(items)

    def setitem(self, _: Any) -> None:
        self._update([self.stack.pop(-2), self.stack.pop()])

    def setitems(self, _: Any) -> None:
        self._update(self._since_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        target = target.items if isinstance(target, Call) else target
        if not isinstance(target, dict):
            raise ValueError("a pickle that sets items of what is no mapping")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _is_plain_key(key):
                raise ValueError(f"a pickle with a {type(key).__name__} as a key, too long or of other values")
            target[key] = value

    def named(self, argument: str) -> None:
        self._global(*argument.split(" ", 1))

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._global(module, name)

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > MAX_NAME_LENGTH:
            raise ValueError("a pickle that refers to a global by what is no name")
        dotted = f"{module}.{name}"
        if not self._allowed(dotted):
            raise ValueError(f"names {dotted[:200]!r}, which such a file never needs; nothing of it was run")
        self.stack.append(Global(dotted))

    def reduce(self, _: Any) -> None:
        args, what = self.stack.pop(), self.stack.pop()
        if not isinstance(what, Global) or not isinstance(args, tuple):
            raise ValueError("a pickle that calls what is no global")
        empty_dict = what.name == "collections.OrderedDict" and not args
        self.stack.append({} if empty_dict else Call(what, args))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Call):
            target.state = state
        elif not isinstance(target, dict):  # an ordered dictionary may carry attributes, which nothing needs
            raise ValueError("a pickle that sets the state of what is no object")

    def persistent(self, _: Any) -> None:
        self.stack.append(Call(PERSISTENT, (self.stack.pop(),)))


PERSISTENT = Global("a persistent id")
"""What a reference to data outside the pickle calls: a tensor's storage, in a file that ``torch.save`` wrote."""

_LITERALS = (
    *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_LITERALS, _Machine.push),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _Machine.nothing),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": _Machine.memoize,
    "NONE": _Machine.push_none,
    "NEWTRUE": _Machine.push_true,
    "NEWFALSE": _Machine.push_false,
    "EMPTY_TUPLE": _Machine.push_tuple,
    "EMPTY_LIST": _Machine.push_list,
    "EMPTY_SET": _Machine.push_list,
    "EMPTY_DICT": _Machine.push_dict,
    "TUPLE1": _Machine.tuple1,
    "TUPLE2": _Machine.tuple2,
    "TUPLE3": _Machine.tuple3,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.dup,
    "TUPLE": _Machine.tuple_since_mark,
    "LIST": _Machine.list_since_mark,
    "FROZENSET": _Machine.list_since_mark,
    "DICT": _Machine.dict_since_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.setitem,
    "SETITEMS": _Machine.setitems,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


def _is_plain_key(key: Any) -> bool:
    """Whether hashing `key` is safe and quick: that of tuples nested without end overflows the interpreter's stack."""
    if isinstance(key, tuple):
        return len(key) <= MAX_KEY_LENGTH and all(
            isinstance(item, (str, int, float, bytes, type(None))) for item in key
        )
    return isinstance(key, (str, int, float, bytes, type(None), Global, Call))
