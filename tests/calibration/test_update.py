"""More runs for a calibrated suite: what was generated is written anew, and what people wrote stays."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import geomcheck
from geomcheck.calibration import Range, add_runs
from geomcheck.errors import UsageError
from geomcheck.record import Record
from tests.runs import repeats


@pytest.fixture(scope="module")
def records(good_runs: list[Path]) -> list[Record]:
    return [geomcheck.measure(run) for run in good_runs]


@pytest.fixture
def mine(records: list[Record], tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    geomcheck.calibrate(records[:3], name="mine").write(path)
    return path


def edited(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


def test_the_bands_are_those_of_all_runs_at_once(records: list[Record], tmp_path: Path) -> None:
    metrics = ["update_support", "relative_update_norm", "frozen_share"]
    added, at_once = tmp_path / "added.yaml", tmp_path / "once.yaml"
    geomcheck.calibrate(records[:3], metrics=metrics).write(added)
    geomcheck.calibrate(records[:5], metrics=metrics).write(at_once)
    add_runs(added, records[3:5]).write()
    new, all_five = geomcheck.load_suite(added), geomcheck.load_suite(at_once)
    assert [one.condition for one in new.expectations] == [one.condition for one in all_five.expectations]
    assert [one.why for one in new.expectations] == [one.why for one in all_five.expectations]
    assert new.good is not None
    assert all_five.good is not None
    assert new.good.runs == all_five.good.runs
    assert new.good.figures.keys() == all_five.good.figures.keys()
    assert added.read_text().partition("geomcheck: 1")[0] == at_once.read_text().partition("geomcheck: 1")[0]
    for record in records[:5]:
        assert {verdict.outcome for verdict in new.evaluate(record)} == {"passed"}


def test_what_was_written_by_hand_stays(mine: Path, records: list[Record]) -> None:
    edited(
        mine,
        ("  - id: update-support\n", "  # ours\n  - id: update-support\n    level: warn   # for now\n"),
        ("name: mine", "name: ours"),
    )
    lines = mine.read_text().splitlines(keepends=True)
    band = next(n for n, line in enumerate(lines) if "{step: 10, within: [" in line)
    head, _, rest = lines[band].partition("[")
    lines[band] = f"{head}[1%, 99%]{rest.partition(']')[2]}"
    other = next(n for n, line in enumerate(lines) if "{step: 20, within: [" in line)
    lines[other] = lines[other].partition("#")[0] + "# my own remark\n"
    why = next(n for n, line in enumerate(lines) if "why: >-" in line)
    lines[why] = "    why: It matters.\n"
    end = next(n for n in range(why + 1, len(lines)) if not lines[n].strip())
    del lines[why + 1 : end]
    w0 = next(n for n, line in enumerate(lines) if line.startswith("  w0: "))
    del lines[w0]
    mine.write_text("".join(lines))
    updated = add_runs(mine, records[3:4])
    updated.write()
    text = mine.read_text()
    assert "name: ours\n" in text
    assert "  # ours\n  - id: update-support\n    level: warn   # for now\n" in text
    assert "[1%, 99%]" in text
    assert "why: It matters.\n" in text
    assert "# my own remark\n" in text
    assert lines[other] not in text
    assert "\n  w0: " not in text
    assert "--across-bases" not in text
    (kept,) = [sentence for sentence in updated.kept if "edited" in sentence]
    assert kept.startswith("update-support at step 10: stays as it was edited, [1%, 99%]; by the rule it would be [")


def test_a_second_update_still_knows_what_was_edited(mine: Path, records: list[Record]) -> None:
    text = mine.read_text()
    first = text[text.index("within: [") :].partition("]")[0] + "]"
    edited(mine, (first, "within: [1%, 99%]"))
    for record in records[3:5]:
        updated = add_runs(mine, [record])
        assert sum("edited" in sentence for sentence in updated.kept) == 1
        updated.write()


def test_the_rule_of_the_suite_is_applied_again(records: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "range.yaml"
    geomcheck.calibrate(records[:3], rule=Range(0.2)).write(path)
    assert "  rule: range 20%\n" in path.read_text()
    add_runs(path, records[3:4]).write()
    assert "smallest to largest of N = 4 runs and 20% of the mean" in path.read_text()


def test_windows_line_ends_stay(mine: Path, records: list[Record]) -> None:
    mine.write_bytes(mine.read_bytes().replace(b"\n", b"\r\n"))
    add_runs(mine, records[3:4]).write()
    assert mine.read_bytes().count(b"\n") == mine.read_bytes().count(b"\r\n")


def test_what_cannot_be_added_is_refused_and_nothing_is_written(
    mine: Path, records: list[Record], tmp_path: Path
) -> None:
    before = mine.read_bytes()
    with pytest.raises(UsageError, match=r"is in the suite already, as seed-1 \("):
        add_runs(mine, [records[1]])
    other = replace(records[3], w0=dict.fromkeys(records[3].w0, "blake3:aa"))
    with pytest.raises(UsageError, match="cannot be added to the runs of the suite: not the W0 of the calibration"):
        add_runs(mine, [other])
    points = tuple(replace(point, progress=point.progress / 2) for point in records[3].points)
    with pytest.raises(UsageError, match="its training is of 40 steps, and theirs was of 20"):
        add_runs(mine, [replace(records[3], points=points)])
    (odd,) = repeats(tmp_path, 1, scale=2e-2)
    with pytest.raises(UsageError, match="differs from the other 3 runs"):
        add_runs(mine, [odd])
    assert mine.read_bytes() == before


def test_a_run_that_was_named_by_hand_has_no_content_to_compare(mine: Path, records: list[Record]) -> None:
    assert mine.read_text().count(" (blake3:") > 3
    mine.write_text(
        re.sub(
            r"^( +- '[^(]+) \(blake3:[0-9a-f]{12}\)'", r"\1, our best: (see the wiki)'", mine.read_text(), flags=re.M
        )
    )
    updated = add_runs(mine, records[3:4])
    assert updated.calibration.runs[0].endswith(", our best: (see the wiki)")


def test_a_suite_without_figures_says_what_to_do(mine: Path, records: list[Record]) -> None:
    text = mine.read_text()
    mine.write_text(text[: text.index("\ncalibrated:")] + text[text.index("\nnormal:") :])
    with pytest.raises(UsageError, match="carries no figures of its good runs.*calibrate all of them"):
        add_runs(mine, records[3:4])


def test_an_expectation_about_other_figures_now_stays(mine: Path, records: list[Record]) -> None:
    edited(mine, ("    metric: relative_update_norm\n", "    metric: relative_update_norm\n    fold: max\n"))
    updated = add_runs(mine, records[3:4])
    assert any("relative-update-norm: stays as it is written, as it is about other" in one for one in updated.kept)


def test_what_the_old_bands_would_notice_is_said_no_longer(mine: Path, records: list[Record]) -> None:
    edited(mine, ("geomcheck: 1\n", "# Power: would notice 9 of 9 defects; and so\n#   on\ngeomcheck: 1\n"))
    add_runs(mine, records[3:4]).write()
    text = mine.read_text()
    assert "would notice" not in text
    assert "\n# Power: not tried with N = 4 runs: geomcheck power SUITE RUN\ngeomcheck: 1\n" in text


@pytest.mark.parametrize("rule", ["moderated 5000%", "student 0%", "range -5%", "moderated 60%"])
def test_a_rule_without_meaning_is_refused(mine: Path, records: list[Record], rule: str) -> None:
    mine.write_text(re.sub(r"(?m)^  rule: .*$", f"  rule: {rule}", mine.read_text()))
    with pytest.raises(UsageError, match=rule):
        add_runs(mine, records[3:4])


def test_bands_whose_figures_were_deleted_stay(mine: Path, records: list[Record]) -> None:
    figures = mine.read_text().partition("  figures: |\n")[2]
    first, row = figures.splitlines(keepends=True)[:2]
    edited(mine, (first + row, first))
    updated = add_runs(mine, records[3:4])
    assert any(said.startswith(first.strip().partition(":")[0]) and "are not there" in said for said in updated.kept)
    updated.write()
