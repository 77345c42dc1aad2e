"""Let workers on other machines open the same files: by path or URL, and only if they find the same there."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from geomcheck.checkpoints import BaseWeights, Run, comparable, open_base, open_run
from geomcheck.checkpoints.remote import remote_file
from geomcheck.errors import GeomcheckError, RunError
from geomcheck.measurement.cache.identity import code
from geomcheck.measurement.task import Sources
from geomcheck.urls import named


@dataclass(frozen=True)
class Opening:
    """Where the sources of a measurement lie.

    Attributes:
        run, base, reference: absolute paths, or URLs.
        how: the rule that found W0.
        dequantized: whether fp8 weights are measured as fp32.
        checkpoints: names of the run's checkpoints, and of the reference's.
        files: digest of the names, sizes and modification times of all files; at a URL, of what marks their content.
        code: identity of the code that measures.
    """

    run: str
    base: str
    how: str
    dequantized: bool
    reference: str | None
    checkpoints: tuple[str, ...]
    files: str
    code: str

    @classmethod
    def of(cls, sources: Sources) -> Opening:
        """How to open `sources` elsewhere. Raises RunError where a file has vanished since."""
        run, base, reference = sources.run, sources.base, sources.reference
        return cls(
            run=named(run.address.absolute()),
            base=named(base.source.path.absolute()),
            how=base.how,
            dequantized=run.dequantized,
            reference=named(reference.address.absolute()) if reference else None,
            checkpoints=tuple(c.name for of in (run, reference) if of for c in of.checkpoints),
            files=_files(sources),
            code=code(),
        )


@lru_cache(maxsize=1)
def opened(opening: Opening) -> Sources:
    """The sources, opened on this machine; a worker keeps them for its next task. Raises RunError if they are not here,
    not the same, or the geomcheck here is another."""
    here = f"a Ray worker on {platform.node()}"
    if opening.code != code():
        raise RunError(f"{here} has another version of geomcheck, torch, numpy or scipy; install the same everywhere")
    try:
        run = open_run(opening.run)
        own = run.own_base and named(run.own_base.source.path.absolute()) == opening.base
        w0 = run.own_base if own else None
        alike = partial(comparable, dequantize=opening.dequantized)
        run, base = alike(run, w0 or open_base(opening.base, opening.how))
        reference = alike(open_run(opening.reference), base)[0] if opening.reference else None
        w0 = BaseWeights(base.source, opening.how)
        sources = Sources(_only(run, opening), w0, _only(reference, opening) if reference else None)
        same = Opening.of(sources) == opening
    except (GeomcheckError, OSError) as error:
        raise RunError(f"{here} cannot open the files: {error}. All nodes must see them at the same path") from error
    if not same:
        raise RunError(f"{here} sees other files below {opening.run}: all nodes must share one file system")
    return sources


def _only(run: Run, opening: Opening) -> Run:
    """`run` without the checkpoints that were written since."""
    return replace(run, checkpoints=tuple(c for c in run.checkpoints if c.name in opening.checkpoints))


def _files(sources: Sources) -> str:
    """Digest of the identities of all files. Raises RunError where one cannot be accessed."""
    paths = [path for source in sources.snapshots().values() for path in source.files]
    lie = {path: file for path in paths if (file := remote_file(path)) is not None}
    try:
        stats = [(str(path.absolute()), os.stat(path)) for path in paths if path not in lie]
    except OSError as error:
        raise RunError(
            f"{error.filename}: cannot be opened: {error.strerror}; if checkpoints are being removed or moved, measure "
            "again when that is over"
        ) from error
    known = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    remote = [(named(path), file.properties()) for path, file in lie.items()]
    return hashlib.blake2b(repr((known, remote)).encode(), digest_size=16).hexdigest()
