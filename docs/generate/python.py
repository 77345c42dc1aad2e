"""The Python API, from the docstrings of what a module exports."""

from __future__ import annotations

import inspect
from importlib import import_module


def api(module: str) -> str:
    """An autodoc entry for every name in ``__all__`` of `module`, functions first."""
    home = import_module(module)
    names = sorted(home.__all__, key=lambda name: (inspect.isclass(getattr(home, name)), name))
    entries = "\n".join(_entry(module, name, getattr(home, name)) for name in names)
    return f"```{{eval-rst}}\n{entries}```"


def _entry(module: str, name: str, what: object) -> str:
    if not inspect.isclass(what):
        return f".. autofunction:: {module}.{name}\n\n"
    kind = "autoexception" if issubclass(what, Exception) else "autoclass"
    return f".. {kind}:: {module}.{name}\n   :members:\n\n"
