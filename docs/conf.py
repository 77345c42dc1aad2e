"""Sphinx's settings: ``sphinx-build -W docs build/docs`` makes the site, and a warning fails it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `docs.generate`, and this checkout's geomcheck before an installed one

import geomcheck  # noqa: E402
from docs.generate.parts import filled  # noqa: E402
from docs.generate.site import write_metric_pages  # noqa: E402

project = "geomcheck"
version = release = geomcheck.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["generate"]

html_theme = "furo"
html_title = f"geomcheck {version}"
html_static_path = ["assets"]
html_css_files = ["geomcheck.css"]
html_copy_source = False
html_show_copyright = False

myst_heading_anchors = 3
smartquotes = False  # an option has two hyphens
default_role = "literal"  # docstrings put names in single backticks
maximum_signature_line_length = 100
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_use_ivar = True


def setup(app: Any) -> None:
    """Write what no file holds: the pages of the metrics, and the marked parts of other pages."""
    app.connect("builder-inited", lambda _: write_metric_pages(ROOT))
    app.connect("source-read", _fill)


def _fill(_app: Any, _page: str, source: list[str]) -> None:
    source[0] = filled(source[0])
