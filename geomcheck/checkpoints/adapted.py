"""The model that an adapter makes of W0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomcheck.checkpoints.pairing import likeness
from geomcheck.checkpoints.source import Change, Stored, WeightSource, Wrapped
from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class Adapted(Wrapped):
    """All weights of W0 with the changes of an adapter, both under canonical names. A weight that the adapter leaves
    alone is W0's own: frozen.

    Args:
        is_target: whether the adapter's settings say that a module has factors. Where there are none for it, its weight
            is no less one of the run, that did not move.
    """

    def __init__(
        self, base: WeightSource, adapter: WeightSource, is_target: Callable[[str], bool] = lambda _: False
    ) -> None:
        super().__init__(adapter)
        self._base = base
        self._is_target = is_target

    @property
    def files(self) -> tuple[Path, ...]:
        """The adapter's and W0's."""
        return tuple(sorted({*self._source.files, *self._base.files}))

    @property
    def config(self) -> Mapping[str, Any]:
        """W0's. Raises RunError."""
        return self._base.config

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every weight of the model; one that changes counts as fp32. Raises RunError where a header cannot be read;
        UsageError where W0 is quantized, or of another model than the adapter."""
        before, after = self._base.weights, self._source.weights
        self._require_same_model(before, after)
        lost = {
            name: replace(stored)
            for name, stored in before.items()
            if name not in after and self._is_target(name.removesuffix(".weight"))
        }
        return {**before, **lost, **after}

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor | Change:
        """The change of a weight, or W0's own. Raises RunError."""
        source = self._source if name in self._source.weights else self._base
        return source.read(name, at)

    def _require_same_model(self, before: Mapping[str, Stored], after: Mapping[str, Stored]) -> None:
        """Refuse a W0 in which a layer's adapter has no place: its counterpart would pass for a frozen weight.

        Embeddings and heads may be new, or resized; the survey says so of each.
        """
        roles = {name: describe(name, stored.shape).role for name, stored in after.items() if len(stored.shape) > 1}
        in_layers = sorted(name for name, role in roles.items() if role in ("attention", "mlp", "router"))
        quantized = any(name in before and before[name].dtype not in FORMATS for name in in_layers)
        alien = [name for name in in_layers if name not in before or before[name].shape != after[name].shape]
        if quantized or (alien and self._base.config.get("quantization_config")):
            raise UsageError(
                f"W0 ({self._base.path}) is quantized: W0 + B A would say more about the quantization than about the "
                "training. Give the model in full precision with --geom-base"
            )
        if alien:
            there = before[alien[0]].shape if alien[0] in before else "missing"
            nearest = likeness(alien[0], before)
            raise UsageError(
                f"W0 ({self._base.path}) is not the model that the adapter {self.path} was trained on, or names its "
                f"weights in another way: {len(alien)} of {len(in_layers)} do not fit. For example {alien[0]}: "
                f"{after[alien[0]].shape} in the adapter, {there} in W0{nearest}. Give the model that this run started "
                "from, with --geom-base, or merge the adapter"
            )
