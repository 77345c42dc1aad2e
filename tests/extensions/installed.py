"""Installing an extension of geomcheck for a test: a distribution on the import path, with its entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, name: str, source: str, entries: Mapping[str, Mapping[str, str]]) -> Path:
    """Put the module called `name` and a distribution that announces it into `site`, to be put on PYTHONPATH.

    Args:
        source: of the module.
        entries: by entry point group, the objects in the module by the name of their entry point.
    """
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(source, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, objects in entries.items()
        for line in (f"[{group}]", *(f"{entry} = {name}:{found}" for entry, found in objects.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]))
    return site
