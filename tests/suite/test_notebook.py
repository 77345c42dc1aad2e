"""Verdicts in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geomcheck
from geomcheck.record import Record


def test_a_verdict_shows_its_figures_in_their_unit(make_record: Callable[..., Record], tmp_path: Path) -> None:
    record = make_record({("update_support", "value"): lambda step, _: step / 1000})
    (tmp_path / "mine.yaml").write_text(
        "geomcheck: 1\nexpect:\n"
        "  - {id: support, metric: update_support, below: 25%, why: It changes too much.}\n"
        "  - {id: more, metric: update_support, above: 5%}\n"
    )
    verdicts = geomcheck.load_suite(tmp_path / "mine.yaml").evaluate(record)
    assert isinstance(verdicts, list)
    assert "<b>1 failed, 1 passed</b>" in verdicts._repr_html_()
    assert "30% at step 300" in verdicts._repr_html_()
    shown = verdicts[0]._repr_html_()
    assert "<b>failed: support</b>" in shown
    assert "why: It changes too much." in shown
    assert [part in shown for part in (">10%<", ">20%<", ">30%<", ">violates<")] == [True] * 4
