"""A YAML 1.2 file as plain values that remember where they were written.

PyYAML alone reads ``1e-4`` as a string and ``no`` as False, keeps the last of duplicate keys, and expands
aliases without bound. Here numbers and booleans are those of the YAML 1.2 core schema, duplicate keys and
custom tags are refused, and size, depth and expansion are bounded.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from geomcheck.errors import Position, Problem, SuiteError, UsageError
from geomcheck.suite.language.mistakes import LEFT_OUT, TAG, broken_part, explain, invisible, without

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_BROKEN = 20  # mistakes of syntax, each of which costs another reading
MAX_DIGITS = 400  # more than any float can hold

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True)
class Node:
    """A value of a document and its place.

    Attributes:
        value: None, bool, int, float, str, a list of nodes, or a dict of nodes by key.
        position: where the value starts.
        key: where its key starts; the value's own position outside mappings.
    """

    value: Any
    position: Position
    key: Position

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def text(self, key: str) -> str | None:
        """The text under `key`; None where this is no mapping, or has no text there."""
        found = self.value.get(key) if isinstance(self.value, dict) else None
        return found.value if found is not None and isinstance(found.value, str) else None

    def locate(self, path: Iterable[str | int], *, key: bool = False) -> Position:
        """The place of the value at `path`, or of its key; of the last value on the way that exists."""
        node = self
        for part in path:
            found = node._child(part)
            if found is None:
                return node.position
            node = found
        return node.key if key else node.position

    def _child(self, part: str | int) -> Node | None:
        if isinstance(self.value, dict):
            return self.value.get(part)
        inside = isinstance(self.value, list) and isinstance(part, int) and part < len(self.value)
        return self.value[int(part)] if inside else None


def read_document(path: Path, *, shown: str) -> Node:
    """Read the mapping that a file holds; positions carry `shown` as the file's name.

    Raises:
        UsageError: the file cannot be opened.
        SuiteError: it is not one YAML mapping within the bounds of this module.
    """
    return _whole(*salvage_document(path, shown=shown))


def salvage_document(path: Path, *, shown: str) -> tuple[Node, list[Problem]]:
    """As `read_document`, as far as the file can be read.

    Returns:
        The mapping, without the parts of it that are no YAML, and what is wrong with these.

    Raises:
        UsageError: the file cannot be opened.
        SuiteError: it is not one YAML mapping within the bounds of this module, and nothing of it can be read.
    """
    start = Position(shown, 1, 1)
    text = _read_text(path, start)
    node, problems = _parse(text, shown)
    if not isinstance(node.value, dict):
        found = "a list" if isinstance(node.value, list) else "a single value"  # not which: it may be any file
        hint = _first_line(node.value)
        _refuse(node.position, f"a suite is a mapping that starts with `geomcheck: 1`; found {found}{hint}")
    return node, problems


def parse_document(text: str, *, shown: str) -> Node:
    """Parse one YAML document. Raises SuiteError with all problems that the parser can go on after."""
    return _whole(*_parse(text, shown))


def _whole(node: Node, problems: list[Problem]) -> Node:
    if problems:
        raise SuiteError(problems)
    return node


def _parse(text: str, shown: str) -> tuple[Node, list[Problem]]:
    """A document without the list entries and keys that are no YAML, and what is wrong with these.

    Raises SuiteError with all problems so far where no more can be read.
    """
    _require_printable(text, shown)
    problems: list[Problem] = []
    lines = text.splitlines()
    while True:
        try:
            root = _compose("\n".join(lines) + "\n" if problems else text, shown)
            break
        except _Broken as broken:
            again = broken.problem in problems
            problems += [] if again else [broken.problem]
            go_on = broken.can_go_on and not again and len(problems) < MAX_BROKEN
            part = broken_part(lines, broken.problem.position.line - 1) if go_on else None
            if part is None or not any(lines[n].strip() and LEFT_OUT not in lines[n] for n in part):
                raise SuiteError(problems) from None
            lines = without(lines, part)
    if root is None and problems:
        raise SuiteError(problems)
    if root is None:
        _refuse(Position(shown, 1, 1), "the file is empty; a suite starts with `geomcheck: 1`")
    reader = _Reader(shown)
    try:
        return reader.convert(root, depth=0), [*problems, *reader.problems]
    except SuiteError as error:
        raise SuiteError([*problems, *error.problems]) from None


class _Broken(Exception):
    """The text is no YAML at some place; `can_go_on` says that the rest of it may be."""

    def __init__(self, problem: Problem, *, can_go_on: bool) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.can_go_on = can_go_on


def _compose(text: str, shown: str) -> yaml.Node | None:
    """The nodes of the document; None where it is empty. Raises _Broken."""
    loader = _Loader(text)
    try:
        root: yaml.Node | None = loader.get_single_node()
    except _TooMuch as error:
        place = _position(shown, error.problem_mark or loader.get_mark())
        raise _Broken(Problem(place, str(error.problem)), can_go_on=False) from None
    except yaml.MarkedYAMLError as error:
        (line, column), sentence = explain(error, text)
        raise _Broken(Problem(Position(shown, line + 1, column + 1), sentence), can_go_on=True) from None
    except (ValueError, OverflowError) as error:  # PyYAML hands escapes such as "\UFFFFFFFF" to chr() unchecked
        problem = Problem(_position(shown, loader.get_mark()), f"not valid YAML: {error}")
        raise _Broken(problem, can_go_on=True) from None
    finally:
        loader.dispose()
    return root


def _first_line(value: Any) -> str:
    """A hint for a file whose first line is nearly that of a suite."""
    found = re.match(r"geomcheck\s*[:=]?\s*(\d+)", value) if isinstance(value, str) else None
    return f"; write the first line as `geomcheck: {found[1]}`, with a colon and a space" if found else ""


def _read_text(path: Path, start: Position) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"suite {start.path} is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            _refuse(start, f"the file is larger than {MAX_BYTES:,} bytes; a suite is a short text")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            _refuse(start, "the file is UTF-16 text, as PowerShell writes it; save it as UTF-8")
        line = error.object[: error.start].count(b"\n") + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        _refuse(Position(start.path, line, column), "the file is not UTF-8 text; save it as UTF-8")
    except OSError as error:
        raise UsageError(f"cannot read suite {start.path}: {error.strerror or error}") from None


def _require_printable(text: str, shown: str) -> None:
    bad = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        column = bad.start() - text.rfind("\n", 0, bad.start())
        _refuse(Position(shown, line, column), f"character U+{ord(bad.group()):04X} may not stand in a YAML file")


def _position(shown: str, mark: yaml.Mark) -> Position:
    return Position(shown, mark.line + 1, mark.column + 1)


def _refuse(position: Position, message: str) -> NoReturn:
    raise SuiteError([Problem(position, message)])


class _TooMuch(yaml.composer.ComposerError):
    """More, or deeper, than this module's bounds."""


class _Loader(yaml.SafeLoader):
    """Composes nodes; scalars stay as written, because `_Reader` resolves them."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own class attribute)
    _depth = 0
    _count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise yaml.composer.ComposerError(None, None, TAG, event.start_mark)
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH or self._count > MAX_NODES:
            deep = self._depth > MAX_DEPTH
            problem = f"nested deeper than {MAX_DEPTH} levels" if deep else f"more than {MAX_NODES:,} values"
            raise _TooMuch(None, None, problem, event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _wrong_key(key: str, node: yaml.Node, before: Mapping[str, Node]) -> str | None:
    """What is wrong with a key of a mapping, or None."""
    if isinstance(node, yaml.MappingNode):
        return "a key is a plain word; quote a text that begins with `{`, such as a template"
    if not isinstance(node, yaml.ScalarNode) or not key:
        return "a key is a plain word"
    if key == "<<":
        return "merge keys (`<<`) are not read; write the keys out, or use `defaults` or `extends`"
    if name := invisible(key):
        return f"a {name} stands in the key `{key.strip()}`; type the space anew"
    if key in before:
        entry = "; another expectation begins with `- id:`" if key == "id" else "; keep one"
        return f"`{key}` is given twice: here and in line {before[key].key.line}{entry}"
    return None


@dataclass
class _Reader:
    shown: str
    problems: list[Problem] = field(default_factory=list)
    _count: int = 0

    def convert(self, node: yaml.Node, depth: int, key: Position | None = None) -> Node:
        place = _position(self.shown, node.start_mark)
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            bound = f"{MAX_NODES:,} values or {MAX_DEPTH} levels"
            _refuse(place, f"more than {bound} after aliases are expanded")
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node, depth)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.convert(child, depth + 1) for child in node.value if child.value != LEFT_OUT]
        else:
            value = self._scalar(node, place)
        return Node(value, place, key or place)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key_node, value_node in node.value:
            place = _position(self.shown, key_node.start_mark)
            key = self._text(key_node.value, place) if isinstance(key_node, yaml.ScalarNode) else ""
            child = self.convert(value_node, depth + 1, place)
            if problem := _wrong_key(key, key_node, found):
                self.problems.append(Problem(place, problem))
                if key == "id":
                    break  # what follows is of another expectation
            else:
                found[key] = child
        return found

    def _scalar(self, node: yaml.Node, place: Position) -> Any:
        text: str = node.value
        if getattr(node, "style", None) is not None:  # quoted or a block: text, whatever it looks like
            return self._text(text, place)
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if len(text) > MAX_DIGITS and (_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)):
            self.problems.append(Problem(place, f"a number of {len(text)} characters is too long"))
            return 0
        if _INTEGER.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _SPECIAL.fullmatch(text):
            return float(text.replace(".", "", 1))
        return self._text(text, place)

    def _text(self, text: str, place: Position) -> str:
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.problems.append(Problem(place, "half of a surrogate pair is not a character"))
        return text
