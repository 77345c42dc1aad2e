"""The pictures of the page of findings show what they say, and are those that would be drawn now."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate.findings import PICTURES
from fixtures.defects.pictures import GOOD, SHOWN, needs_runs, picture, sources, spoiled
from fixtures.defects.saved import write
from fixtures.defects.train import MissingRun, Workshop
from geomcheck.diagnosis import diagnose, load_kinds

WITHOUT_RUNS = [kind for kind in SHOWN if not needs_runs(kind)]
FACTS = [kind.name for kind in load_kinds() if kind.group in "AB" and kind.name in WITHOUT_RUNS]
BESIDE = {"lag"}
"""Kinds that are told beside the right answer."""


def test_each_kind_that_is_shown_has_its_picture() -> None:
    assert {file.stem for file in PICTURES.iterdir()} == SHOWN.keys()


@pytest.mark.parametrize("kind", sorted(SHOWN.keys() - BESIDE))
def test_the_kind_is_a_right_answer_to_the_defect(kind: str) -> None:
    truth = sources()[SHOWN[kind][0]].truth
    assert truth is not None
    assert kind in truth.kinds


@pytest.mark.parametrize("kind", WITHOUT_RUNS)
def test_a_picture_is_what_would_be_drawn_now(kind: str, tmp_path: Path) -> None:
    assert (PICTURES / f"{kind}.svg").read_text() == picture(kind, Workshop(tmp_path, trains=False))


@pytest.mark.parametrize("kind", FACTS)
def test_what_is_shown_is_told(kind: str, tmp_path: Path) -> None:
    run, _ = spoiled(kind, Workshop(tmp_path, trains=False))
    told = diagnose(write(run, GOOD, tmp_path / "run"), cache=None)
    assert kind in {finding.kind for finding in told}


def test_a_picture_that_needs_runs_is_not_drawn_without_them(tmp_path: Path) -> None:
    with pytest.raises(MissingRun):
        picture("sign", Workshop(tmp_path, trains=False))
