"""Files that nobody should open, and ways to damage good ones."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path


class Attack:
    """Unpickled, it calls `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


def attacks(marker: Path) -> dict[str, Attack]:
    """Objects whose unpickling would leave `marker` behind."""
    code = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": Attack(os.system, f"touch {marker}"),
        "eval": Attack(eval, code),
        "exec": Attack(exec, code),
        "open": Attack(open, str(marker), "w"),
        "getattr": Attack(getattr, Attack(__import__, "os"), "system"),
    }


def rezip(path: Path, edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Write a file of torch.save again, with each record as `edit` returns it."""
    with zipfile.ZipFile(path) as archive:
        records = {name: edit(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
