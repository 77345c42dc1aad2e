"""Whether the weights in some files are those that a record was measured on."""

from __future__ import annotations

from geomcheck._lazy import torch
from geomcheck.checkpoints import BaseWeights, WeightSource
from geomcheck.checkpoints.canonical import canonical
from geomcheck.errors import RunError
from geomcheck.measurement.content import digest, fingerprint
from geomcheck.record import Record, digests

_FORMATS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}


def require_measured_against(record: Record, base: BaseWeights, *, dequantize: bool = False) -> None:
    """Refuse a W0 that is not the record's; reads every weight that the record has figures of. Raises RunError."""
    source = base.source
    require_measured_on(record, "W0", canonical(source, source.config, dequantize=dequantize))


def require_measured_on(record: Record, where: str, source: WeightSource) -> None:
    """Refuse weights, with canonical names, that are not those that a record was measured on as `where`: ``W0``, or the
    name of a checkpoint. Raises RunError where one is another, or absent, or the record does not say what it measured.
    """
    held = record.measured_weights()
    if missing := sorted(held - source.weights.keys()):
        raise RunError(f"{source.path}: lacks {missing[0]}, which {record.path} was measured on as {where}")
    there = record.fingerprints.get(where, "")
    if there and digests.algorithm(there) != digests.ALGORITHM:
        raise RunError(
            f"{source.path}: nobody can tell whether it holds the weights that the record of {record.run} was measured "
            f"on as {where}, by an older geomcheck: {digests.UNLIKE}; measure that run again"
        )
    found = {name: _digest(record, where, source, name) for name in held}
    if not found or fingerprint(found) != there:
        known = record.w0 if where == "W0" else {}
        odd = next((f", such as {name}" for name in sorted(known) if found.get(name) != known[name]), "")
        raise RunError(
            f"{source.path}: does not hold the weights that the record of {record.run} was measured on as {where}{odd}"
        )


def _digest(record: Record, where: str, source: WeightSource, name: str) -> str:
    """The digest of a weight; of W0 after conversion to the format that the record has, if that loses nothing."""
    stored, known = source.read(name), record.weights[name].dtypes[:1]
    if where == "W0" and known and isinstance(stored, torch.Tensor) and known != (source.weights[name].dtype,):
        cast = stored.to(getattr(torch, _FORMATS[known[0]]))
        if torch.equal(cast.to(stored.dtype), stored):
            return digest(cast)
    return digest(stored)
