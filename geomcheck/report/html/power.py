"""The page of what a suite would notice."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from geomcheck._version import VERSION
from geomcheck.defects.result import Power
from geomcheck.files import replacing
from geomcheck.report.html.frame import asset, environment, policy


def write_power(target: Path, power: Power) -> None:
    """Write the page; the file appears under its name only when it is complete."""
    with replacing(target) as partial:
        partial.write_text(power_page(power), encoding="utf-8")


def power_page(power: Power) -> str:
    """The page as HTML; it loads nothing and runs nothing."""
    style = asset("report.css")
    template = environment().get_template("power.html.j2")
    return template.render(policy=policy(style), style=Markup(style), power=power, version=VERSION)
