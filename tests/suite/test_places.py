import pytest

from geomcheck.record.record import Point
from geomcheck.suite.language.places import Place, Places, parse_at, parse_place
from geomcheck.suite.language.quantities import Refusal
from geomcheck.suite.verdict import Unanswerable

POINTS = [Point(f"c{step}", step, step / 500) for step in (100, 200, 300, 400, 500)]


@pytest.mark.parametrize(
    ("raw", "text", "steps"),
    [
        ("all", "all", [100, 200, 300, 400, 500]),
        ("first", "first", [100]),
        ("last", "last", [500]),
        ({"step": 300}, "step 300", [300]),
        ({"progress": "20%"}, "progress 20%", [100]),
        ({"progress": "42%"}, "progress 42%", [200]),
        ({"from": {"progress": "50%"}}, "checkpoints from progress 50% to the last", [300, 400, 500]),
        ({"to": {"progress": "50%"}}, "checkpoints from the first to progress 50%", [100, 200]),
        (
            {"from": {"progress": "37%"}, "to": {"progress": "63%"}},
            "checkpoints from progress 37% to progress 63%",
            [200, 300],
        ),
        (
            {"from": {"step": 200}, "to": {"progress": "80%"}},
            "checkpoints from step 200 to progress 80%",
            [200, 300, 400],
        ),
        ({"from": {"step": 400}}, "checkpoints from step 400 to the last", [400, 500]),
        ({"to": {"step": 200}}, "checkpoints from the first to step 200", [100, 200]),
        ({"from": "first", "to": "last"}, "all", [100, 200, 300, 400, 500]),
        ({"from": {"progress": "0%"}, "to": "first"}, "checkpoints from progress 0% to the first", [100]),
    ],
)
def test_at(raw, text, steps):
    at = parse_at(raw)
    assert at.text == text
    assert [point.step for point in at.select(POINTS)] == steps


@pytest.mark.parametrize(
    ("raw", "message", "path"),
    [
        ("lst", "`lst` is not a checkpoint; allowed: `all`, `first`, `last`, .*did you mean `last`", ()),
        ("previous", "`previous` is not a checkpoint", ()),
        ("20%", r".*; did you mean `\{progress: 20%\}`", ()),
        ({"from": "20%", "to": "80%"}, r"`20%` is .*; did you mean `\{from: \{progress: 20%\}, \.\.\.\}`", ("from",)),
        ({"from": "first", "to": "80.0 %"}, r"did you mean `\{\.\.\., to: \{progress: 80%\}\}`", ("to",)),
        (3, "found `3` for a checkpoint", ()),
        ({"step": "3"}, 'a step is an integer >= 0; found `"3"`; the quotes', ("step",)),
        ({"step": True}, "found `true`", ("step",)),
        ({"progress": 20}, "progress goes from 0% to 100%; found `20`; did you mean `20%`", ("progress",)),
        ({"progress": "x"}, "not a number", ("progress",)),
        ({"step": 1, "progress": "2%"}, "found a mapping", ()),
        ({"from": "last", "to": "first"}, "`from` .last. comes after `to` .first.", ()),
        ({"from": {"step": 3}, "to": {"step": 2}}, "comes after", ()),
        ({"from": {"progress": "30%"}, "to": {"progress": "20%"}}, "comes after", ()),
        ({"from": {"step": -1}, "to": "last"}, "integer >= 0", ("from", "step")),
        ({"from": "first", "until": "last"}, "unknown key `until` beside `from` and `to`", ()),
    ],
)
def test_refusals(raw, message, path):
    with pytest.raises(Refusal, match=message) as caught:
        parse_at(raw)
    assert caught.value.path == path


@pytest.mark.parametrize("progress", ["10%", "50%", "94%", 0.7])
def test_a_checkpoint_that_is_too_far_away_is_not_the_one_that_is_meant(progress):
    with pytest.raises(Unanswerable, match=r"no checkpoint is near progress .*: the nearest is step \d+ at \d+%"):
        parse_at({"progress": progress}).select(POINTS)


def test_of_two_that_are_equally_near_the_earlier_is_meant():
    """Whatever float64 makes of 0.2 - 0.18 and 0.22 - 0.2."""
    for total in (50, 100, 1000, 30000):
        points = [
            Point(f"c{share}", share * total // 100, (share * total // 100) / total) for share in (18, 22, 96, 100)
        ]
        assert parse_at({"progress": "20%"}).select(points) == points[:1]
        assert parse_at({"progress": "98%"}).select(points) == points[2:3]


def test_a_step_that_is_not_there_lists_those_that_are():
    with pytest.raises(Unanswerable, match="no checkpoint at step 7; it has 100, 200, 300, 400, 500"):
        parse_at({"step": 7}).select(POINTS)


def test_an_empty_span_is_unanswerable():
    with pytest.raises(Unanswerable, match=r"none lies between progress 80% and step 300 \(steps 300 and 400"):
        parse_at({"from": {"progress": "80%"}, "to": {"step": 300}}).select(POINTS)


def test_canonical_spellings_make_equal_requests():
    spellings = [{"progress": "20%"}, {"progress": "20.0 %"}, {"progress": 0.2}]
    assert {str(parse_place(raw).canonical) for raw in spellings} == {"{'progress': '20%'}"}
    assert parse_place("previous", others=("previous",)) == Place("previous")


def test_ranks():
    places = [Place("first"), Place("last"), Place(progress="50%"), Place(step=3)]
    assert [place.rank for place in places] == [0.0, 1.0, 0.5, None]


@pytest.mark.parametrize(
    ("places", "text", "steps"),
    [
        ([Place(step=300)], "step 300", [300]),
        ([Place(step=300), Place(step=100)], "steps 300, 100", [300, 100]),
        ([Place(step=300), Place(progress="20%")], "step 300, progress 20%", [300, 100]),
    ],
)
def test_places_named_one_by_one(places, text, steps):
    found = Places(tuple(places))
    assert found.text == text
    assert [point.step for point in found.locate(POINTS).values()] == steps


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([Place(step=7)], "no checkpoint at step 7"),
        ([Place(progress="30%")], "no checkpoint is near progress 30%: the nearest is step 100 at 20%"),
        ([Place(step=100), Place(progress="20%")], "step 100 and progress 20% are one checkpoint, step 100"),
    ],
)
def test_places_that_a_run_lacks(places, message):
    with pytest.raises(Unanswerable, match=message):
        Places(tuple(places)).locate(POINTS)
