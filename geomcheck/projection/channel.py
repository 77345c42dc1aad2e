"""The channel of projected training: V by canonical weight name, from wherever it is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from geomcheck.checkpoints import BaseWeights, Run, find_base, open_base, open_run
from geomcheck.checkpoints.constraint import CHANNEL_FILE, Drawn
from geomcheck.checkpoints.formats.safetensors_file import SafetensorsFile
from geomcheck.checkpoints.weights import describe
from geomcheck.errors import RunError, Undefined, UsageError
from geomcheck.files import replacing
from geomcheck.projection.learned import (
    Found,
    Moment,
    channels_of_live,
    channels_of_run,
    require_narrow,
    require_unchanged,
)
from geomcheck.projection.parameters import canonical_parameters, selected
from geomcheck.record import Record, read_record
from geomcheck.suite.language.selection import DEFAULT, Selection

ORTHONORMAL = 1e-4
"""Largest entry of |V^T V - I| in a file that is read."""


@dataclass(frozen=True, eq=False)
class Channel:
    """A subspace of the input side of each of some weights.

    Attributes:
        vectors: V by canonical weight name: orthonormal columns, shape (in, k), fp32, on the CPU.
        k: columns of each.
        drawn: ``learned`` or ``random``.
        source: where it was taken from, for people.
        seed: of a random one.

    Raises:
        UsageError: there is no weight, or `k` is not below the `in` of each: such a channel constrains nothing. Or
            a V is not (in, k) with orthonormal columns, or the seed is not that of a random channel.
    """

    vectors: Mapping[str, Tensor]
    k: int
    drawn: Drawn
    source: str
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.vectors:
            raise UsageError(f"the channel from {self.source} has no weight")
        require_narrow(self.k, {name: v.shape[0] for name, v in self.vectors.items()})
        for name, v in self.vectors.items():
            if fault := _fault(v, self.k):
                raise UsageError(f"{name} of the channel from {self.source}: {fault}")
        seeded = type(self.seed) is int and self.seed >= 0
        if seeded != (self.drawn == "random") or (self.seed is not None and not seeded):
            raise UsageError(f"the {self.drawn} channel has seed {self.seed!r}; a random one, and no other, has one")

    # ---- from training

    @classmethod
    def of_run(
        cls,
        run: Run | str | Path,
        *,
        k: int = 16,
        at: Moment = "20%",
        base: BaseWeights | str | Path | None = None,
        weights: Selection = DEFAULT,
        leave_out_undefined: bool = False,
    ) -> Channel:
        """V_K of a run: the top-k right singular vectors of D = W_t - W0 at the checkpoint nearest `at`.

        Args:
            run: a run, or its directory.
            at: a share of the training, ``first``, ``last`` or a step.
            base: W0; by default what the run itself provides.
            weights: which matrices; by default the linear ones of layers.
            leave_out_undefined: go without weights that have no V (D = 0, rank below k, tied singular values)
                instead of refusing.

        Raises:
            UsageError: no such run, W0 or checkpoint, k is too large, or V is undefined.
            RunError: the files cannot be read or trusted.

        Source: arXiv 2606.07082 (K = 16 at 20% of training).
        """
        opened = run if isinstance(run, Run) else open_run(run)
        given = open_base(base, "the given base") if isinstance(base, str | Path) else base
        w0 = find_base(opened, given=given)
        where, found = channels_of_run(opened, w0, k=k, at=at, weights=weights)
        return cls.of_found(found, k, f"{where} of {opened.name}", leave_out_undefined=leave_out_undefined)

    @classmethod
    def of_record(
        cls,
        record: Record | str | Path,
        *,
        k: int = 16,
        at: Moment = "20%",
        weights: Selection = DEFAULT,
        leave_out_undefined: bool = False,
    ) -> Channel:
        """V_K of the run that a record was measured on, which holds figures but no vectors.

        Raises:
            UsageError: that run or its W0 is not there any more; give the run itself. Otherwise as `of_run`.
            RunError: W0 or the checkpoint has changed since.
            RecordError: it is no record.
        """
        known = record if isinstance(record, Record) else read_record(record)
        try:
            run, base = open_run(known.path), open_base(known.origin.path, known.origin.how)
        except UsageError as error:
            raise UsageError(
                f"the record of {known.run} holds figures, not V, and what it was measured on cannot be opened "
                f"({error}); give the run's directory"
            ) from error
        require_unchanged(known, run, base, at)
        return cls.of_run(run, k=k, at=at, base=base, weights=weights, leave_out_undefined=leave_out_undefined)

    @classmethod
    def of_live(
        cls,
        named_parameters: Iterable[tuple[str, Tensor]],
        base: BaseWeights | str | Path,
        k: int = 16,
        *,
        weights: Selection = DEFAULT,
        source: str = "the live trajectory",
        leave_out_undefined: bool = False,
    ) -> Channel:
        """V_K of W - W0, where W is what the parameters are now.

        Args:
            named_parameters: as ``model.named_parameters()`` gives them; where they are sharded, all ranks call this.
            base: W0 on disk.

        Raises:
            UsageError: W0 is not of this model, k is too large, or V is undefined.
            RunError: W0 cannot be read.
        """
        w0 = open_base(base, "the given base") if isinstance(base, str | Path) else base
        chosen = selected(canonical_parameters(named_parameters), weights)
        require_narrow(k, {name: parameter.shape[1] for name, parameter in chosen.items()})
        found = channels_of_live(chosen, w0, k=k)
        return cls.of_found(found, k, source, leave_out_undefined=leave_out_undefined)

    @classmethod
    def of_found(cls, found: Found, k: int, source: str, *, leave_out_undefined: bool = False) -> Channel:
        """The channel of the weights that have one. Raises UsageError where any has none, unless they are left out."""
        undefined = {name: reason for name, reason in found.items() if isinstance(reason, Undefined)}
        if undefined and (not leave_out_undefined or len(undefined) == len(found)):
            shown = "".join(f"\n  {name}: {reason}" for name, reason in list(undefined.items())[:20])
            raise UsageError(
                f"{source}: V is undefined for {len(undefined)} of {len(found)} weights:{shown}\n"
                "take a smaller k or a later checkpoint, select other weights, or ask to leave these out "
                "(leave_out_undefined=True)"
            )
        vectors = {name: v.float().cpu().contiguous() for name, v in found.items() if isinstance(v, Tensor)}
        return cls(vectors, k, "learned", source)

    # ---- the control

    @classmethod
    def random(cls, shapes: Mapping[str, tuple[int, ...]], k: int, seed: int) -> Channel:
        """A uniformly random channel of each weight: the control for a learned one.

        A weight's V depends on its name, its `in`, `k` and `seed` alone.

        Args:
            shapes: (out, in) by canonical weight name.

        Raises:
            UsageError: k is not below every `in`.
        """
        require_narrow(k, {name: shape[1] for name, shape in shapes.items()})
        vectors = {name: _drawn(name, shape[1], k, seed) for name, shape in shapes.items()}
        return cls(vectors, k, "random", f"random, seed {seed}", seed)

    def of(self, weights: Selection) -> Channel:
        """The channel of some of its weights. Raises Unanswerable where none is selected."""
        described = {name: describe(name, (v.shape[0], v.shape[0])) for name, v in self.vectors.items()}
        kept = {weight.name: self.vectors[weight.name] for weight in weights.matrices(described, "a channel")}
        return Channel(kept, self.k, self.drawn, self.source, self.seed)

    # ---- files

    def save(self, directory: str | Path) -> Path:
        """Write `CHANNEL_FILE` into a directory. Raises UsageError where it cannot be written."""
        path = Path(directory) / CHANNEL_FILE
        seed = {} if self.seed is None else {"seed": str(self.seed)}
        metadata = {"channel": self.drawn, "k": str(self.k), "source": self.source, **seed}
        with replacing(path) as partial:
            save_file({name: v.contiguous() for name, v in self.vectors.items()}, partial, metadata=metadata)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Channel:
        """Read what `save` wrote.

        Args:
            path: the file, or the directory that holds it.

        Raises:
            RunError: it is not there, damaged, or not such a file.
        """
        file = Path(path) / CHANNEL_FILE if Path(path).is_dir() else Path(path)
        opened = SafetensorsFile(file, root=file.parent.resolve())
        known = opened.metadata
        drawn = next((word for word in get_args(Drawn) if word == known.get("channel")), None)
        k, seed = (_number(known.get(key)) for key in ("k", "seed"))
        if drawn is None or k is None or (seed is None) != (drawn == "learned") or not known.get("source"):
            raise RunError(f"{file}: no channel, or damaged: its header says {ascii(dict(known))[:200]}")
        vectors = {name: opened.read(name).clone() for name in opened.weights}
        try:
            return cls(vectors, k, drawn, known["source"], seed)
        except UsageError as error:
            raise RunError(f"{file}: {error}; it is damaged") from error


def _drawn(name: str, width: int, k: int, seed: int) -> Tensor:
    """The span of k Gaussian vectors, which is uniformly distributed."""
    content = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(content))
    return torch.linalg.qr(torch.randn(width, k, generator=generator, dtype=torch.float64)).Q.float()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else None


def _fault(v: Tensor, k: int) -> str | None:
    """Why a tensor is no V, or None."""
    if v.dtype != torch.float32 or v.dim() != 2 or v.shape[1] != k:
        return f"it is {v.dtype} {tuple(v.shape)}, not V (in, {k}) in fp32"
    off = float((v.double().T @ v.double() - torch.eye(k, dtype=torch.float64)).abs().max())
    return None if off <= ORTHONORMAL else f"its columns are not orthonormal (off by {off:.2g})"
