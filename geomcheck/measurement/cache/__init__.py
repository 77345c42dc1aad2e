"""The cache of earlier measurements, by content: an unchanged run is answered without reading it again."""

from geomcheck.measurement.cache.cache import DEFAULT_BYTES, Cache, parse_size, require_outside
from geomcheck.measurement.cache.recall import Recall

__all__ = ["DEFAULT_BYTES", "Cache", "Recall", "parse_size", "require_outside"]
