"""What the pages have in common: a strict content policy, one style sheet, templates that escape every text."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from geomcheck._version import VERSION
from geomcheck.report.safe import finalized


def _policy(style: str, script: str = "") -> str:
    """Nothing is fetched; only this style and this script, by their digests, apply and run; none where there is
    none."""
    own = f"style-src '{_digest(style)}'" + (f"; script-src '{_digest(script)}'" if script else "")
    return f"default-src 'none'; {own}; img-src data:; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    """The text of a style sheet or a script."""
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def rendered(template: str, *scripts: str, **facts: Any) -> str:
    """A page from its template, with the style sheet and these scripts, under a policy that lets nothing else in."""
    style, script = _asset("report.css"), "".join(map(_asset, scripts))
    held = {"style": Markup(style), "script": Markup(script)}
    return _environment().get_template(template).render(policy=_policy(style, script), version=VERSION, **held, **facts)


@cache
def _environment() -> jinja2.Environment:
    """Templates of this package; every text that is put in is made visible and escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("geomcheck.report.html"),
        autoescape=True,
        finalize=finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
