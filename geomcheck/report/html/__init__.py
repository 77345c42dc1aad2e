"""The HTML report: one self-contained file for people, built from records and verdicts.

Figures are small SVG written here, with some 300 lines of plain JavaScript for selecting and looking closer: a page
is 100 kB where a plotting library alone is 1 to 5 MB, prints as it looks, and runs under a strict content policy.
"""

from geomcheck.report.facts import Judged, judged
from geomcheck.report.html.metrics import drawn, wanted
from geomcheck.report.html.page import page, write_report
from geomcheck.report.session import Reported

__all__ = ["Judged", "Reported", "drawn", "judged", "page", "wanted", "write_report"]
