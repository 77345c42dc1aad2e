"""Verdicts before every weight is measured: what a fold and a condition let be decided, and by how many weights.

Metrics that compare entries are measured of every weight, and what is refused of a run is refused all the same. Of the
others, weights are measured in an order that is random but for its seed, and after each weight every expectation is
asked whether it is decided: because nothing that is left can change it, or by a confidence sequence for a finite
population (`wager`). What is not decided when the time is up is an error.
"""

from geomcheck.suite.early.budget import Budget, parse_budget
from geomcheck.suite.early.decision import Decision, judge_as
from geomcheck.suite.early.frame import may_be_early
from geomcheck.suite.early.sampling import Sampling

__all__ = ["Budget", "Decision", "Sampling", "judge_as", "may_be_early", "parse_budget"]
