from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from docs.generate.figure import figure
from geomcheck.report.charts.chart import HEIGHT, WIDTH
from geomcheck.report.ci.pytest_html import extras

from .verdicts import facts

SVG = "{http://www.w3.org/2000/svg}"


def drawn(values: list[float], **options: object) -> ET.Element:
    points = [(float(step), value, False) for step, value in enumerate(values)]
    return ET.fromstring(figure([("run", points)], title="t", x_label="step", **options))  # type: ignore[arg-type]


def test_violations_are_crosses_and_the_rest_dots(tmp_path: Path) -> None:
    verdict = facts(tmp_path)[1]
    verdict["observed"][1]["holds"] = False
    root = ET.fromstring(extras(verdict)[0]["content"])
    assert len(root.findall(f"{SVG}circle")) == 2
    (cross,) = (path for path in root.findall(f"{SVG}path") if path.find(f"{SVG}title") is not None)
    assert str(cross.findtext(f"{SVG}title")).endswith(": violated")


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.0], [0.0, 0.0], [-3.0, 5.0], [1e-9, 1e3], [2.0, 2.0], [1e300, -1e300], [5e-324, 1.0], [0.1, 0.3]],
)
@pytest.mark.parametrize("bounds", [None, (None, None), (0.5, None), (None, -1.0), (0.0, 0.0), (1e-4, 1e5)])
def test_everything_is_inside_the_picture(
    values: list[float], bounds: tuple[float | None, float | None] | None
) -> None:
    root = drawn(values, bounds=bounds)
    for circle in root.findall(f"{SVG}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= WIDTH
        assert 0 <= float(circle.attrib["cy"]) <= HEIGHT
    for band in root.findall(f"{SVG}rect"):
        assert float(band.attrib["y"]) + float(band.attrib["height"]) <= HEIGHT


def test_higher_values_are_higher() -> None:
    for values in ([1.0, 2.0, 3.0], [1.0, 100.0, 10000.0]):
        heights = [float(circle.attrib["cy"]) for circle in drawn(values).findall(f"{SVG}circle")]
        assert heights == sorted(heights, reverse=True)


def test_names_are_escaped() -> None:
    text = figure([("<script>\x1b", [(1, 1, True)])], title='"><script>', x_label="<b>&")
    assert "<script>" not in text
    assert "<b>" not in text
    ET.fromstring(text)


def test_a_figure_alone_brings_its_colours_and_its_title(tmp_path: Path) -> None:
    text = extras(facts(tmp_path)[0])[0]["content"]
    assert "class=" not in text
    assert "data-tip" not in text
    assert ET.fromstring(text).findtext(f"{SVG}title") == "update_norm: value < 0.001"


def test_nothing_to_draw_is_no_figure(tmp_path: Path) -> None:
    verdict = facts(tmp_path)[0] | {"observed": []}
    assert extras(verdict) == []
    assert figure([], title="t", x_label="step") == figure([("run", [])], title="t", x_label="step") == ""
