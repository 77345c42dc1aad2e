"""Everything that a session may import when it measures: pytester unloads what a run imports, and torch must stay."""

import safetensors.torch  # noqa: F401

import geomcheck.gate.hooks
import geomcheck.measurement.executors
import geomcheck.measurement.trajectory  # noqa: F401
