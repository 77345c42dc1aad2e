"""Measure a run, from opened checkpoints to a record: each weight once, cheap comparisons before factorizations."""

from geomcheck.measurement.cache import Cache
from geomcheck.measurement.execute import Progress, measure_record
from geomcheck.measurement.resources import Resources, parse_workers
from geomcheck.measurement.soundness import require_sound
from geomcheck.measurement.survey import survey
from geomcheck.measurement.watch import Reading

__all__ = ["Cache", "Progress", "Reading", "Resources", "measure_record", "parse_workers", "require_sound", "survey"]
