"""Marked parts of pages: a line ``<!-- generated: KIND ARGUMENT -->`` stands for what `KINDS` writes there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from docs.generate.commands import command_options, command_table
from docs.generate.defects import defect_table
from docs.generate.factors import factor_table
from docs.generate.findings import finding_list
from docs.generate.options import option_table
from docs.generate.python import api
from docs.generate.trust import trust_table

KINDS: Mapping[str, Callable[[str], str]] = {
    "api": api,
    "command": command_options,
    "commands": lambda _: command_table(),
    "defects": lambda _: defect_table(),
    "factors": lambda _: factor_table(),
    "findings": lambda _: finding_list(),
    "options": lambda _: option_table(),
    "trust": lambda _: trust_table(),
}

_MARK = re.compile(r"^<!-- generated: (\w+) ?([\w.-]*) -->$", re.MULTILINE)


def filled(page: str) -> str:
    """`page` with its marked parts written."""
    return _MARK.sub(lambda mark: KINDS[mark[1]](mark[2]), page)
