"""Pickles read as data: a global is its name, a call is a record. Nothing that they name is looked up, imported or
called."""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

MAX_BITS = 1024
MAX_KEY_BITS = 60
MAX_KEY_LENGTH = 16
MAX_NAME_LENGTH = 1000
MAX_OPEN = 1000
"""Collections that are built inside one another."""
MAX_OPERATIONS = 20_000_000
"""What the metadata of some 400,000 chunks needs; an object of a byte takes about 80 in memory."""


@dataclass(frozen=True, slots=True)
class Global:
    """Something that the pickle refers to by name (``torch.bfloat16``), never looked up."""

    name: str

    @property
    def leaf(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]


@dataclass(eq=False, slots=True)
class Call:
    """What the pickle asks to be called or built, and was not. What it would set by key is left out.

    Attributes:
        what: the callable or class.
        args: positional arguments.
        state: what ``__setstate__`` or ``__dict__`` would get.
    """

    what: Global
    args: tuple[Any, ...]
    state: Any = None

    @property
    def name(self) -> str:
        """Dotted name of the callable."""
        return self.what.name

    @property
    def attributes(self) -> dict[Any, Any]:
        """The state, where it is one of attributes by name."""
        return self.state if isinstance(self.state, dict) else {}


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """A persistent id: something that lies outside the pickle, as a tensor's storage does."""

    to: Any


@dataclass(frozen=True)
class Pickle:
    """One pickle, as data.

    Attributes:
        content: dicts, lists, tuples, scalars, `Global`, `Call` and `Reference`. Sets come as lists.
        references: every persistent id.
    """

    content: Any
    references: Sequence[Reference]


class PickleProblem(ValueError):
    """The bytes are not what they should be, and cannot be trusted; the message says why."""


class ForbiddenName(PickleProblem):
    """The pickle refers to a global that it may not name.

    Attributes:
        name: that global, cut to what can be shown.
    """

    def __init__(self, name: str) -> None:
        self.name = ascii(name[:200])[1:-1]
        super().__init__(f"names '{self.name}', which such a file never needs; nothing of it was run")


def read_pickle(stream: IO[bytes], allowed: Callable[[str], bool]) -> Pickle:
    """Read one pickle; `stream` is left behind its end.

    Time and memory are linear in its length, whatever it says, and bounded by `MAX_OPERATIONS`.

    Args:
        stream: where the pickle starts.
        allowed: which globals it may name, by dotted name.

    Raises:
        PickleProblem: it is truncated or malformed, names another global, or uses what such a file never needs.
    """
    machine = _Machine(allowed)
    left = MAX_OPERATIONS
    try:
        while (code := stream.read(1)) != b".":
            left -= 1
            if left < 0:
                raise PickleProblem(f"a pickle of more than {MAX_OPERATIONS} operations")
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise _refused(code)
            read_argument, carry_out = operation
            carry_out(machine, read_argument(stream) if read_argument else None)
        return Pickle(machine.result(), machine.references)
    except PickleProblem:
        raise
    except Exception as error:  # an operation without its operands: there are many ways
        raise PickleProblem(f"a malformed or truncated pickle ({type(error).__name__})") from error


def _refused(code: bytes) -> PickleProblem:
    if not code:
        return PickleProblem("a truncated pickle")
    name = next((known.name for known in pickletools.opcodes if known.code == code.decode("latin-1")), repr(code))
    return PickleProblem(f"a pickle with the operation {name}, which such a file never needs")


class _Machine:
    """The stack machine of `pickle`, with records in place of effects."""

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self.stack: list[Any] = []
        self.references: list[Reference] = []
        self._allowed = allowed
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """What is left at the end."""
        if len(self.stack) != 1 or self._below:
            raise PickleProblem("a malformed pickle (its stack does not end with one object)")
        return self.stack[0]

    def take(self, count: int) -> list[Any]:
        """Remove the last `count` objects."""
        if len(self.stack) < count:
            raise PickleProblem("a malformed pickle (its stack is empty)")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def since_mark(self, _: None = None) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def nothing(self, _: Any) -> None:
        pass

    def push(self, argument: Any) -> None:
        self.stack.append(argument)

    def push_integer(self, argument: int) -> None:
        if argument.bit_length() > MAX_BITS:
            raise PickleProblem(f"a pickle with an integer of {argument.bit_length()} bits")
        self.stack.append(argument)

    def memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def put(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self._memo[index])

    def mark(self, _: None) -> None:
        if len(self._below) >= MAX_OPEN:
            raise PickleProblem(f"a pickle of more than {MAX_OPEN} collections inside one another")
        self._below.append(self.stack)
        self.stack = []

    def pop(self, _: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def duplicate(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def make_tuple(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append(tuple(items))

    def make_list(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append(items)

    def make_dict(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append({})
        self._update(items)

    def append(self, _: None) -> None:
        self._extend(self.take(1))

    def appends(self, _: None) -> None:
        self._extend(self.since_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise PickleProblem("a pickle that appends to what is no list")
        self.stack[-1].extend(items)

    def set_item(self, _: None) -> None:
        self._update(self.take(2))

    def set_items(self, _: None) -> None:
        self._update(self.since_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Call):
            return
        if not isinstance(target, dict):
            raise PickleProblem("a pickle that sets items of what is no mapping")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _is_plain_key(key):
                raise PickleProblem(f"a pickle with a {type(key).__name__} as a key, too long or of other values")
            target[key] = value

    def named(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def named_by_stack(self, _: None) -> None:
        self._name(*self.take(2))

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > MAX_NAME_LENGTH:
            raise PickleProblem("a pickle that refers to a global by what is no name")
        dotted = f"{module}.{name}"
        if not self._allowed(dotted):
            raise ForbiddenName(dotted)
        self.stack.append(Global(dotted))

    def call(self, _: None) -> None:
        what, args = self.take(2)
        if not isinstance(what, Global) or not isinstance(args, tuple):
            raise PickleProblem("a pickle that calls what is no global")
        empty_dict = what.name == "collections.OrderedDict" and not args
        self.stack.append({} if empty_dict else Call(what, args))

    def build(self, _: None) -> None:
        (state,) = self.take(1)
        target = self.stack[-1]
        if isinstance(target, Call):
            target.state = state
        elif not isinstance(target, dict):  # an ordered dictionary may carry attributes, which nothing needs
            raise PickleProblem("a pickle that sets the state of what is no object")

    def refer(self, _: None) -> None:
        self.references.append(reference := Reference(*self.take(1)))
        self.stack.append(reference)


_Operation = Callable[[_Machine, Any], Any]


def _push(make: Callable[[], object]) -> _Operation:
    return lambda machine, _: machine.stack.append(make())


def _tuple_of(count: int) -> _Operation:
    return lambda machine, _: machine.stack.append(tuple(machine.take(count)))


_BY_NAME: dict[str, _Operation] = {
    **dict.fromkeys(("PROTO", "FRAME"), _Machine.nothing),
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2"), _Machine.push_integer),
    **dict.fromkeys(("FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _Machine.push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": _Machine.memoize,
    "NONE": _push(lambda: None),
    "NEWTRUE": _push(lambda: True),
    "NEWFALSE": _push(lambda: False),
    "EMPTY_TUPLE": _push(tuple),
    "EMPTY_LIST": _push(list),
    "EMPTY_SET": _push(list),
    "EMPTY_DICT": _push(dict),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.since_mark,
    "DUP": _Machine.duplicate,
    "TUPLE": _Machine.make_tuple,
    "LIST": _Machine.make_list,
    "FROZENSET": _Machine.make_list,
    "DICT": _Machine.make_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.named_by_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.refer,
}
_OPERATIONS: dict[bytes, tuple[Callable[[IO[bytes]], Any] | None, _Operation]] = {
    opcode.code.encode("latin-1"): (opcode.arg.reader if opcode.arg else None, _BY_NAME[opcode.name])
    for opcode in pickletools.opcodes
    if opcode.name in _BY_NAME
}
"""By the byte that stands for it: how its argument is read, and what it does."""


_QUICK_KEYS = (str, Call, Global, float, bytes, type(None))


def _is_plain_key(key: Any) -> bool:
    """Whether hashing `key` is safe and quick, and keys with the same hash cannot be made at will.

    The hash of nested tuples overflows the interpreter's stack; those of numbers in tuples, and of long integers,
    are easily made equal, and then a mapping takes quadratic time.
    """
    if isinstance(key, _QUICK_KEYS):
        return True
    if isinstance(key, tuple):
        return len(key) <= MAX_KEY_LENGTH and all(isinstance(item, (str, bytes, type(None))) for item in key)
    return isinstance(key, int) and key.bit_length() <= MAX_KEY_BITS
