"""A cache directory: measurements in one SQLite file, whole records and factorizations of W0 in files of their own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck import files
from geomcheck.errors import UsageError
from geomcheck.measurement.cache import bases
from geomcheck.measurement.cache.shelf import Shelf
from geomcheck.measurement.cache.store import Store

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_BYTES = 20 * 10**9
MEASUREMENTS = "measurements.sqlite"
RECORDS = r"[0-9a-f]{32}\.parquet"

Tell = Callable[[str], None]


class Cache:
    """A cache of earlier measurements.

    Several processes may use one directory at once, and any of them may be killed. A cache that cannot be used is
    no error: `tell` gets a sentence, and everything is measured. Whoever may write to the directory may choose figures,
    within what its metrics allow, and nothing else: see SECURITY.md.

    Args:
        directory: made when needed; None for a cache that keeps nothing.
        max_bytes: what the directory may hold; two tenths of it measurements, the rest factorizations.
        tell: gets what is wrong with the cache; by default it becomes a warning.
    """

    def __init__(self, directory: Path | None, *, max_bytes: int = DEFAULT_BYTES, tell: Tell = warnings.warn) -> None:
        self.directory = directory
        tenth = max_bytes // 10
        self.store = Store(directory / MEASUREMENTS if directory else None, max_bytes=tenth, tell=tell)
        records, of_w0 = (directory / "records", directory / "bases") if directory else (None, None)
        self.records = Shelf(records, names=RECORDS, max_bytes=tenth, tell=tell)
        self._bases = Shelf(of_w0, names=bases.NAMES, max_bytes=8 * tenth, tell=tell)

    @classmethod
    def off(cls) -> Cache:
        """A cache that keeps nothing."""
        return cls(None)

    @property
    def keeps(self) -> bool:
        """Whether it keeps anything for later sessions."""
        return self.directory is not None and self.store.works

    def base_state(self, digest: str, *, max_bytes: int) -> dict[str, Tensor] | None:
        """The stored factorization of the W0 with this digest, tensors by name on the CPU; None where there is none, or
        one of more than `max_bytes`."""
        return bases.load(self._bases, digest, max_bytes=max_bytes)

    def keep_base_state(self, digest: str, state: Mapping[str, Tensor]) -> None:
        """Store the factorization of the W0 with this digest, if there is room."""
        bases.keep(self._bases, digest, state)

    def close(self) -> None:
        """Write what is left, and make room."""
        self.store.close()


def parse_size(text: str) -> int:
    """Bytes that ``20GB`` or ``500 MB`` means. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,6})\s*(MB|GB|TB)", text.strip())
    if match is None:
        raise UsageError(f"cache size {text!r}: give a whole number with its unit: 500MB, 20GB, 1TB")
    return int(match.group(1)) * 10 ** {"MB": 6, "GB": 9, "TB": 12}[match.group(2)]


def require_outside(directory: Path, inputs: Iterable[tuple[str, Path]], *, option: str = "") -> None:
    """Raise UsageError where a cache directory is a file or lies in one of the `inputs`; see `geomcheck.files`."""
    files.require_outside(directory, inputs, option=option)
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{option}{directory} is a file; name a directory for the cache")
