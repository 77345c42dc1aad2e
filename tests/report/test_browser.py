"""The page in headless Chromium, as a reader meets it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import geomcheck
from geomcheck.record import Figure
from geomcheck.report.html import write_report
from tests.figures import edit
from tests.report.records import STEPS, record_of, report

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs chromium and chromedriver: apt-get install chromium chromium-driver",
)

FIXTURES = Path(__file__).parents[2] / "fixtures"
NAMES = [f"model.layers.{layer}.self_attn.{p}_proj.weight" for layer in range(4) for p in "qkvo"]
BANDS = """
geomcheck: 1
name: bands
expect:
  - {id: norm, metric: relative_update_norm, bands: [{step: 100, within: [1e-5, 2e-5]}, {step: 500, within: [1e-5, 1]}]}
  - {id: rank, metric: stable_rank, within: [10, 45]}
"""
HOSTILE = "model.layers.4.self_attn.<img src=x onerror=document.title='owned'>_proj.weight"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", *root):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A failing run of the fixtures with its suite, and a comparison of two records with a hostile name."""
    directory = tmp_path_factory.mktemp("pages")
    suite = geomcheck.load_suite(FIXTURES.parent / "suites" / "tiny-opd.yaml")
    record = geomcheck.measure(FIXTURES / "tiny-sft", suites=[suite], metrics=["update_spectrum", "principal_angle"])
    write_report(directory / "failing.html", [report(record, suite)])
    records = [record_of([*NAMES, HOSTILE], run=run, seed=seed) for seed, run in enumerate("ab")]
    write_report(directory / "comparison.html", [report(record) for record in records])
    bands = directory / "bands.yaml"
    bands.write_text(BANDS)
    records = [record_of(NAMES, run=run, seed=seed) for seed, run in enumerate(["=first()", "second", "third"])]
    still = {(step, NAMES[5]): Figure(value=1.0) for step in STEPS}
    edit(records[0], "frozen_share", still)
    write_report(directory / "several.html", [report(record, bands) for record in records])
    return {name: directory / f"{name}.html" for name in ("failing", "comparison", "several")}


def open_page(browser: Any, path: Path, *, width: int = 1280, height: int = 800, scheme: str = "light") -> None:
    browser.get_log("browser"), browser.get_log("performance")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())


def requested(browser: Any) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def box(browser: Any, selector: str) -> dict[str, float]:
    return browser.execute_script(f"return document.querySelector('{selector}').getBoundingClientRect().toJSON()")


def text(browser: Any, selector: str) -> str:
    return browser.execute_script(f"return document.querySelector('{selector}').innerText")


def keys(browser: Any, *pressed: str) -> None:
    for key in pressed:
        for kind in ("keyDown", "keyUp"):
            extra = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": codes[key], **extra}
            browser.execute_cdp_cmd("Input.dispatchKeyEvent", event)


def move_to(browser: Any, selector: str, *, click: bool = False) -> None:
    browser.execute_script(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
    at = box(browser, selector)
    place = {"x": at["x"] + at["width"] / 2, "y": at["y"] + at["height"] / 2}
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", **place})
    if click:
        for kind in ("mousePressed", "mouseReleased"):
            event = {"type": kind, "button": "left", "clickCount": 1, **place}
            browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def mouse(browser: Any, kind: str, x: float, y: float) -> None:
    event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def ticks(browser: Any, plot: str) -> list[str]:
    found = f"[...document.querySelectorAll('{plot} .axes .tick.end')].map((one) => one.textContent)"
    return browser.execute_script(f"return {found}")


@pytest.mark.parametrize("name", ["failing", "comparison"])
def test_no_error_and_no_request(browser: Any, pages: dict[str, Path], name: str) -> None:
    open_page(browser, pages[name])
    move_to(browser, '[data-cell="1"]', click=True)
    assert browser.get_log("browser") == []
    assert [url for url in requested(browser) if url not in (pages[name].as_uri(), "data:,")] == []
    assert browser.title != "owned"


def test_the_policy_stops_what_is_foreign(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    """Also proves that the logs above would show an error and a request."""
    foreign = tmp_path / "foreign.html"
    inserted = "<script>document.title = 'owned'</script><img src='http://127.0.0.1:9/x.png'></body>"
    foreign.write_text(pages["failing"].read_text(encoding="utf-8").replace("</body>", inserted), encoding="utf-8")
    open_page(browser, foreign)
    assert browser.title != "owned"
    messages = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "script-src" in messages
    assert "img-src" in messages


def test_the_first_failure_is_seen_without_scrolling(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    assert "5 of 6 expectations failed" in text(browser, "h1")
    card = box(browser, ".card .headline")
    chart = box(browser, ".card svg")
    worst = box(browser, ".card table.worst")
    assert max(card["bottom"], chart["bottom"], worst["bottom"]) <= 800
    assert "0.023 at step 1,200; expected 2.3×10⁻⁴ to 3.2×10⁻⁴." in text(browser, ".card .headline")


def test_hovering_says_the_figure_and_its_weight(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    move_to(browser, '[data-cell="0"]')
    tip = text(browser, "#tip")
    assert tip.splitlines()[0] == "layer 0 · q_proj"
    assert tip.splitlines()[2] == "model.layers.0.self_attn.q_proj.weight"


def test_clicking_a_cell_shows_its_spectrum_and_angles(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    move_to(browser, '[data-cell="1"]', click=True)
    panel = text(browser, "#panel")
    assert "layer 0 · k_proj" in panel
    assert "model.layers.0.self_attn.k_proj.weight" in panel
    assert "Singular spectrum of the update" in panel
    assert "inputs (right)" in panel
    assert browser.execute_script("return document.querySelectorAll('#panel .bar').length") == 16


def test_the_map_answers_the_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    browser.execute_script("document.getElementById('choose-step').focus()")
    keys(browser, "Tab", "ArrowRight", "ArrowDown")
    label = browser.execute_script("return document.activeElement.getAttribute('aria-label')")
    assert label.startswith("layer 1 · k_proj, ")
    assert "layer 1 · k_proj" in text(browser, "#tip")
    keys(browser, "Enter")
    assert "layer 1 · k_proj" in text(browser, "#panel")


def test_everything_that_answers_can_be_reached_by_tab(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    reached = set()
    for _ in range(160):
        keys(browser, "Tab")
        reached.add(browser.execute_script("const a = document.activeElement; return a.id || a.tagName"))
    assert {"theme", "choose-figure", "choose-step", "SUMMARY", "A", "BUTTON", "rect"} <= reached


def test_figure_and_checkpoint_can_be_chosen(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["comparison"])
    assert text(browser, "#shown-step") == "step 500"

    def choose(control: str, value: int) -> None:
        browser.execute_script(
            f"const c = document.getElementById('{control}'); c.value = {value};"
            "for (const kind of ['input', 'change']) c.dispatchEvent(new Event(kind, {bubbles: true}))"
        )

    before = browser.execute_script("return document.querySelector('[data-cell]').dataset.tip")
    choose("choose-figure", 2)
    choose("choose-step", 0)
    assert text(browser, "#shown-step") == "step 100"
    assert browser.execute_script("return document.querySelector('[data-cell]').dataset.tip") != before
    choose("choose-run", 2)
    assert browser.execute_script("return document.getElementById('choose-run').selectedOptions[0].text") == "b minus a"
    assert browser.execute_script("return document.querySelectorAll('#map [class*=\"cell d\"]').length") == 17
    assert browser.get_log("browser") == []


def test_a_link_opens_a_definition(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    move_to(browser, ".card h2 a", click=True)
    browser.execute_script("return new Promise((done) => setTimeout(done, 50))")
    assert browser.execute_script("return document.getElementById('d-spectral_shift').open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_legible_and_can_be_switched(browser: Any, pages: dict[str, Path], scheme: str) -> None:
    open_page(browser, pages["failing"], scheme=scheme)
    read = "const s = getComputedStyle({}); return [s.color, getComputedStyle(document.body).backgroundColor]"
    for _ in range(2):
        for element in ("document.body", "document.querySelector('.place')", "document.querySelector('h1')"):
            assert contrast(*browser.execute_script(read.format(element))) >= 4.5
        move_to(browser, "#theme", click=True)
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) > 0.5) == (scheme == "light")


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2, 0..1, of ``rgb(r, g, b)``."""
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2, 1..21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", ["failing", "comparison", "several"])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, pages: dict[str, Path], name: str) -> None:
    open_page(browser, pages[name], width=390, height=844)
    move_to(browser, '[data-cell="1"]', click=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert "layer 0 · k_proj" in text(browser, "#panel")


def test_it_prints(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"], scheme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert luminance(paper) == pytest.approx(1)
    assert browser.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


CARD = "#e-1 .charts figure:first-child"
CHART = "#training figure:first-child .plot"
SUPPORT_NAMES = f"{CHART} .names"


def test_hovering_over_a_chart_says_all_figures_at_a_checkpoint(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["several"])
    move_to(browser, f"{CHART} .target")
    lines = text(browser, "#tip").splitlines()
    assert lines[0] == "at 40%"
    assert [line.partition(":")[0] for line in lines[1:]] == ["=first()", "second", "third"]
    assert all(line.endswith("(step 200)") for line in lines[1:])
    assert browser.execute_script(f"return document.querySelectorAll('{CHART} .cross circle').length") == 3


def test_a_finger_on_a_chart_says_them_too(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"], width=390, height=844)
    browser.execute_script("document.querySelector('.card .target').scrollIntoView({block: 'center'})")
    at = box(browser, ".card .target")
    points = [{"x": at["right"] - 12, "y": at["y"] + at["height"] / 2}]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert text(browser, "#tip").splitlines()[:2] == ["step 1,200", "this run: 0.02302 ✕ violates"]


def test_the_keyboard_moves_along_a_chart(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    browser.execute_script("document.querySelector('.card .target').focus()")
    said = "return document.activeElement.getAttribute('aria-valuetext')"
    assert browser.execute_script(said).startswith("step 1,200, this run: ")
    keys(browser, "ArrowLeft", "ArrowLeft", "ArrowRight")
    assert browser.execute_script(said).startswith("step 960, this run: ")
    assert text(browser, "#tip").startswith("step 960")


def test_a_chart_is_linear_or_logarithmic(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    pressed = "return document.querySelector('.card .tools button').getAttribute('aria-pressed')"
    assert browser.execute_script(pressed) == "true"
    before = ticks(browser, CARD)
    move_to(browser, ".card .tools button", click=True)
    assert browser.execute_script(pressed) == "false"
    assert ticks(browser, CARD) != before
    move_to(browser, ".card .tools button", click=True)
    assert ticks(browser, CARD) == before


def test_published_figures_are_drawn_when_asked_for_and_set_no_scale(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    widths = "map((band) => band.getBoundingClientRect().width > 0)"
    shown = f"return [...document.querySelectorAll('{CHART} .chart .band')].{widths}"
    assert browser.execute_script(shown) == [False, False, False]
    before = ticks(browser, CHART)
    move_to(browser, f"{SUPPORT_NAMES} [aria-pressed=false]", click=True)
    assert browser.execute_script(shown) == [True, False, False]
    assert ticks(browser, CHART) == before


def test_a_name_hides_and_highlights(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["several"])
    name = f"{SUPPORT_NAMES} button:nth-child(2)"
    move_to(browser, name)
    faded = f"return document.querySelectorAll('{CHART} .series.faded:not(.off)').length"
    assert browser.execute_script(faded) == 2
    move_to(browser, name, click=True)
    drawn = f"return document.querySelector('{CHART} .line.run1').getBoundingClientRect().width"
    assert browser.execute_script(drawn) == 0
    assert browser.execute_script(f"return document.querySelector('{name}').getAttribute('aria-pressed')") == "false"
    move_to(browser, f"{CHART} .target")
    assert "second" not in text(browser, "#tip")
    move_to(browser, name, click=True)
    assert browser.execute_script(drawn) > 0


def test_a_range_of_steps_fills_the_chart(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    move_to(browser, ".card .target")
    at = box(browser, ".card .target")
    middle = at["y"] + at["height"] / 2
    mouse(browser, "mousePressed", at["x"] + 2, middle)
    mouse(browser, "mouseMoved", at["x"] + at["width"] * 0.55, middle)
    mouse(browser, "mouseReleased", at["x"] + at["width"] * 0.55, middle)
    labels = f"[...document.querySelectorAll('{CARD} .axes .middle:not(.name)')]"
    places = f"return {labels}.map((label) => label.textContent)"
    assert sorted(browser.execute_script(places)) == ["240", "480", "720"]
    browser.execute_script("document.querySelector('.card .tools button + button').click()")
    assert "1,200" in browser.execute_script(places)
    browser.execute_script("document.querySelector('.card .tools summary').click()")
    browser.execute_script("return new Promise((done) => setTimeout(done, 100))")
    browser.execute_script(
        "const from = document.querySelector('.card .menu select'); from.value = 960;"
        "from.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    assert sorted(browser.execute_script(places)) == ["1,200", "960"]


def test_a_chart_is_saved_as_picture_and_as_table(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    open_page(browser, pages["several"])
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    browser.execute_script(f"document.querySelector('{CHART} .tools summary').click()")
    browser.execute_script("return new Promise((done) => setTimeout(done, 100))")
    for index in range(3):
        browser.execute_script(f"document.querySelectorAll('{CHART} .menu button')[{index}].click()")
        ending = ("svg", "png", "csv")[index]
        for _ in range(100):
            if any(tmp_path.glob(f"*.{ending}")):
                break
            browser.execute_script("return new Promise((done) => setTimeout(done, 100))")
    svg, png, table = ((tmp_path / f"update-support.{ending}").read_bytes() for ending in ("svg", "png", "csv"))
    root = ET.fromstring(svg)
    assert "=first()" in "".join(root.itertext())
    assert "class" not in {name for element in root.iter() for name in element.attrib}
    assert png.startswith(b"\x89PNG")
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert [row["step"] for row in rows[3:8]] == [str(step) for step in STEPS]  # after three published figures
    assert rows[3]["series"] == "'=first()"  # no formula
    assert browser.get_log("browser") == []


def test_runs_can_be_hidden_everywhere(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["several"])
    seen = """
        const named = (one) => /second|run1/.test(one.textContent + one.getAttribute("class"));
        const shown = (one) => one.getBoundingClientRect().width > 0;
        const all = [...document.querySelectorAll("[data-run], .series .line, .names button")];
        return all.filter((one) => named(one) && shown(one)).length;
    """
    assert browser.execute_script(seen) > 5
    move_to(browser, '.pick[value="1"]', click=True)
    assert browser.execute_script(seen) == 0
    assert browser.execute_script("return document.querySelector('#choose-run').options[1].disabled")
    move_to(browser, '.pick[value="1"]', click=True)
    assert browser.execute_script(seen) > 5
    assert browser.get_log("browser") == []


def test_frozen_cells_are_crossed(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["several"])
    assert browser.execute_script("return document.querySelectorAll('#map .still').length") == 1
    assert "frozen" in text(browser, "#scale")
    cell = browser.execute_script("return document.querySelector('#map .still').previousSibling.dataset.tip")
    assert cell.startswith("layer 1 · k_proj")
    assert cell.endswith("frozen: it never changed up to here")


OVERLAPS = """
for (const one of document.querySelectorAll("details")) one.open = true;
const found = [];
const boxes = (own, selector) => [...own.querySelectorAll(selector)]
  .map((one) => [one.textContent.trim(), one.getBoundingClientRect()]).filter(([text, box]) => text && box.width);
const over = (p, q) => p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2;
const check = (all) => all.forEach(([a, p], i) => all.slice(i + 1).forEach(([b, q]) => {
  if (over(p, q)) found.push([a, b]);
}));
for (const chart of document.querySelectorAll("svg.chart")) check(boxes(chart, "text"));
for (const row of document.querySelectorAll(".row > summary, .names")) check(boxes(row, ":scope > *"));
for (const [text, box] of boxes(document, "svg.chart text, .names button"))
  if (box.left < 0 || box.right > innerWidth) found.push([text, "edge"]);
return found;
"""


@pytest.mark.parametrize("width", [1280, 860, 390])
@pytest.mark.parametrize("name", ["failing", "several"])
def test_nothing_is_printed_over_anything(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    open_page(browser, pages[name], width=width)
    assert browser.execute_script(OVERLAPS) == []
