"""Import modules on first use, so that a run that the cache knows is judged without importing torch."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _Late(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


def late(name: str) -> Any:
    """A stand-in for the module called `name`, which is imported when an attribute is first read.

    Pair it with an ``import`` under ``TYPE_CHECKING``, so that type checkers see the module itself.
    """
    return _Late(name)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = late("torch")
