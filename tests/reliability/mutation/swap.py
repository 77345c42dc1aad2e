"""Put a mutant's code into the functions of a module that is imported already."""

from __future__ import annotations

import gc
import inspect
from dataclasses import dataclass, field
from functools import _lru_cache_wrapper
from types import CodeType, FunctionType

Codes = dict[tuple[str, int], CodeType]
"""Of functions, by qualified name and first line."""


class DefinitionTimeError(Exception):
    """The change is not inside a function: it acts while the module is imported."""


def differing(source: str, mutated: str, path: str) -> Codes:
    """The mutated code of every function that differs, by its qualified name and first line.

    Raises:
        DefinitionTimeError: the code of the module or of a class body differs, or two functions share name and line.
    """
    old, new = (_parts(compile(text, path, "exec", dont_inherit=True)) for text in (source, mutated))
    if old.rest != new.rest or old.functions.keys() != new.functions.keys():
        raise DefinitionTimeError
    return {key: code for key, code in new.functions.items() if old.functions[key] != code}


def functions(source: str, path: str) -> Codes:
    """The code of every function of a module, as `swap` takes it."""
    return _parts(compile(source, path, "exec", dont_inherit=True)).functions


def living(path: str) -> dict[tuple[str, int], list[FunctionType]]:
    """The functions of a file that are in memory, wherever they are wrapped: properties, caches, methods."""
    found: dict[tuple[str, int], list[FunctionType]] = {}
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename == path:  # isinstance would wake lazy proxies
            found.setdefault((thing.__code__.co_qualname, thing.__code__.co_firstlineno), []).append(thing)
    return found


def swap(codes: Codes, alive: dict[tuple[str, int], list[FunctionType]]) -> None:
    """Give every living function its mutated code.

    Raises:
        DefinitionTimeError: one of them has no living function, or one that closes over other variables.
    """
    for key, code in codes.items():
        for function in alive.get(key, []):
            if function.__code__.co_freevars != code.co_freevars:
                raise DefinitionTimeError
            function.__code__ = code
    if codes.keys() - alive.keys():
        raise DefinitionTimeError


def forget(path: str) -> None:
    """Empty the `functools.cache` of every function of the file."""
    for thing in gc.get_objects():
        if type(thing) is _lru_cache_wrapper:
            code = getattr(inspect.unwrap(thing), "__code__", None)
            if code is not None and code.co_filename == path:
                thing.cache_clear()


@dataclass
class _Parts:
    """A module's outermost functions, and what its own code and its classes' bodies are."""

    functions: Codes = field(default_factory=dict)
    rest: list[object] = field(default_factory=list)


def _parts(code: CodeType, parts: _Parts | None = None) -> _Parts:
    parts = parts or _Parts()
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    parts.rest.append((code.co_code, code.co_names, [const for const in code.co_consts if const not in inner]))
    for const in inner:
        key = (const.co_qualname, const.co_firstlineno)
        if not const.co_flags & inspect.CO_NEWLOCALS:
            _parts(const, parts)
        elif key in parts.functions:
            raise DefinitionTimeError
        else:
            parts.functions[key] = const
    return parts
