"""What a checkpoint says of its constraint: read back as written, and refused where it was damaged."""

import json

import pytest

from geomcheck.checkpoints.constraint import CONSTRAINT_FILE, MAX_BYTES, Constraint
from geomcheck.errors import RunError

LEARNED = Constraint(
    channel="learned",
    k=4,
    start_step=30,
    how="gradient",
    unselected="free",
    seed=None,
    source="checkpoint-30 of tiny-opd",
    weights=14,
)


def test_is_read_back_as_written(tmp_path):
    LEARNED.write(tmp_path)
    assert Constraint.read(tmp_path) == LEARNED
    assert json.loads((tmp_path / CONSTRAINT_FILE).read_text())["format"] == 1


def test_a_checkpoint_without_one_was_free(tmp_path):
    assert Constraint.read(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "reads format 1"),
        ({"format": True}, "reads format 1"),
        ({"format": None}, "reads format 1"),
        ({"channel": "drawn"}, "channel is 'drawn', not one of learned, random"),
        ({"channel": ["learned"]}, "channel is"),
        ({"k": 0}, "k is '0'"),
        ({"k": 4.0}, "k is '4.0'"),
        ({"k": True}, "k is 'True'"),
        ({"k": "4"}, "k is '4'"),
        ({"start_step": -1}, "start_step is '-1'"),
        ({"weights": 0}, "weights is '0'"),
        ({"seed": 3}, "a learned channel has none"),
        ({"channel": "random"}, "seed is 'None'"),
        ({"how": "both"}, "how is 'both'"),
        ({"unselected": None}, "unselected is 'None'"),
        ({"source": ""}, "source is"),
        ({"source": "two\nlines"}, r"source is 'two\nlines'"),
        ({"source": "x" * 5000}, "1 to 4096 characters"),
        ({"extra": 1}, "has an unknown key 'extra'"),
    ],
)
def test_damage_is_an_error(tmp_path, change, says):
    LEARNED.write(tmp_path)
    path = tmp_path / CONSTRAINT_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunError) as error:
        Constraint.read(tmp_path)
    assert says in str(error.value)


def test_a_missing_key_is_named(tmp_path):
    LEARNED.write(tmp_path)
    path = tmp_path / CONSTRAINT_FILE
    content = json.loads(path.read_text())
    del content["k"]
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match="lacks key 'k'"):
        Constraint.read(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 60_000])
def test_what_is_no_mapping_is_an_error(tmp_path, content):
    (tmp_path / CONSTRAINT_FILE).write_text(content)
    with pytest.raises(RunError):
        Constraint.read(tmp_path)


def test_an_oversized_file_is_not_read(tmp_path):
    (tmp_path / CONSTRAINT_FILE).write_text(" " * (MAX_BYTES + 1))
    with pytest.raises(RunError, match="more than"):
        Constraint.read(tmp_path)


def test_links_out_of_the_run_are_refused_and_dangling_ones_are_no_free_run(tmp_path):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir(), run.mkdir()
    LEARNED.write(outside)
    (run / CONSTRAINT_FILE).symlink_to(outside / CONSTRAINT_FILE)
    with pytest.raises(RunError, match="outside"):
        Constraint.read(run)
    (outside / CONSTRAINT_FILE).unlink()
    with pytest.raises(RunError):
        Constraint.read(run)


def test_a_wrong_constraint_cannot_be_made():
    with pytest.raises(ValueError, match="seed"):
        Constraint("random", 4, 0, "step", "free", None, "random", 1)
