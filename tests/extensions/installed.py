"""Installing an extension of geomcheck for a test: a distribution on the import path, with its entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, module: Path, entries: Mapping[str, str]) -> Path:
    """Put `module` and a distribution that announces it into `site`, to be put on PYTHONPATH.

    Args:
        entries: the object in `module` by entry point group.
    """
    site.mkdir(parents=True, exist_ok=True)
    (site / module.name).write_text(module.read_text(encoding="utf-8"), encoding="utf-8")
    info = site / f"{module.stem}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.stem}\nVersion: 1.0\n")
    lines = [f"[{group}]\n{module.stem} = {module.stem}:{name}\n" for group, name in entries.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    return site
