"""What every expectation of a suite may say; and from a YAML node to such a model, or what is wrong with the node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geomcheck.errors import Problem
from geomcheck.suite.language import fields
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.places import ALL, At
from geomcheck.suite.language.quantities import Refusal, closest, snake_case, spelled
from geomcheck.suite.language.selection import Selection

LEVELS = {
    "error": "A violation fails the session.",
    "warn": "A violation is shown as WARNED, and fails the session only under --geom-fail-on=warn.",
    "info": "A violation is shown as INFO, and fails nothing.",
}

ONLY_WITH = {
    "checkpoints": "Runs of two checkpoints or more.",
    "reference": "Sessions that are given a reference run with its weights (--geom-reference).",
}

AT_WORDS = ("when", "step", "steps", "checkpoint", "checkpoints", "where", "progress", "epoch", "from", "to")
WEIGHTS_WORDS = (
    "layers",
    "modules",
    "params",
    "tensors",
    "include",
    "exclude",
    "filter",
    "select",
    "on",
    "for",
    "layer",
    "module",
)
WHY_WORDS = (
    "reason",
    "because",
    "description",
    "comment",
    "message",
    "msg",
    "note",
    "notes",
    "doc",
    "about",
    "rationale",
)

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def _slug(raw: Any) -> str:
    if not isinstance(raw, str) or not _SLUG.fullmatch(raw):
        raise Refusal(
            f"{spelled(raw)} is not a slug: lower-case letters, digits, `_`, `.` and `-`, "
            f"beginning with a letter or digit{_meant_slug(raw)}"
        )
    return raw


def _meant_slug(raw: Any) -> str:
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return f'; quote it: `"{raw}"`'
    slug = re.sub(r"[^a-z0-9_.]+", "-", str(raw).lower()).strip("_.-") if isinstance(raw, str) else ""
    return f"; did you mean `{slug}`?" if slug else ""


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        quoted = f'; quote it: `"{raw}"`' if isinstance(raw, int | float) else ""
        raise Refusal(f"expected a text; found {spelled(raw)}{quoted}")
    return raw


TEXT_SCHEMA = {"type": "string", "minLength": 1}
TEXTS_SCHEMA = {"type": "array", "items": TEXT_SCHEMA, "minItems": 1}

Slug = Annotated[str, *fields.read_by(_slug, {"type": "string", "pattern": f"^{_SLUG.pattern}$"})]
Text = Annotated[str, *fields.read_by(_text, TEXT_SCHEMA)]

NOWHERE: Mapping[str, str] = MappingProxyType({})

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, populate_by_name=False)


class Statement(BaseModel):
    """What every expectation may say, whatever it is about."""

    model_config = STRICT

    id: Annotated[Slug, fields.called("name", "title", "label", "key")] = Field(
        description="Name of the expectation, unique in the suite.", examples=["stable-rank-band", "rotation"]
    )
    at: Annotated[At, *fields.AT, fields.called(*AT_WORDS)] = Field(
        ALL, description="The checkpoints; each must hold. Default: all."
    )
    weights: Annotated[Selection | None, *fields.WEIGHTS, fields.called(*WEIGHTS_WORDS)] = Field(
        None, description="Overrides the suite's `weights`."
    )
    level: Annotated[
        str, *fields.one_of(LEVELS), fields.called("severity", "warn", "error", "priority", "fail_on", "kind")
    ] = Field("error", description="What a violation is: a failure, a warning, or information.")
    only_with: Annotated[str, *fields.one_of(ONLY_WITH), fields.called("requires", "needs", "if", "given")] = Field(
        "", description="What it needs to be judged; without that it is information, and says what is missing."
    )
    why: Annotated[Text, fields.called(*WHY_WORDS)] = Field(
        "",
        description="The reason, shown on failure.",
        examples=["It left the band when the RL term leaked into the loss."],
    )


def validate(
    model: type[BaseModel], node: Node, *, what: str, elsewhere: Mapping[str, str] = NOWHERE
) -> tuple[Any, list[Problem]]:
    """An instance of `model` from `node`, or None with the problems.

    Args:
        what: names the thing in messages.
        elsewhere: what to say of keys that belong somewhere else.
    """
    try:
        return model.model_validate(node.plain()), []
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        return None, [problem for error in errors for problem in _translate(error, model, node, what, elsewhere)]


def validate_rest(model: type[BaseModel], node: Node) -> tuple[Any, Node]:
    """As `validate`, without the keys that are wrong: an instance of what is left, or None; and the node of it."""
    try:
        return model.model_validate(node.plain()), node
    except ValidationError as invalid:
        wrong = {error["loc"][0] for error in invalid.errors(include_url=False) if error["loc"]}
    rest = replace(node, value={key: value for key, value in node.value.items() if key not in wrong})
    try:
        return model.model_validate(rest.plain()), rest
    except ValidationError:
        return None, rest


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that `model` allows, as suites write them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def meant_key(model: type[BaseModel], key: str) -> str | None:
    """The key of `model` that `key` is another word for, or a misspelling of; None where it is neither."""
    allowed, plain = keys_of(model), snake_case(key)
    if plain in allowed:
        return plain
    for name, field in model.model_fields.items():
        if any(plain in note.words for note in field.metadata if isinstance(note, fields.AlsoCalled)):
            return field.alias or name
    return closest(key, allowed)


def _translate(
    error: Any, model: type[BaseModel], node: Node, what: str, elsewhere: Mapping[str, str]
) -> Iterator[Problem]:
    path = error["loc"]
    key = path[-1] if path else ""
    match error["type"]:
        case "missing":
            yield Problem(node.position, f"{what} needs `{key}`{_description(model, key)}")
        case "extra_forbidden":
            said = elsewhere.get(str(key)) or _unknown_key(str(key), model, what)
            yield Problem(node.locate(path, key=True), f"unknown key `{key}` in {what}{said}")
        case "value_error":
            refusal = error["ctx"]["error"]
            for part in refusal.parts if isinstance(refusal, Refusal) else (refusal,):
                inner = getattr(part, "path", ())
                yield Problem(node.locate((*path[:1], *inner)), f"`{path[0]}`: {part}")
        case "dict_type":
            yield Problem(node.locate(path), f"`{key}`: expected a mapping; found {spelled(error['input'])}")
        case _:
            yield Problem(node.locate(path), f"`{key}`: {error['msg']}; found {spelled(error['input'])}")


def _unknown_key(key: str, model: type[BaseModel], what: str) -> str:
    """What to say of a key that `what` does not have; only metrics' parameters may be none at all."""
    allowed = keys_of(model)
    if not allowed:
        return ": it has no parameters"
    word, colon, value = key.partition(":")
    if colon and word in allowed:
        return f"; a space is missing after the colon: `{word}: {value}`" if value else f"; did you mean `{word}`?"
    meant = meant_key(model, key)
    return f"; allowed: {', '.join(allowed)}" + (f"; did you mean `{meant}`?" if meant else "")


def _description(model: type[BaseModel], key: Any) -> str:
    for name, field in model.model_fields.items():
        if key in (name, field.alias) and field.description:
            return f": {field.description[0].lower()}{field.description[1:]}".rstrip(".")
    return ""
