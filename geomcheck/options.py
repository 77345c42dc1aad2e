"""The options of geomcheck, each declared once.

From a declaration follow the option of pytest with its ini value, the option of the same meaning of a ``geomcheck``
command, what is done to a value, which values must be written with ``=``, and the row of the documentation.
Imported at every start of pytest, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import Namespace

    import pytest

OURS = 0.8
"""How like one of ours an option must be that pytest does not know: a project may have its own ``--geom-...``."""


@dataclass(frozen=True)
class Output:
    """What an option makes a session leave.

    Attributes:
        label: the file in a word, for the summary.
        write: the function that writes it, as ``module:function``. It takes the path and what the session found, and
            returns the paths that it wrote where they are others.
        also: the function that tells what it needs measured beside the expectations, as ``module:function``.
    """

    label: str
    write: str
    also: str = ""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option: ``--geom-NAME`` of pytest, ``--NAME`` of a command.

    Attributes:
        name: without dashes before it.
        help: what it means, in one clause.
        otherwise: what holds where it is not given, in words; by default those of `default`.
        more: what the documentation adds.
        metavar: what stands for the value; by default PATH or the choices.
        path: the value may name a file or directory: ``~`` is expanded, and it is never empty.
        flag: it takes no value.
        alone: what it means without a value, where that may be left out.
        repeatable: it may be given several times.
        choices: the values that it takes, where they are few.
        default: the value where neither the command line nor the ini file gives one.
        ini: the ini file may give the value too; where it is a list, under a name in the plural.
        ini_help: what the ini value means, where that is something else.
        output: what it makes a session write.
    """

    name: str
    help: str
    otherwise: str = ""
    more: str = ""
    metavar: str | None = None
    path: bool = False
    flag: bool = False
    alone: str | None = None
    repeatable: bool = False
    choices: tuple[str, ...] = ()
    default: str | None = None
    ini: bool = False
    ini_help: str = ""
    output: Output | None = None

    @property
    def flagged(self) -> str:
        """The option as pytest's command line has it."""
        return f"--geom-{self.name}"

    @property
    def key(self) -> str:
        """Its name in pytest's namespace."""
        return f"geom_{self.name}".replace("-", "_")

    @property
    def ini_key(self) -> str:
        """Its name in the ini file."""
        return f"{self.key}s" if self.repeatable else self.key

    @property
    def value(self) -> str:
        """What stands for the value; empty for a flag."""
        return "" if self.flag else self.metavar or "|".join(self.choices) or "PATH"

    @property
    def usage(self) -> str:
        """The option with its value, as it is written."""
        value = "" if self.flag else f"={self.value}"
        return f"{self.flagged}{f'[{value}]' if self.alone is not None else value}"

    @property
    def about(self) -> str:
        """What it means, what holds where it is not given, and whether it may be given several times."""
        otherwise = self.otherwise or self.default
        return f"{self.help}{f' (default: {otherwise})' * bool(otherwise)}{' (repeatable)' * self.repeatable}"

    def add_to(self, add: Callable[..., Any], flag: str, **changes: Any) -> None:
        """Add it as `flag` to a parser by its method `add`, with `changes` to what `argparse` is told."""
        told: dict[str, Any] = {"help": self.about.replace("%", "%%"), "default": None}
        if self.flag:
            told |= {"action": "store_true", "default": False}
        else:
            told |= {"choices": self.choices} if self.choices else {"metavar": self.value}
        if self.repeatable:
            told |= {"action": "append", "default": []}
        if self.alone is not None:
            told |= {"nargs": "?", "const": self.alone}
        if self.path:
            told["type"] = os.path.expanduser
        add(flag, **told | changes)


OPTIONS: list[Option] = [
    Option(
        name="run",
        path=True,
        repeatable=True,
        help="run to check: a directory of checkpoints, its URL (hf://org/name@revision/path, s3://, https://, any of "
        "fsspec), or a record file",
        more="write it with `=`; of a URL, headers and tensors are read by ranges",
    ),
    Option(
        name="suite",
        metavar="NAME-OR-PATH",
        path=True,
        repeatable=True,
        ini=True,
        help="suite to apply, whatever its applies_to: of the project or shipped (opd) by its name, or a file",
        more="the project's go before shipped ones; suite files are also taken as path arguments",
        ini_help="suite files of the project, as globs (default: suites/*.yaml suites/*.yml)",
    ),
    Option(
        name="base",
        path=True,
        ini=True,
        help="where W0 comes from: a model directory, one checkpoint, the URL of one, or a Hub id (org/name@revision)",
        more='a Hub id needs `pip install "geomcheck[hub]"`; a path in the ini file counts from the rootdir',
    ),
    Option(
        name="reference",
        path=True,
        help="run or record that `like: reference` compares with",
        more="a run for `mask_jaccard`, which needs weights; also the free run of `functional_sufficiency`",
    ),
    Option(
        name="download",
        metavar="DIR",
        path=True,
        alone="on",
        help="copy what lies at a URL to this machine, without optimizer states, and keep it there",
        otherwise="nothing is copied",
        more="without DIR into the directory of `--geom-cache`; what is there under the size and etag of before is not "
        "fetched again",
    ),
    Option(
        name="incomplete",
        choices=("skip", "error"),
        default="skip",
        ini=True,
        help="checkpoints that are not complete: leave them out and say so, or refuse the run",
    ),
    Option(
        name="missing-baseline",
        choices=("error", "info"),
        default="error",
        ini=True,
        help="a record that --geom-reference names and that is not there: refuse the session, or judge the rest and "
        "say what was not judged",
    ),
    Option(
        name="missing-checkpoints",
        choices=("error", "info"),
        default="error",
        ini=True,
        help="checkpoints that a suite judges and the run lacks, or that come after its last band, where all others "
        "hold: an error that shows the others, or a remark",
    ),
    Option(
        name="json",
        path=True,
        help="write the verdicts here",
        output=Output("verdicts", "geomcheck.gate.outputs:write_document"),
    ),
    Option(
        name="report",
        path=True,
        help="write a self-contained HTML report here",
        more="one file that loads nothing; `geomcheck report RECORD... -o FILE` does it later, and compares several",
        output=Output("report", "geomcheck.gate.outputs:write_page", also="geomcheck.report.html:wanted"),
    ),
    Option(
        name="record",
        path=True,
        help="write every per-weight measurement here (Parquet)",
        output=Output("record", "geomcheck.gate.outputs:write_records"),
    ),
    Option(
        name="markdown",
        path=True,
        help="write the verdicts here as a comment on a pull request has them",
        more="in Markdown, at most 60,000 bytes: what is wrong, what does not hold, then what holds",
        output=Output("comment", "geomcheck.gate.outputs:write_markdown"),
    ),
    Option(
        name="previous",
        metavar="RECORD",
        path=True,
        help="record of an earlier run, such as the base branch's last, whose figures Markdown shows beside this one's",
        more="it decides nothing; one that is not there, or cannot be read, is a note",
    ),
    Option(
        name="code-quality",
        path=True,
        help="write what is violated here as a code-quality report of GitLab (JSON)",
        output=Output("code quality", "geomcheck.gate.outputs:write_code_quality"),
    ),
    Option(
        name="workers",
        metavar="N|ray",
        ini=True,
        help="local workers, or your Ray cluster",
        otherwise="as many as processors and memory allow",
        more='each has one thread; Ray needs `pip install "geomcheck[ray]"`; on a GPU, groups of weights at work '
        "(default 2)",
    ),
    Option(
        name="device",
        metavar="auto|cpu|cuda[:N]",
        default="auto",
        ini=True,
        help="where to compute",
        otherwise="auto, a GPU where there is one",
        more="there, weights of one shape are measured together, up to 32, and their factorizations are done as one; "
        "this was tested on the CPU and has not run on a GPU yet",
    ),
    Option(
        name="budget",
        metavar="10m|90s|SECONDS",
        help="time to measure in: weights in random order until every verdict is decided; what is not is an error",
        otherwise="none: every weight is measured, and verdicts are exact",
        more="of the session, all runs together; metrics of entries are measured of every weight all the same; with "
        "`--lf` what failed is measured whole",
    ),
    Option(
        name="confidence",
        metavar="99%",
        help="with --geom-budget: with what probability none of the session's early verdicts is wrong",
        otherwise="99%",
    ),
    Option(
        name="cache",
        metavar="PATH|off",
        path=True,
        ini=True,
        help="directory that remembers what was measured, by content",
        otherwise="in pytest's cache directory where pytest finds an ini file, else in the user's",
        more="a path in the ini file counts from the rootdir",
    ),
    Option(name="cache-size", metavar="SIZE", ini=True, help="what that directory may hold", otherwise="20GB"),
    Option(name="dequantize", flag=True, help="make fp32 of fp8 weights and their scales, and measure those"),
    Option(
        name="fail-on",
        choices=("error", "warn"),
        default="error",
        help="lowest level of a violated expectation that fails the session",
    ),
]


def option(name: str) -> Option:
    """The declaration of that name."""
    return next(declared for declared in OPTIONS if declared.name == name)


def register(parser: pytest.Parser) -> None:
    """Let pytest know the options and their ini values."""
    group = parser.getgroup("geomcheck", "geometry of training (geomcheck)")
    for declared in OPTIONS:
        declared.add_to(group.addoption, declared.flagged)
        if declared.ini:
            many: dict[str, Any] = {"type": "args", "default": []} if declared.repeatable else {}
            parser.addini(declared.ini_key, declared.ini_help or f"{declared.flagged}, where not given", **many)


def typed(config: pytest.Config) -> list[str]:
    """The arguments of this session alone, not those of the ini file: ``PYTEST_ADDOPTS`` and the command line.

    Files of arguments, ``@FILE``, are read.
    """
    given = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    return list(_read(given, config.invocation_params.dir))


def _read(arguments: Iterable[str], directory: Path) -> Iterator[str]:
    for argument in arguments:
        file = directory / argument[1:]
        if argument.startswith("@") and file.is_file():
            yield from _read(file.read_text(encoding="utf-8", errors="replace").splitlines(), directory)
        else:
            yield argument


def idle(arguments: Iterable[str]) -> str | None:
    """The first option of geomcheck among `arguments`, which does nothing where there is no run."""
    flags = {declared.flagged for declared in OPTIONS}
    return next((flag for flag in (argument.partition("=")[0] for argument in arguments) if flag in flags), None)


def miswritten(arguments: list[str]) -> str | None:
    """What is wrong with the first of geomcheck's options among `arguments` that is empty, has an option for its value,
    or is a path that does not follow after ``=``.

    pytest looks for its rootdir among values that stand alone, and a run or an output may lie anywhere.
    """
    known = {declared.flagged: declared for declared in OPTIONS}
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, given, value = argument.partition("=")
        declared = known.get(flag)
        if declared is None:
            continue
        if declared.alone is not None and not given and (not following or following.startswith("-")):
            continue
        if declared.path and not given:
            return f"write {argument}={following or 'PATH'}, with `=`: a detached path would move pytest's rootdir"
        if given and not value:
            return f"{argument} is empty; is a variable not set?"
        if value == "-" and declared.output:
            return f"{argument}: the output goes to a file; name one, or {flag}=./- for a file of that name"
        if value.startswith("--"):
            return f"{argument}: {value} is an option, and no value of {flag}"
    return None


def empty(given: Namespace) -> str | None:
    """What to say of the first option that has an empty value, be it from the ini file's ``addopts``."""
    for declared in OPTIONS:
        value = getattr(given, declared.key)
        if value == "" or (isinstance(value, list) and "" in value):
            return f"{declared.flagged}= is empty; is a variable not set?"
    return None


def misspelt(arguments: Iterable[str]) -> str | None:
    """What to say of the first among `arguments` that means an option of geomcheck, and is none."""
    flags = [declared.flagged for declared in OPTIONS]
    for flag in (argument.partition("=")[0] for argument in arguments):
        word, space, value = flag.partition(" ")
        if space and word in flags:
            return f"`{flag}` is one argument: in a file of arguments write {word}={value.strip()}"
        if (
            flag.startswith(("--geom-", "--geom_"))
            and flag not in flags
            and (meant := closest(flag, flags, likeness=OURS))
        ):
            return f"there is no option {flag}{meant}"
    return None


def closest(flag: str, flags: Iterable[str], *, likeness: float = 0.6) -> str:
    """``; did you mean ...?`` where `flag` is close to one of `flags`; nothing otherwise."""
    close = get_close_matches(flag.replace("--geom_", "--geom-"), flags, n=1, cutoff=likeness)
    return f"; did you mean {close[0]}?" if close else ""
