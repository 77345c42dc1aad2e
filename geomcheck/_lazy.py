"""Modules that are imported when something of them is first asked for: what is recalled is judged without torch."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class _Late(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


def late(name: str) -> Any:
    """Stands for the module called `name`, which each access to an attribute imports if need be.

    Beside an ``import`` under ``TYPE_CHECKING``, so that type checkers see the module itself.
    """
    return _Late(name)
