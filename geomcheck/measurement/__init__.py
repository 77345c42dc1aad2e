"""From a run to a record: each weight is measured once, its entries before what needs a factorization."""

from geomcheck.measurement.cache import Cache
from geomcheck.measurement.column import Figure
from geomcheck.measurement.execute import Progress, measure_record
from geomcheck.measurement.parquet import read_record, write_record
from geomcheck.measurement.places import is_trivial, locate
from geomcheck.measurement.record import Origin, Point, Record, Row
from geomcheck.measurement.request import Plan, Request, merge
from geomcheck.measurement.resources import Resources, parse_workers
from geomcheck.measurement.soundness import require_sound
from geomcheck.measurement.survey import survey

__all__ = [
    "Cache",
    "Figure",
    "Origin",
    "Plan",
    "Point",
    "Progress",
    "Record",
    "Request",
    "Resources",
    "Row",
    "is_trivial",
    "locate",
    "measure_record",
    "merge",
    "parse_workers",
    "read_record",
    "require_sound",
    "survey",
    "write_record",
]
