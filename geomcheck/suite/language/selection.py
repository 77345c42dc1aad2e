"""Which weights an expectation looks at: a role in the network, a stack of layers, or globs over names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args

from geomcheck.checkpoints.roles import LINEAR, Role
from geomcheck.checkpoints.weights import Layers, Weight
from geomcheck.suite.language.quantities import Refusal, did_you_mean, spelled
from geomcheck.suite.verdict import Unanswerable

ROLES = {
    "attention": "The projections of attention: q, k, v and o of every layer, however they are stored.",
    "mlp": "The projections of the MLPs: gate, up and down of every layer, experts and their routers included.",
    "linear": "Every linear map inside the network: attention, MLPs, mixers, projectors; no embeddings, heads, norms.",
    "all": "Every matrix.",
}
"""The words for weights, with their meanings."""

_OF_ROLE: dict[str, frozenset[Role]] = {
    "attention": frozenset({"attention"}),
    "mlp": frozenset({"mlp", "router"}),
    "linear": LINEAR,
    "all": frozenset(get_args(Role)),
}

_KEYS = ("role", "stack", "include", "exclude")
_ALLOWED = "`attention`, `mlp`, `linear`, `all` or `{role: ..., stack: ..., include: [globs], exclude: [globs]}`"


@dataclass(frozen=True)
class Selection:
    """Matrices of one `role`, or, where `include` is given, those whose names match; in the layers of one `stack`.

    Globs match whole names, case-sensitively; `exclude` takes from what the others select. A stack is named as reports
    name it (``decoder``), or by a part of its path: ``vision_tower`` is every stack under ``model.vision_tower``.
    """

    role: str = "linear"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    stack: str = ""

    @property
    def text(self) -> str:
        """For people."""
        parts = [f"include {', '.join(self.include)}" if self.include else self.role]
        if self.stack:
            parts.append(f"stack {self.stack}")
        if self.exclude:
            parts.append(f"exclude {', '.join(self.exclude)}")
        return "; ".join(parts)

    @property
    def plain(self) -> str | dict[str, str | list[str]]:
        """As a suite states it."""
        if not (self.include or self.exclude or self.stack):
            return self.role
        role = "" if self.include or self.role == DEFAULT.role else self.role
        stated: dict[str, str | list[str]] = {
            "role": role,
            "stack": self.stack,
            "include": [*self.include],
            "exclude": [*self.exclude],
        }
        return {key: value for key, value in stated.items() if value}

    def select(self, weights: Mapping[str, Weight]) -> list[Weight]:
        """The selected matrices, by name.

        Raises Unanswerable where there are none, there is no such stack, or a glob matches no weight.
        """
        matrices = [weight for _, weight in sorted(weights.items()) if weight.is_matrix]
        for glob in (*self.include, *self.exclude):
            _require_match(glob, matrices, weights)
        stacks = _stacks_called(self.stack, Layers(matrices).stacks) if self.stack else None
        chosen = [w for w in matrices if self._selects(w) and (stacks is None or w.stack in stacks)]
        if not chosen:
            raise Unanswerable(
                f"no weight matches `weights: {self.text}`{_examples(weight.name for weight in matrices)}"
            )
        return chosen

    def _selects(self, weight: Weight) -> bool:
        if any(fnmatchcase(weight.name, glob) for glob in self.exclude):
            return False
        if self.include:
            return any(fnmatchcase(weight.name, glob) for glob in self.include)
        return weight.role in _OF_ROLE[self.role]


DEFAULT = Selection()


def parse_selection(raw: Any) -> Selection:
    """Read the value of ``weights``. Raises Refusal."""
    if isinstance(raw, str):
        if raw in ROLES:
            return Selection(raw)
        raise Refusal(f"`{raw}` names no set of weights; allowed: {_ALLOWED}{did_you_mean(raw, [*ROLES])}")
    if not isinstance(raw, dict) or not raw:
        raise Refusal(f"found {spelled(raw)} for weights; allowed: {_ALLOWED}")
    for key, value in raw.items():
        if key not in _KEYS:
            raise Refusal(f"unknown key `{key}` for weights; allowed: {_ALLOWED}{did_you_mean(key, _KEYS)}")
        if key == "role" and (not isinstance(value, str) or value not in ROLES):
            hint = did_you_mean(value, [*ROLES]) if isinstance(value, str) else ""
            raise Refusal(f"found {spelled(value)} for `role`; allowed: {', '.join(ROLES)}{hint}", path=(key,))
        if key == "stack" and (not isinstance(value, str) or not value):
            raise Refusal(f"`stack` is a name, such as `decoder`; found {spelled(value)}", path=(key,))
        if key in ("role", "stack"):
            continue
        if not isinstance(value, list) or not value:
            raise Refusal(f"`{key}` is a list of globs; found {spelled(value)}", path=(key,))
        for index, glob in enumerate(value):
            if not isinstance(glob, str) or not glob:
                raise Refusal(f"a glob is a text; found {spelled(glob)}", path=(key, index))
    if "role" in raw and "include" in raw:
        raise Refusal("`include` names weights of any role: leave out `role`, or `include`", path=("role",))
    include, exclude = (tuple(raw.get(key, ())) for key in ("include", "exclude"))
    return Selection(raw.get("role", DEFAULT.role), include, exclude, raw.get("stack", ""))


def _stacks_called(name: str, stacks: Mapping[str, str]) -> set[str]:
    """The paths of the stacks with this name, or with this part of a path. Raises Unanswerable where there is none."""
    found = {path for path, called in stacks.items() if name in (called, path)}
    found = found or {path for path in stacks if f".{name}." in f".{path}."}
    if not found:
        there = ", ".join(sorted(stacks.values())) or "no layers"
        raise Unanswerable(f"no stack is called `{name}`; the run has {there}{did_you_mean(name, [*stacks.values()])}")
    return found


def _require_match(glob: str, matrices: list[Weight], weights: Mapping[str, Weight]) -> None:
    if any(fnmatchcase(weight.name, glob) for weight in matrices):
        return
    if any(fnmatchcase(name, glob) for name in weights):
        raise Unanswerable(f"`{glob}` matches only weights that are not matrices; diagnostics are of matrices")
    close = did_you_mean(glob, tuple(weights))
    raise Unanswerable(f"`{glob}` matches no weight of the run{_examples(weight.name for weight in matrices)}{close}")


def _examples(names: Iterable[str]) -> str:
    listed = sorted(names)
    if not listed:
        return ""
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return f"; it has {', '.join(listed[:3])}{more}"
