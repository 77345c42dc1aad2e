"""The options and ini values that the plugin registers with pytest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from docs.generate.text import prose
from geomcheck.plugin import pytest_addoption


@dataclass
class _Heard:
    """Stands in for pytest's parser and its option groups, and keeps what it is told."""

    options: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    ini: list[tuple[str, str]] = field(default_factory=list)

    def getgroup(self, *_: Any, **__: Any) -> _Heard:
        return self

    def addoption(self, flag: str, *_: str, **about: Any) -> None:
        self.options.append((flag, about))

    def addini(self, name: str, help: str, **_: Any) -> None:
        self.ini.append((name, help))


def _heard() -> _Heard:
    heard = _Heard()
    pytest_addoption(heard)  # type: ignore[arg-type]
    return heard


def option_table() -> str:
    """Every ``--geom-...`` option of pytest."""
    rows = [f"| `{_call(flag, about)}` | {prose(about['help'])} |" for flag, about in _heard().options]
    return "\n".join(["| option | meaning |", "|---|---|", *rows])


def ini_table() -> str:
    """Every ini value."""
    rows = [f"| `{name}` | {prose(about)} |" for name, about in _heard().ini]
    return "\n".join(["| in the ini file | meaning |", "|---|---|", *rows])


def _call(flag: str, about: dict[str, Any]) -> str:
    value = about.get("metavar") or "|".join(about.get("choices", ()))
    return f"{flag}={value}".replace("|", "\\|") if value else flag
