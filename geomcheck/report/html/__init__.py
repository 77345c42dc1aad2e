"""The HTML report: one self-contained file for people, built from records and verdicts.

Figures are SVG that `report.charts` draws, whole without a script; 400 lines of plain JavaScript (``charts.js``) move
what is drawn when a reader looks closer, by the figures that each chart carries. A plotting library draws again, by
rules of its own, and only where scripts run: on a canvas, which neither prints sharply nor can be read out (uPlot, 51
kB), or from 490 kB of script (Observable Plot with d3).
"""

from geomcheck.report.facts import Judged, judged
from geomcheck.report.html.metrics import drawn, wanted
from geomcheck.report.html.page import page, write_report
from geomcheck.report.session import Reported

__all__ = ["Judged", "Reported", "drawn", "judged", "page", "wanted", "write_report"]
