"""What a suite may demand: one module per keyword, with everything that the keyword means.

The grammar, the editor schema, judging, live watching and the reports go through `load_conditions` and ask each
condition; none asks which one it holds.
"""

from geomcheck.suite.conditions.figure import FigureCondition, Key
from geomcheck.suite.conditions.registry import Conditions, load_conditions
from geomcheck.suite.conditions.subject import SubjectCondition

__all__ = ["Conditions", "FigureCondition", "Key", "SubjectCondition", "load_conditions"]
