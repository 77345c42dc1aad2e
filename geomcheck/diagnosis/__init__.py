"""What is wrong with a run, in one sentence: kinds of findings, each declared like a metric, asked in order.

Groups: A, facts of the bytes; B, the order of the checkpoints; C, against good runs; D, the trainer's log.
"""

from geomcheck.diagnosis.ask import apart, case_of, diagnose, findings, opened_case
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.registry import load_kinds

__all__ = ["Case", "Finding", "Kind", "apart", "case_of", "diagnose", "findings", "load_kinds", "opened_case"]
