"""Conditions on something else than one metric's figures, each with a statement of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from geomcheck.diagnostics import Words
from geomcheck.suite.conditions.profile import Profile
from geomcheck.suite.expectation import Condition
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.statement import Statement


class SubjectCondition(Condition):
    """A condition that brings what it is about: it stands where others name a metric.

    Attributes:
        keyword: the value of `metric`, or the key instead of it, that states it.
        instead_of_metric: whether the keyword is a key of its own.
        statement: the grammar of its expectations.
        words: what its figures say, in plain words.
    """

    by_layer = False
    instead_of_metric: ClassVar[bool] = False
    statement: ClassVar[type[Statement]]
    words: ClassVar[Words]

    @classmethod
    def states(cls, node: Node) -> bool:
        """Whether an expectation states it."""
        return cls.keyword in node.value if cls.instead_of_metric else node.text("metric") == cls.keyword

    @classmethod
    @abstractmethod
    def of(cls, statement: Any, node: Node, profiles: Sequence[Profile]) -> Self:
        """The condition that `statement`, read from `node`, states. Raises Refusal."""

    @classmethod
    def params(cls, statement: Any) -> dict[str, Any]:
        """What a verdict shows as its parameters."""
        return {}
