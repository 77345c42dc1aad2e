from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from geomcheck._compat import cached_property


class Slow:
    """Its attribute is there once another instance's is being computed too."""

    meeting = threading.Barrier(2)

    def __init__(self) -> None:
        self.computed = 0

    @cached_property
    def attribute(self) -> int:
        """What it is."""
        self.meeting.wait(timeout=20)
        self.computed += 1
        return self.computed


def test_instances_do_not_wait_for_each_other() -> None:
    both = Slow(), Slow()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda slow: slow.attribute, both)) == [1, 1]
    assert [slow.attribute for slow in both] == [1, 1]  # computed once, or the barrier would break


def test_it_can_be_set_and_is_seen_in_the_instance() -> None:
    slow = Slow()
    assert "attribute" not in slow.__dict__
    slow.attribute = 7
    assert slow.attribute == slow.__dict__["attribute"] == 7
    assert Slow.attribute.__doc__ == "What it is."
