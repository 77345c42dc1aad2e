import pytest

from geomcheck.suite.conditions.wording import within_allowance
from geomcheck.suite.verdict import Observed


@pytest.mark.parametrize(
    ("held", "allow", "expected"),
    [
        ("", 0.0, False),  # nothing was looked at
        ("", 1.0, False),
        ("+", 0.0, True),
        ("+++-", 0.0, False),
        ("+++-", 0.24, False),
        ("+++-", 0.25, True),
        ("++--", 0.25, False),
        ("+---", 1.0, True),
        ("----", 1.0, False),  # no allowance lets all of them go
    ],
)
def test_the_share_of_groups_that_may_violate(held, allow, expected):
    observed = tuple(Observed(step=1, group=str(i), value=1.0, holds=sign == "+") for i, sign in enumerate(held))
    assert within_allowance(observed, allow) is expected
