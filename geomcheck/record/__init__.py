"""The record of a measurement, which suites judge: figures by checkpoint and weight, and where they come from."""

from geomcheck.record.column import Figure
from geomcheck.record.parquet import read_record, write_record
from geomcheck.record.points import Origin, Point, is_trivial, locate
from geomcheck.record.record import UNKNOWN, Record, Row, columns_of
from geomcheck.record.request import Plan, Request, merge

__all__ = [
    "UNKNOWN",
    "Figure",
    "Origin",
    "Plan",
    "Point",
    "Record",
    "Request",
    "Row",
    "columns_of",
    "is_trivial",
    "locate",
    "merge",
    "read_record",
    "write_record",
]
