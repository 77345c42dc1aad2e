"""How the elements of a chart look: by the classes of the page that they stand in, or by attributes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from geomcheck._html import visible

COLOURS = ("#2a78c8", "#d9762b", "#b0549c", "#3a9aa8", "#8a8a3a", "#7a6fd0", "#6b7a2f", "#a0715a")

DASHES = ("", "7 3", "2 3", "9 3 2 3")

_PLAIN: dict[str, dict[str, object]] = {
    "axis": {"stroke": "currentColor", "stroke-opacity": 0.5},
    "grid": {"stroke": "currentColor", "stroke-opacity": 0.15},
    "end": {"text-anchor": "end"},
    "middle": {"text-anchor": "middle"},
    "line": {"fill": "none", "stroke": "currentColor", "stroke-width": 2},
    "dot": {"fill": "currentColor"},
    "in": {"fill": "#2f9e6e"},
    "out": {"fill": "none", "stroke": "#d43d3d", "stroke-width": 2.5},
    "label": {"fill": "currentColor"},
    "band": {"fill": "currentColor", "fill-opacity": 0.18},
    "shade": {"fill": "currentColor", "fill-opacity": 0.18},
    "allowed": {"color": "#2f9e6e"},
    "own": {"color": COLOURS[0]},
    "other": {"color": "#8a8a8a"},
    "null": {"color": "#8a8a8a", "stroke-dasharray": "5 4"},
    "normal": {"color": "#2f9e6e"},
    **{f"run{index}": {"color": colour} for index, colour in enumerate(COLOURS)},
    **{f"dash{index}": {"stroke-dasharray": dashes} for index, dashes in enumerate(DASHES) if dashes},
}
"""What each class looks like without a style sheet: colours that do on light and on dark pages."""


def of_run(place: int) -> str:
    """The classes of a run by its place among all: no two of 32 have the same colour and dashes."""
    turn, colour = divmod(place, len(COLOURS))
    return f"run{colour} dash{(place + turn) % len(DASHES)}"


_ALONE = {
    "xmlns": "http://www.w3.org/2000/svg",
    "width": 640,
    "role": "img",
    "style": "max-width:100%;height:auto",
    "font-family": "sans-serif",
    "font-size": 12,
    "fill": "currentColor",
}
_HEADING = 22
_BESIDE = 60
"""Room for longer labels at the right edge of a chart that stands alone."""


@dataclass(frozen=True)
class Style:
    """Writes the elements of a chart, and the drawing around them.

    Attributes:
        alone: by attributes of their own, for pages that are not ours: no style sheet, no script, the title above.
            Otherwise by classes of the report's style sheet, which its strict content policy allows.
    """

    alone: bool

    def element(self, tag: str, classes: str, tip: str = "", text: str = "", /, **attributes: object) -> Markup:
        """One element; `tip` is what hovering says, where there is no script that says more."""
        if not self.alone:
            return _element(tag, {"class": classes, **attributes}, Markup.escape(text))
        look = {name: value for word in classes.split() for name, value in _PLAIN.get(word, {}).items()}
        title = _element("title", {}, Markup.escape(tip)) if tip else Markup()
        return _element(tag, {**look, **attributes}, title + Markup.escape(text))

    def drawing(self, title: str, width: int, height: int, parts: Sequence[Markup]) -> Markup:
        """The whole of a chart."""
        if not self.alone:
            named = {"class": "chart", "viewBox": f"-10 0 {width + 10} {height}", "role": "img", "aria-label": title}
            return _element("svg", named, Markup("").join(parts))
        box = f"0 {-_HEADING} {width + _BESIDE} {height + _HEADING}"
        heading = _element("text", {"x": 0, "y": -6, "font-weight": "bold"}, Markup.escape(title))
        content = Markup("\n").join([_element("title", {}, Markup.escape(title)), heading, *parts])
        return Markup(visible(_element("svg", {"viewBox": box, **_ALONE}, content)))


def _element(tag: str, attributes: Mapping[str, object], content: Markup) -> Markup:
    named = "".join(f' {name}="{Markup.escape(_short(value))}"' for name, value in attributes.items())
    return Markup(f"<{tag}{named}>{content}</{tag}>" if content else f"<{tag}{named}/>")


def _short(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value


PAGE, ALONE = Style(alone=False), Style(alone=True)
