"""Which weights an expectation looks at: a role in the network, a stack of layers, or globs over names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args

from geomcheck._text import and_more
from geomcheck.checkpoints.roles import LINEAR, Role
from geomcheck.checkpoints.weights import Layers, Weight, is_weight
from geomcheck.suite.language.quantities import Refusal, Refusals, did_you_mean, spelled
from geomcheck.suite.verdict import Unanswerable

ROLES = {
    "attention": "The projections of attention: q, k, v and o of every layer, however they are stored.",
    "mlp": "The projections of the MLPs: gate, up and down of every layer, experts and their routers included.",
    "linear": "Every linear map inside the network: attention, MLPs, mixers, projectors; no embeddings, heads, norms.",
    "all": "Every matrix.",
    "norms": "The weights of normalization layers.",
    "biases": "The biases, of whatever layer.",
    "embeddings": "Tables that are looked up: of tokens, positions, kinds of tokens.",
    "heads": "The output embeddings, and classifiers in their place.",
    "routers": "What sends tokens to experts.",
    "vectors": "Every tensor that is no matrix, such as norms, biases and scales.",
    "trained": "Every matrix that the run trains: all but those that an adapter leaves to W0, and new heads.",
    "everything": "Every tensor of numbers, of any role and shape, but for buffers.",
}
"""The words for weights, with their meanings."""

_SAME = {
    "include": ("only", "match", "names", "select", "in"),
    "exclude": ("not", "skip", "except", "ignore", "without"),
    "role": ("kind", "type", "of"),
    "stack": ("scope", "tower", "part", "model"),
}
"""Other words for the keys."""

_REGEX = re.compile(r"^\.\*|^\^|\$$|\.\+|\\[.dwsbSWD]|(?<=[\w)*])\|(?=[\w(*])")
"""What regular expressions have, and names of runs and weights do not."""

_ANY: frozenset[Role] = frozenset(get_args(Role))

_MATRICES: dict[str, frozenset[Role]] = {
    "attention": frozenset({"attention"}),
    "mlp": frozenset({"mlp", "router"}),
    "linear": LINEAR,
    "all": _ANY,
    "trained": _ANY,
}
"""The roles of which matrices alone are meant."""

_TENSORS: dict[str, frozenset[Role]] = {
    "norms": frozenset({"norm"}),
    "biases": frozenset({"bias"}),
    "embeddings": frozenset({"embedding", "table"}),
    "heads": frozenset({"head"}),
    "routers": frozenset({"router"}),
    "vectors": _ANY - {"buffer"},
    "everything": _ANY - {"buffer"},
}
"""The roles of which tensors of any shape are meant."""

NO_MATRICES = ("norms", "biases", "vectors", "everything")
"""Words for weights that are not, or not all, matrices: there is nothing of them to factorize."""

_KEYS = ("role", "stack", "include", "exclude")
_MAPPING = "`{role: ..., stack: ..., include: [globs], exclude: [globs]}`"
_ALLOWED = f"{', '.join(f'`{role}`' for role in ROLES)} or {_MAPPING}"


@dataclass(frozen=True)
class Selection:
    """Weights of one `role`, or, where `include` is given, those whose names match; in the layers of one `stack`.

    A glob means the matrices that it matches, and where it matches none, the other tensors. Globs match whole names,
    case-sensitively; `exclude` takes from what the others select. A stack is named as reports name it (``decoder``), or
    by a part of its path: ``vision_tower`` is every stack under ``model.vision_tower``. `new` says whether tensors of a
    role are meant too that W0 lacks.
    """

    role: str = "linear"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    stack: str = ""
    new: bool = True

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
        """The selected weights, by name.

        Raises Unanswerable where there are none, there is no such stack, or a glob matches no weight.
        """
        tensors = [weight for _, weight in sorted(weights.items()) if is_weight(weight)]
        matrices = [weight for weight in tensors if weight.is_matrix]
        left = tensors if self.role in _TENSORS and not self.include else matrices
        for glob in self.include:
            _require_match(glob, tensors, weights)
        for glob in self.exclude:
            _require_match(glob, tensors if self.include else left, weights)
        chosen = self._included(tensors) if self.include else self._of_role(left)
        if self.stack:
            stacks = _stacks_called(self.stack, Layers(matrices).stacks)
            chosen = [weight for weight in chosen if weight.stack in stacks]
        chosen = [weight for weight in chosen if not any(fnmatchcase(weight.name, glob) for glob in self.exclude)]
        if not chosen:
            raise Unanswerable(f"no weight matches `weights: {self.text}`{_examples(weight.name for weight in left)}")
        return chosen

    def matrices(self, weights: Mapping[str, Weight], metric: str) -> list[Weight]:
        """The selected weights, for figures of `metric`, which only matrices have. Raises Unanswerable."""
        chosen = self.select(weights)
        others = [weight for weight in chosen if not weight.is_matrix]
        if others:
            shape = "x".join(map(str, others[0].shape)) or "one number"
            raise Unanswerable(
                f"{metric} is of matrices, and {others[0].name} ({shape}){and_more(len(others))} is none; "
                "exclude such weights, or take a metric of entries, such as relative_update_norm"
            )
        return chosen

    def _included(self, tensors: Sequence[Weight]) -> list[Weight]:
        names: set[str] = set()
        for glob in self.include:
            matched = [weight for weight in tensors if fnmatchcase(weight.name, glob)]
            matrices = [weight for weight in matched if weight.is_matrix]
            names |= {weight.name for weight in matrices or matched}
        return [weight for weight in tensors if weight.name in names]

    def _of_role(self, weights: Sequence[Weight]) -> list[Weight]:
        roles, trained = {**_MATRICES, **_TENSORS}[self.role], self.role == "trained"
        chosen = [weight for weight in weights if weight.role in roles and not (weight.lent and trained)]
        if self.role == "vectors":
            chosen = [weight for weight in chosen if not weight.is_matrix]
        return chosen if self.new and not trained else [weight for weight in chosen if not weight.new]


@dataclass(frozen=True)
class Named(Selection):
    """The weights of these `names`, of whatever role."""

    names: frozenset[str] = frozenset()

    def select(self, weights: Mapping[str, Weight]) -> list[Weight]:
        """Those of `weights`, by name."""
        return [weight for name, weight in sorted(weights.items()) if name in self.names]


DEFAULT = Selection()


def parse_selection(raw: Any) -> Selection:
    """Read the value of ``weights``. Raises Refusal."""
    if isinstance(raw, str):
        if raw in ROLES:
            return Selection(raw)
        looks_like_name = re.search(r"[*?\[._\d]", raw)
        meant = f'; did you mean `{{include: ["{starred(raw)}"]}}`?' if looks_like_name else ""
        raise Refusal(f"`{raw}` names no set of weights; allowed: {_ALLOWED}{meant or did_you_mean(raw, [*ROLES])}")
    if not isinstance(raw, dict) or not raw:
        both = isinstance(raw, list) and sorted(map(str, raw)) == ["attention", "mlp"]
        hint = "; did you mean `linear`, which is both?" if both else ""
        raise Refusal(f"found {spelled(raw)} for weights; allowed: {_ALLOWED}{hint}")
    with Refusals() as refusals:
        for key, value in raw.items():
            with refusals.at(key):
                _require_value(key, value)
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


def parse_words(text: str) -> Selection:
    """Read a role, or globs with commas between them: ``*q_proj*,!*layers.0.*``. Globs to leave out take from the
    others, or else from `DEFAULT`, as in a suite. Raises Refusal."""
    words = [word.strip() for word in text.split(",")]
    if text in ROLES:
        return Selection(text)
    if len(words) == 1 and not _is_glob(text):
        hint = did_you_mean(text, [*ROLES])
        raise Refusal(f"`{text}` names no set of weights; allowed: {', '.join(ROLES)}, or globs over names{hint}")
    for word in words:
        if not word.removeprefix("!"):
            raise Refusal(f"`{text}` has an empty glob; write globs with commas between them")
        if not _is_glob(word):
            raise Refusal(f"`{word}` stands beside other words; give one role ({', '.join(ROLES)}), or globs alone")
        require_glob(word, word.removeprefix("!"))
    exclude = tuple(word.removeprefix("!") for word in words if word.startswith("!"))
    return Selection(include=tuple(word for word in words if not word.startswith("!")), exclude=exclude)


def _is_glob(word: str) -> bool:
    """Whether a word is meant for names of weights: these have dots."""
    return word.startswith("!") or any(character in word for character in "*?[.")


def _require_value(key: str, value: Any) -> None:
    if key not in _KEYS:
        meant = next((known for known, others in _SAME.items() if key in others), None)
        hint = f"; did you mean `{meant}`?" if meant else did_you_mean(key, _KEYS)
        raise Refusal(f"unknown key `{key}` for weights; allowed: {_ALLOWED}{hint}")
    if key == "role":
        if not isinstance(value, str) or value not in ROLES:
            hint = did_you_mean(value, [*ROLES]) if isinstance(value, str) else ""
            raise Refusal(f"found {spelled(value)} for `role`; allowed: {', '.join(ROLES)}{hint}")
        return
    if key == "stack":
        if not isinstance(value, str) or not value:
            raise Refusal(f"`stack` is a name, such as `decoder`; found {spelled(value)}")
        return
    if not isinstance(value, list) or not value:
        hint = f'; did you mean `["{value}"]`?' if isinstance(value, str) and value else ""
        raise Refusal(f"`{key}` is a list of globs; found {spelled(value)}{hint}")
    with Refusals() as refusals:
        for index, glob in enumerate(value):
            with refusals.at(index):
                if not isinstance(glob, str) or not glob:
                    raise Refusal(f"a glob is a text; found {spelled(glob)}")
                require_glob(glob, glob)


def require_glob(written: str, glob: str) -> None:
    """Refuse what is a regular expression, or has typographic quotes, and so would match nothing without a word.

    Raises Refusal.
    """
    if glob[:1] in "\u201c\u201d\u2018\u2019\u00ab\u00bb" or glob[-1:] in "\u201c\u201d\u2018\u2019\u00ab\u00bb":
        raise Refusal(f'`{written}` has typographic quotes, which YAML takes as letters; write `"{glob[1:-1]}"`')
    if _REGEX.search(glob):
        words = [part for part in re.split(r"[\^$|()]+|\.[*+?]|\\.[*+]?", glob) if part]
        meant = " or ".join(f'`"{"!" if written != glob else ""}*{word}*"`' for word in words) or '`"*"`'
        raise Refusal(f"`{written}` is a regular expression, and patterns are globs; did you mean {meant}?")


def starred(glob: str) -> str:
    """`glob` so that it matches a part of a name."""
    return glob if set(glob) & set("*?[") else f"*{glob}*"


def _require_match(glob: str, candidates: Sequence[Weight], weights: Mapping[str, Weight]) -> None:
    if any(fnmatchcase(weight.name, glob) for weight in candidates):
        return
    if any(fnmatchcase(name, glob) for name in weights):
        raise Unanswerable(f"`{glob}` matches only tensors that are not selected anyway")
    part = starred(glob)
    inside = part != glob and any(fnmatchcase(weight.name, part) for weight in candidates)
    close = f"; globs match whole names: did you mean `{part}`?" if inside else did_you_mean(glob, tuple(weights))
    raise Unanswerable(f"`{glob}` matches no weight of the run{_examples(weight.name for weight in candidates)}{close}")


def _examples(names: Iterable[str]) -> str:
    listed = sorted(names)
    if not listed:
        return ""
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return f"; it has {', '.join(listed[:3])}{more}"
