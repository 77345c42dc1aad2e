"""What the parsers of the ``geomcheck`` command say about themselves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from docs.generate.text import prose
from geomcheck.cli.program import parser


def commands() -> Mapping[str, argparse.ArgumentParser]:
    """Parsers by subcommand, in the order of ``geomcheck --help``."""
    (sub,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(sub.choices)


def summaries() -> Mapping[str, str]:
    """One line per subcommand, as ``geomcheck --help`` has it."""
    (sub,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {choice.dest: choice.help or "" for choice in sub._choices_actions}


def command_table() -> str:
    """Every subcommand, with a link to its page."""
    rows = [f"| [`geomcheck {name}`]({name}.md) | {prose(about)} |" for name, about in summaries().items()]
    return "\n".join(["| command | |", "|---|---|", *rows])


def command_options(name: str) -> str:
    """Arguments and options of one subcommand."""
    rows = [f"| {call} | {about} |" for call, about in _arguments(commands()[name])]
    if not rows:
        return "It takes no arguments."
    return "\n".join(["| argument | meaning |", "|---|---|", *rows])


def _arguments(command: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in command._actions:
        if not isinstance(action, argparse._HelpAction):
            about = (action.help or "").replace("%%", "%")
            choices = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
            yield _call(action), prose(about + choices)


def _call(action: argparse.Action) -> str:
    value = str(action.metavar or action.dest)
    if not action.option_strings:
        return f"`{value}{' ...' if action.nargs in ('+', '*') else ''}`"
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"`{flag}{takes}`" for flag in action.option_strings).replace("|", "\\|")
