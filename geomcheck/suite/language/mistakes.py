"""Mistakes of YAML syntax, told as what a person did and not as what a scanner expected.

A scanner stops where it cannot go on, which is at the mistake or on a line after it. So the lines around are held
against what people write by mistake, and only then what the scanner says is put into words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

Place = tuple[int, int]
"""Line and column, from 0."""

Found = tuple[Place, str] | None

_KEY = re.compile(r"(?P<start>[ ]*(?:-[ ]+)*)(?P<key>[\w.-]+)[ ]*:(?:[ ]+(?P<value>\S.*))?$")
_TEXTS = ("why", "about")
LONGEST = 2000
"""Characters of a line that are looked at."""

SHOWN = 60
"""Characters of a word or a text that a message repeats."""

_WORD = re.compile(r"[^\s,\[\]{}]+")


@dataclass(frozen=True)
class Scene:
    """Where the scanner stopped, and what it said.

    Attributes:
        lines: of the file.
        here: where it stopped.
        since: where what it could not finish begins, if it says so.
        problem, context: its words.
    """

    lines: Sequence[str]
    here: Place
    since: Place | None
    problem: str
    context: str

    @property
    def line(self) -> str:
        """The line where it stopped."""
        return self.at(self.here[0])

    @property
    def rest(self) -> str:
        """That line from where it stopped."""
        return self.line[self.here[1] :]

    @property
    def word(self) -> str:
        """The word there."""
        found = _WORD.match(self.rest)
        return found.group() if found else ""

    def at(self, number: int) -> str:
        """A line; empty beyond the last."""
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def before(self) -> int:
        """The nearest line above that says something; -1 where there is none."""
        numbers = range(min(self.here[0], len(self.lines)) - 1, -1, -1)
        return next((n for n in numbers if self.lines[n].split("#")[0].strip()), -1)


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[Place, str]:
    """Where the mistake is, and what it is, in a sentence for its author."""
    there, since = (_place(mark) for mark in (error.problem_mark, error.context_mark))
    here = there or since or (0, 0)
    lines = [line[:LONGEST] for line in text.splitlines()]
    scene = Scene(lines, here, since, error.problem or "", error.context or "")
    in_sight = max(here[1], since[1] if since else 0) < LONGEST
    found = next((found for rule in _RULES if in_sight and (found := rule(scene)) is not None), None)
    if found is not None:
        place, sentence = found
        return place, re.sub(rf"(\S{{{SHOWN}}})\S{{20,}}", r"\1...", sentence)
    said = ", ".join(filter(None, (scene.context, scene.problem)))
    return (
        here,
        f"no YAML: look for a missing colon, quote or bracket here, or in the line above (the reader says: {said})",
    )


def _place(mark: yaml.Mark | None) -> Place | None:
    return None if mark is None else (mark.line, mark.column)


def invisible(text: str) -> str:
    """What looks like a space in `text` and is none, by name; empty where there is no such character."""
    odd = next((c for c in text if c != " " and (unicodedata.category(c) in ("Zs", "Cf"))), "")
    return f"{unicodedata.name(odd, 'character').lower()} (U+{ord(odd):04X})" if odd else ""


def _tab(scene: Scene) -> Found:
    for number in (scene.here[0], scene.before()):
        line = scene.at(number)
        column = line.find("\t")
        if column >= 0 and not line[:column].strip():
            return (number, column), "the line is indented by a tab; YAML takes spaces alone: replace it by spaces"
        if column >= 0 and line[:column].rstrip().endswith((":", "-", ",", "[", "{")):
            return (number, column), f"a tab stands after `{line[:column].strip()}`; replace it by a space"
    return None


def _odd_space(scene: Scene) -> Found:
    for number in (scene.here[0], scene.before()):
        found = re.match(r"(?P<start>[^\w'\"\[{#]*(?:[\w.-]+)?\s*:?)(?P<odd>\W?)", scene.at(number))
        prefix = found.group() if found else ""
        name = invisible(prefix)
        if name:
            column = next(i for i, c in enumerate(prefix) if invisible(c))
            return (number, column), f"a {name} stands where a plain space is needed; type the space anew"
    return None


def _line_rule(pattern: str, message: str) -> Callable[[Scene], Found]:
    """A rule on the line where the scanner stopped, or the one before; `message` may use the pattern's groups."""
    compiled = re.compile(pattern)

    def rule(scene: Scene) -> Found:
        for number in dict.fromkeys((scene.here[0], *((scene.since[0],) if scene.since else ()), scene.before())):
            found = compiled.match(scene.at(number))
            if found:
                parts = {name: (part or "").strip() for name, part in found.groupdict().items()}
                return (number, found.start("at")), message.format(**parts)
        return None

    return rule


def _unclosed_quote(scene: Scene) -> Found:
    if "quoted scalar" not in scene.context or scene.since is None:
        return None
    if "escape" in scene.problem:
        column = scene.here[1] - 1
        return (scene.here[0], column), (
            "a backslash in double quotes begins an escape; write it twice, `\\\\`, or use single quotes"
        )
    quote = scene.at(scene.since[0])[scene.since[1] : scene.since[1] + 1]
    return scene.since, f"the quote {quote} that opens here is never closed; add {quote} where the text ends"


def _after_a_quote(scene: Scene) -> Found:
    """Text behind what looked like its end: a closing quote, a closing bracket."""
    if not re.search(r"expected <block end>, but found '(?:<scalar>|<alias>|<tag>|[,\[{:])'", scene.problem):
        return None
    number, column = scene.here
    before = scene.line[:column].rstrip()
    if before.endswith(("'", '"')):
        instead = {"'": "write it twice, `''`, or use double quotes outside", '"': "use single quotes outside"}
        return (number, len(before) - 1), f"this {before[-1]} ends the text; {instead[before[-1]]}"
    if before.endswith(("]", "}")):
        begins = "[" if before[-1] == "]" else "{"
        if scene.rest.startswith(("//", "--", "/*", ";")):
            return (number, column), f"`{scene.word}` begins no comment here; write `#`"
        return (number, column), f"nothing may follow `{before[-1]}`; a text that begins with `{begins}` needs quotes"
    if scene.line[:column].strip() == "" and scene.before() >= 0:
        return _misaligned(scene)
    return None


def _brackets(scene: Scene) -> Found:
    flow = re.fullmatch(r"while parsing a flow (sequence|mapping)", scene.context)
    if flow and scene.since is not None:
        opening, closing = ("[", "]") if flow[1] == "sequence" else ("{", "}")
        number = scene.since[0]
        if scene.rest[:1] in ("]", "}") and scene.here[0] == number:
            return scene.here, f"`{opening}` is closed by `{scene.rest[0]}`; write `{closing}`"
        if scene.here[0] == number and scene.rest.startswith(":"):
            return scene.here, "keys between `{` and `}` are parted by commas: a comma is missing before this `:`"
        if scene.here[0] == number:
            return scene.here, f"a comma is missing before `{scene.word or scene.rest.strip()}`"
        return scene.since, f"the `{opening}` that opens here is never closed; add `{closing}`"
    if "expected the node content, but found ','" in scene.problem:
        return scene.here, "a value is missing before this comma"
    if re.search(r"but found '[\]}]'", scene.problem):
        return scene.here, f"`{scene.rest[:1]}` closes nothing that is open; remove it"
    return None


def _list_entry(scene: Scene) -> Found:
    """A `-` where a mapping goes on, or a list whose entries are not aligned."""
    if "expected <block end>, but found '-'" in scene.problem or "found '<block sequence start>'" in scene.problem:
        above = [n for n in range(scene.here[0] - 1, -1, -1) if re.match(r"\s*- ", scene.at(n))]
        dash = scene.at(above[0]).index("-") if above else -1
        if above and dash > scene.here[1]:
            return scene.here, (
                f"the entries of a list are aligned: this `-` is in column {scene.here[1] + 1}, that of line "
                f"{above[0] + 1} in column {dash + 1}"
            )
        return scene.here, "a `-` begins a list entry, and there is no list here; write the key without it"
    if "sequence entries are not allowed here" in scene.problem:
        return scene.here, "a text that begins with `- ` needs quotes; a list begins on a line of its own"
    return None


def _not_indented(scene: Scene) -> Found:
    """A key that belongs to the list entry above it and stands under its dash."""
    if "parsing a block collection" not in scene.context or "but found '?'" not in scene.problem or not scene.since:
        return None
    key = scene.word.rstrip(":")
    entries = [n for n in range(scene.here[0] - 1, -1, -1) if re.match(r"\s*- ", scene.at(n))]
    number = entries[0] if entries else scene.since[0]
    entry = scene.at(number).strip()
    column = len(scene.at(number)) - len(scene.at(number).lstrip("- "))
    more = column - scene.here[1]
    return scene.here, (
        f"`{key}` stands beside the `-` of `{entry}` in line {number + 1}; to belong to it, it needs {more} more "
        f"space{'s' if more != 1 else ''} of indentation"
    )


def _misaligned(scene: Scene) -> Found:
    """A key that is indented otherwise than the keys beside it."""
    number = scene.before()
    above, own = _KEY.match(scene.at(number)), len(scene.line) - len(scene.line.lstrip())
    if not above or number < 0:
        return None
    there = len(above["start"])
    if own == there:
        return None
    deeper = "deeper" if own > there else "less"
    return (scene.here[0], own), (
        f"this line is indented {deeper} than `{above['key']}` in line {number + 1}: keys that belong together begin "
        f"in one column, here {there + 1}"
    )


def _mapping_value(scene: Scene) -> Found:
    if scene.problem != "mapping values are not allowed here":
        return None
    number, column = scene.here
    line = scene.line
    two = re.match(r"(\s*(?:- +)*[\w.-]+\s*:\s+)(?P<value>.*?)[,;]?\s*(?P<key>[\w.-]+)\s*$", line[:column])
    if two is None:
        return _misaligned(scene)
    first = line[: two.start("value")].strip(" -:")
    listed = line[two.end("value") : two.start("key")].strip() and first not in _TEXTS
    if not listed and (first in _TEXTS or not re.match(r"[\d.+\[%-]", two["value"])):
        text = line[two.start("value") :].strip()
        if first in ("at", "weights", "from", "to") and not two["value"]:
            return (number, two.start("value")), f"a mapping within a line stands in braces: `{first}: {{{text}}}`"
        quoted = text.replace('"', '\\"') if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        return (number, column), f'a `: ` inside a text needs quotes around it: `{first}: "{quoted}"`'
    return (number, two.start("key")), f"two keys stand in one line; put `{two['key']}` on a line of its own"


def _text_below(scene: Scene) -> Found:
    """A text of several lines that is not indented."""
    numbers = [scene.since[0] - 1 if scene.since else scene.here[0] - 1, scene.before()]
    found = next((n for n in numbers if re.search(r":\s+[>|][-+]?\s*$", scene.at(n))), None)
    if found is None or not re.search("expected ':'|not allowed here", scene.problem):
        return None
    key = scene.at(found).strip(" -").split(":")[0]
    return (found + 1, 0), f"the text of `{key}` stands on the lines below it, indented deeper than `{key}`"


def _missing_colon(scene: Scene) -> Found:
    if scene.problem == "could not find expected ':'" and scene.since is not None:
        numbers = [scene.since[0]]
    elif scene.problem == "mapping values are not allowed here":
        numbers = [scene.before()]
    else:
        return None
    for number in numbers:
        line = scene.at(number).split(" #")[0]
        found = re.match(r"\s*(?:- +)*(?P<key>[A-Za-z]\w*)(?:[ ]+(?P<value>.*))?$", line)
        if found:
            value = (found["value"] or "...").strip()
            return (number, found.start("key")), f"a colon is missing: `{found['key']}: {value}`"
        dash = re.match(r"\s*(?P<dash>-)(?P<value>[^\s-]\S*)\s*$", line)
        if dash:
            return (number, dash.start("dash")), f"a space is missing after the dash: `- {dash['value']}`"
        quoted = re.match(r"\s*(?:- +)*(?P<all>[\"'](?P<inner>[^\"']*)[\"'])\s*$", line)
        if quoted:
            return (number, quoted.start("all")), f"quotes around the whole line make it a text: `{quoted['inner']}`"
    return None


def _first_character(scene: Scene) -> Found:
    """A value whose first character means something else to YAML."""
    rest = scene.rest.split(" #")[0].strip()
    cannot = re.fullmatch(r"found character '(.+)' that cannot start any token", scene.problem)
    if cannot and rest.startswith("%"):
        share = re.match(r"%\s*([\d.]+)", rest)
        return scene.here, (
            f"the percent sign stands behind the number: `{share[1]}%`" if share else f'quote the text: `"{rest}"`'
        )
    if cannot:
        return scene.here, f'a text that begins with `{cannot[1]}` needs quotes: `"{rest}"`'
    if "scanning a block scalar" in scene.context and scene.since is not None:
        number, column = scene.since
        value = scene.at(number)[column:].split(" #")[0].strip()
        bare = value.lstrip("|>=< ")
        if re.match(r">=?\s*:", value):
            return scene.since, f"`{value.split(':')[0].strip()}` is no key; write `above:{value.split(':', 1)[1]}`"
        if value.startswith(">") and re.match(r"[-+.]?\d", bare):
            return scene.since, f"`{value}`: the key says already on which side; write `{bare}`"
        return scene.since, f"`{value[0]}` begins a text of several lines, which starts on the next line; or quote it"
    if "scanning an alias" in scene.context or "undefined alias" in scene.problem:
        place = scene.since if "scanning an alias" in scene.context and scene.since else scene.here
        found = _WORD.match(scene.at(place[0])[place[1] :])
        text = found.group() if found else "*"
        if scene.at(place[0])[: place[1]].strip() == "" and text == "*":
            return place, "a list entry begins with `- `, not with `* `"
        return place, f'`{text}` needs quotes, `"{text}"`: an unquoted `*` begins a YAML alias'
    if scene.problem == TAG or "scanning a tag" in scene.context:
        place = scene.here if scene.problem == TAG else scene.since or scene.here
        found = _WORD.match(scene.at(place[0])[place[1] :])
        text = found.group() if found else "!"
        behind = scene.at(place[0])[place[1] + len(text) :].split(" #")[0].strip()
        if text.startswith("!!") or (behind and not behind.startswith((",", "]", "}"))):
            return place, f"tags such as `{text}` are not allowed: a suite is plain data; remove it"
        return place, f'`{text}` needs quotes, `"{text}"`: an unquoted `!` begins a YAML tag'
    if "scanning an anchor" in scene.context and scene.since is not None:
        return scene.since, "a text that begins with `&` needs quotes: an unquoted `&` begins a YAML anchor"
    if scene.problem == "mapping keys are not allowed here":
        return scene.here, f'a text that begins with `? ` needs quotes: `"{rest}"`'
    return None


def _document(scene: Scene) -> Found:
    if "expected a single document" in scene.context:
        return scene.here, "a second document begins here; a suite is one: remove the `---`, or use a file for each"
    if "expected '<document start>'" not in scene.problem:
        return None
    if scene.at(0).startswith(" "):
        return (0, 0), "the first line is indented, and the others are not; begin it in column 1"
    if scene.line[: scene.here[1]].strip() == "" and scene.at(scene.before()).startswith("..."):
        return scene.here, "`...` above ends the document; remove it"
    if scene.at(0).startswith("["):
        return (0, 0), "a suite is YAML, not INI or TOML: it starts with `geomcheck: 1`"
    return None


TAG = "a tag"
"""What `problem` is of a tag, which no suite has."""

_SPACED = r"(?P<at>(?P<key>[A-Za-z_][\w-]*):(?P<value>(?!//)[^\s:,\]}][^:]*))$"
_RULES: tuple[Callable[[Scene], Found], ...] = (
    _unclosed_quote,
    _tab,
    _odd_space,
    _line_rule(r"\s*(?P<at>(?P<word>//|/\*|;|--(?!-)))", "a comment begins with `#`, not with `{word}`"),
    _line_rule(r"(?P<at>(?P<word><{7}|={7}|>{7})(?: .*)?)$", "a merge conflict is left here (`{word}`); settle it"),
    _line_rule(r"\s*(?P<at>```)", "a fence of Markdown, which is not part of the suite; remove it"),
    _document,
    _first_character,
    _line_rule(r"\s*(?P<at>(?P<word>[*+•·–—])[ ]+)[\w-]+:", "a list entry begins with `- `, not with `{word} `"),
    _line_rule(r"\s*(?P<at>-)(?P<key>[A-Za-z]\w*)\s*:(?:\s|$)", "a space is missing after the dash: `- {key}: ...`"),
    _not_indented,
    _brackets,
    _line_rule(rf"\s*(?:- +)*{_SPACED}", "a space is missing after the colon: `{key}: {value}`"),
    _line_rule(
        r"\s*(?:- +)*(?P<at>(?P<key>[A-Za-z_]\w*)\s*(?P<word>:?=>?|<=|>=|<|>)\s*(?P<value>[^\s:][^:]*))$",
        "`{word}` is no YAML; a key and its value are written `{key}: {value}`",
    ),
    _list_entry,
    _after_a_quote,
    _text_below,
    _mapping_value,
    _missing_colon,
    lambda scene: _misaligned(scene) if "expected <block end>" in scene.problem else None,
)


def broken_part(lines: Sequence[str], number: int) -> range | None:
    """The lines to leave out so that the rest can be read: the list entry that holds line `number`, or its key.

    None where what else is in the file means nothing without it.
    """
    number = min(number, len(lines) - 1)
    if any(re.match(r"(---|\.\.\.)\s*$", line) for line in lines[max(number - 1, 1) : number + 1]):
        first = next(n for n in range(max(number - 1, 1), number + 1) if re.match(r"(---|\.\.\.)\s*$", lines[n]))
        return range(first, len(lines))
    tops = [n for n, line in enumerate(lines) if re.match(r"[^\s#-]", line)]
    top = max((n for n in tops if n <= number), default=None)
    end = min((n for n in tops if n > number), default=len(lines))
    if top is None:
        return None
    key = re.match(r"\"?(\w+)", lines[top])
    if key is None or key[1] in ("geomcheck", "extends"):
        return None
    if key[1] != "expect":
        return range(top, end)
    dashes = [n for n in range(top + 1, end) if re.match(r"\s*- ", lines[n])]
    if not dashes or number < dashes[0]:
        return None
    indent = lines[dashes[0]].index("-")
    entries = [n for n in dashes if lines[n].index("-") <= indent]
    start = max(n for n in entries if n <= number)
    return range(start, min((n for n in entries if n > number), default=end))


def without(lines: Sequence[str], part: range) -> list[str]:
    """`lines` with those of `part` empty; of a list entry its dash stays, so that the list is one."""
    kept = list(lines)
    for number in part:
        dash = re.match(r"\s*- ", kept[number]) if number == part.start else None
        kept[number] = f"{dash.group()}{LEFT_OUT}" if dash else ""
    return kept


LEFT_OUT = "\ue000"
"""What stands for a list entry that was left out; a character of private use, which no suite has."""
