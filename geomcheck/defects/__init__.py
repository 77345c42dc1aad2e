"""Defects of training, saving and converting as operations on the weights of a good run, and what a suite notices of
them: what can be shown to go red."""

from geomcheck.defects.defect import Defect, NotApplicable, Spoiling, Subject
from geomcheck.defects.operations import Good, Operation

__all__ = ["Defect", "Good", "NotApplicable", "Operation", "Spoiling", "Subject"]
