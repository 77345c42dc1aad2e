"""Suites: YAML to validated expectations, and their judgement over records."""

from geomcheck.suite.conditions.profile import PAPER, Classification, Profile, classify
from geomcheck.suite.coverage import Missing
from geomcheck.suite.due import Due, SoFar, Standing, judge_so_far
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.judge import judge, unmeasured
from geomcheck.suite.loading.load import load_suite
from geomcheck.suite.loading.profiles import load_profiles
from geomcheck.suite.loading.schema import json_schema
from geomcheck.suite.loading.shipped import find_suite, shipped_suites
from geomcheck.suite.suite import Suite
from geomcheck.suite.verdict import Observed, Unanswerable, Verdict, Verdicts, Worst

__all__ = [
    "PAPER",
    "Classification",
    "Due",
    "Expectation",
    "Missing",
    "Observed",
    "Profile",
    "SoFar",
    "Standing",
    "Suite",
    "Unanswerable",
    "Verdict",
    "Verdicts",
    "Worst",
    "classify",
    "find_suite",
    "json_schema",
    "judge",
    "judge_so_far",
    "load_profiles",
    "load_suite",
    "shipped_suites",
    "unmeasured",
]
