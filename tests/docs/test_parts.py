"""The marked parts of pages are written from what there is: parsers, options, exports, declarations."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import geomcheck
import geomcheck.training
from docs.generate.commands import command_options, commands
from docs.generate.findings import PICTURES
from docs.generate.parts import filled
from geomcheck.diagnosis import load_kinds
from geomcheck.diagnostics import load_metrics

PAGES = Path(__file__).parents[2] / "docs"
WRITTEN = sorted(path for path in PAGES.rglob("*.md") if path.parent.name != "metrics")


def page(name: str) -> str:
    return html.unescape(filled((PAGES / name).read_text()))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(PAGES).as_posix())
def test_no_mark_is_left(path: Path) -> None:
    assert "<!-- generated" not in filled(path.read_text())


@pytest.mark.parametrize("name", commands())
def test_each_command_has_a_page_with_its_arguments(name: str) -> None:
    assert f"]({name}.md)" in page("commands/index.md")
    shown = page(f"commands/{name}.md")
    for action in commands()[name]._actions:
        for flag in action.option_strings or [str(action.metavar)]:
            assert flag in shown or flag in ("-h", "--help")


def test_a_command_without_arguments_says_so() -> None:
    assert command_options("schema") == "It takes no arguments."


def test_the_page_of_options_has_what_the_plugin_registers(pytestconfig: pytest.Config) -> None:
    shown = page("reference/options.md")
    registered = [name for name in vars(pytestconfig.option) if name.startswith("geom_")]
    assert len(registered) > 12
    assert [name for name in registered if f"`--{name.replace('_', '-')}" not in shown] == []
    assert all(f"`{name}`" in shown for name in ("geom_suites", "geom_base", "geom_cache_size"))


def test_the_page_of_python_has_every_public_name() -> None:
    shown = page("reference/python.md")
    names = [f"geomcheck.{name}" for name in geomcheck.__all__]
    names += [f"geomcheck.training.{name}" for name in geomcheck.training.__all__]
    assert [name for name in names if not re.search(rf":: {re.escape(name)}$", shown, re.MULTILINE)] == []


def test_the_table_of_doubts_has_every_metric() -> None:
    shown = page("reference/trust.md")
    assert [name for name in load_metrics().names() if f"| [`{name}`](../metrics/{name}.md) |" not in shown] == []


def test_wide_bands_are_said_to_be_wide() -> None:
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+|-) \|$", page("guides/calibrate.md"), re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "2", "3", "5", "10"]
    moderated = [float(row[1]) for row in rows]
    assert moderated == sorted(moderated, reverse=True)
    assert all(float(student) > width for width, (_, _, student) in zip(moderated[1:], rows[1:], strict=True))


@pytest.mark.parametrize("picture", sorted(PICTURES.iterdir()), ids=lambda picture: picture.name)
def test_a_picture_is_small_and_stands_with_its_kind_of_finding(picture: Path) -> None:
    drawing = ET.parse(picture).getroot()
    title, about = (str(drawing.findtext(f"{{*}}{part}")) for part in ("title", "desc"))
    assert drawing.findall("{*}polyline")
    assert picture.stat().st_size < 8_000
    assert picture.stem in {kind.name for kind in load_kinds()}
    section = page("reference/findings.md").partition(f"### {picture.stem}\n")[2].partition("\n#")[0]
    assert f"![{title}. {about}](../assets/findings/{picture.name})" in section
    assert (PAGES / "reference" / f"../assets/findings/{picture.name}").samefile(picture)
