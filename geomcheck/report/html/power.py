"""The page of what a suite would notice."""

from __future__ import annotations

from pathlib import Path

from geomcheck.defects.result import Power
from geomcheck.files import replacing
from geomcheck.report.html.frame import rendered


def write_power(target: Path, power: Power) -> None:
    """Write the page; the file appears under its name only when it is complete."""
    with replacing(target) as partial:
        partial.write_text(power_page(power), encoding="utf-8")


def power_page(power: Power) -> str:
    """The page as HTML; it loads nothing and runs nothing."""
    return rendered("power.html.j2", power=power)
