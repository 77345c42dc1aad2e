"""What torch.save wrote to a part of a file: one plain tensor, or one object."""

from __future__ import annotations

import io
from typing import BinaryIO

from geomcheck.checkpoints.formats.torch_save.pickle_data import PickleProblem, read_pickle
from geomcheck.checkpoints.formats.torch_save.records import Place, read_records
from geomcheck.checkpoints.formats.torch_save.tensors import Packed, is_of_tensors, tensor_of

MAX_TENSOR_PICKLE_BYTES = 64 * 2**10


def find_tensor(file: BinaryIO, within: Place) -> Packed:
    """The one tensor at a place in `file`. Raises PickleProblem if there is something else."""
    records = read_records(file, within, max_pickle_bytes=MAX_TENSOR_PICKLE_BYTES)
    tensor = tensor_of(read_pickle(io.BytesIO(records.pickle), is_of_tensors).content, records.storages)
    if not isinstance(tensor, Packed):
        raise PickleProblem("holds something else than one plain tensor")
    return tensor


def read_object_pickle(file: BinaryIO, within: Place, *, max_bytes: int) -> bytes:
    """The pickle of the object at a place in `file`, unread. Raises PickleProblem."""
    return read_records(file, within, max_pickle_bytes=max_bytes).pickle
