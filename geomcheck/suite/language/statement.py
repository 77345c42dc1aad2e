"""What every expectation of a suite may say, whatever it is about."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from geomcheck.suite.language import fields
from geomcheck.suite.language.places import ALL, At
from geomcheck.suite.language.quantities import Refusal, spelled
from geomcheck.suite.language.selection import Selection

LEVELS = {
    "error": "A violation fails the session.",
    "warn": "A violation is shown as WARNED, and fails the session only under --geom-fail-on=warn.",
    "info": "A violation is shown as INFO, and fails nothing.",
}

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def _slug(raw: Any) -> str:
    if not isinstance(raw, str) or not _SLUG.fullmatch(raw):
        raise Refusal(
            f"{spelled(raw)} is not a slug: lower-case letters, digits, `_`, `.` and `-`, "
            "beginning with a letter or digit"
        )
    return raw


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise Refusal(f"expected a text; found {spelled(raw)}")
    return raw


TEXT_SCHEMA = {"type": "string", "minLength": 1}
TEXTS_SCHEMA = {"type": "array", "items": TEXT_SCHEMA, "minItems": 1}

Slug = Annotated[str, *fields.read_by(_slug, {"type": "string", "pattern": f"^{_SLUG.pattern}$"})]
Text = Annotated[str, *fields.read_by(_text, TEXT_SCHEMA)]

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, populate_by_name=False)


class Statement(BaseModel):
    """What every expectation may say, whatever it is about."""

    model_config = STRICT

    id: Slug = Field(
        description="Name of the expectation, unique in the suite.", examples=["stable-rank-band", "rotation"]
    )
    at: Annotated[At, *fields.AT] = Field(ALL, description="The checkpoints; each must hold. Default: all.")
    weights: Annotated[Selection | None, *fields.WEIGHTS] = Field(None, description="Overrides the suite's `weights`.")
    level: Annotated[str, *fields.one_of(LEVELS)] = Field(
        "error", description="What a violation is: a failure, a warning, or information."
    )
    why: Text = Field(
        "",
        description="The reason, shown on failure.",
        examples=["It left the band when the RL term leaked into the loss."],
    )
