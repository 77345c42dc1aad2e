"""The page in headless Chromium, as a reader meets it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import geomcheck
from geomcheck.report.html import write_report
from tests.report.records import record_of, report

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs chromium and chromedriver: apt-get install chromium chromium-driver",
)

FIXTURES = Path(__file__).parents[2] / "fixtures"
NAMES = [f"model.layers.{layer}.self_attn.{p}_proj.weight" for layer in range(4) for p in "qkvo"]
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
    return {name: directory / f"{name}.html" for name in ("failing", "comparison")}


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
            codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowDown": 40}
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
    assert "99% at step 1,200; expected 47% to 58%." in text(browser, ".card .headline")


def test_hovering_says_the_figure_and_its_weight(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["failing"])
    move_to(browser, '[data-cell="0"]')
    tip = text(browser, "#tip")
    assert tip.splitlines()[0] == "layer 0 · q_proj"
    assert tip.splitlines()[2] == "model.layers.0.self_attn.q_proj.weight"
    move_to(browser, ".card svg .out")
    assert text(browser, "#tip") == "step 1,200: 99%: violated"


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
    for _ in range(70):
        keys(browser, "Tab")
        reached.add(browser.execute_script("const a = document.activeElement; return a.id || a.tagName"))
    assert {"theme", "choose-figure", "choose-step", "SUMMARY", "A", "rect"} <= reached


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
    assert browser.execute_script("return document.getElementById('d-update_support').open")


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


@pytest.mark.parametrize("name", ["failing", "comparison"])
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
