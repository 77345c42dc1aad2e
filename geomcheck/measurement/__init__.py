"""From a run to a record: each weight is measured once, its entries before what needs a factorization."""

from geomcheck.measurement.cache import Cache
from geomcheck.measurement.execute import Progress, measure_record
from geomcheck.measurement.resources import Resources, parse_workers
from geomcheck.measurement.soundness import require_sound
from geomcheck.measurement.survey import survey

__all__ = [
    "Cache",
    "Progress",
    "Resources",
    "measure_record",
    "parse_workers",
    "require_sound",
    "survey",
]
