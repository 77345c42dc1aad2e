"""Match regular expressions that files contain, in time linear in the text.

Those that PEFT's settings hold are of characters, classes, groups, alternatives and repetitions. They become a
nondeterministic automaton, all of whose states are followed at once (K. Thompson, Regular expression search
algorithm, CACM 11, 1968).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

MAX_LENGTH = 300
MAX_STATES = 4000

_TOKEN = re.compile(
    r"(?P<quantifier>(?:[*+?]|\{(?!\})(?P<low>\d{0,3})(?P<range>,?)(?P<high>\d{0,3})\})\??)"
    r"|(?P<open>\((?:\?:)?)|(?P<close>\))|(?P<bar>\|)|(?P<anchor>[\^$])"
    r"|(?P<one>\\[dDwWsS]|\\[^A-Za-z0-9]|\[\^?\]?(?:\\.|[^\\\]])*\]|[^\\\[])",
    re.DOTALL,
)

_Matches = Callable[[str], object]
_Build = Callable[[int], int]
"""From the state that follows to the state that begins."""


class PatternProblem(ValueError):
    """The text is no regular expression that is read; the message says why."""


@dataclass
class Pattern:
    """A regular expression. Raises PatternProblem if it is none, or needs more than characters and repetitions.

    Attributes:
        text: as it stands in the file.
    """

    text: str
    _steps: dict[int, tuple[_Matches, int]] = field(default_factory=dict, repr=False)
    _free: dict[int, list[tuple[str, int]]] = field(default_factory=dict, repr=False)
    _count: int = field(default=1, repr=False)

    def __post_init__(self) -> None:
        if len(self.text) > MAX_LENGTH:
            raise PatternProblem(f"longer than {MAX_LENGTH} characters")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                re.compile(self.text)
        except (re.error, OverflowError, RecursionError, Warning) as error:
            raise PatternProblem(f"no regular expression ({error})") from error
        tokens = list(_tokens(self.text))
        build, rest = self._alternatives(tokens)
        if rest:
            raise PatternProblem("no regular expression (an unbalanced parenthesis)")
        self._start = build(0)

    def matches_a_tail(self, text: str) -> bool:
        """Whether all of `text` matches, or all that follows one of its dots."""
        states: set[int] = set()
        for at, character in enumerate(text):
            if at == 0 or text[at - 1] == ".":
                states |= self._reached({self._start}, first=at == 0, last=False)
            moved = {
                target for s in states if (step := self._steps.get(s)) and step[0](character) for target in [step[1]]
            }
            states = self._reached(moved, first=False, last=at == len(text) - 1)
        if not text or text.endswith("."):
            states |= self._reached({self._start}, first=not text, last=True)
        return 0 in states

    def _reached(self, states: set[int], *, first: bool, last: bool) -> set[int]:
        """`states`, and those that they lead to without a character."""
        found, left = set(states), list(states)
        while left:
            for condition, target in self._free.get(left.pop(), ()):
                allowed = not condition or (condition == "^" and first) or (condition == "$" and last)
                if allowed and target not in found:
                    found.add(target)
                    left.append(target)
        return found

    def _state(self) -> int:
        self._count += 1
        if self._count > MAX_STATES:
            raise PatternProblem(f"its repetitions make more than {MAX_STATES} states")
        return self._count

    def _alternatives(self, tokens: list[re.Match[str]]) -> tuple[_Build, list[re.Match[str]]]:
        """What a group holds, and the tokens from its closing parenthesis on."""
        branches: list[list[_Build]] = [[]]
        while tokens and tokens[0].lastgroup != "close":
            token, tokens = tokens[0], tokens[1:]
            if token.lastgroup == "bar":
                branches.append([])
                continue
            if token.lastgroup == "open":
                build, tokens = self._alternatives(tokens)
                tokens = tokens[1:]
            else:
                build = self._single(token)
            if tokens and tokens[0].lastgroup == "quantifier":
                build, tokens = self._repeated(build, tokens[0]), tokens[1:]
            if tokens and tokens[0].lastgroup == "quantifier":
                raise PatternProblem("a repetition that gives nothing back")
            branches[-1].append(build)
        return self._any_of([self._in_turn(branch) for branch in branches]), tokens

    def _single(self, token: re.Match[str]) -> _Build:
        def build(after: int) -> int:
            state = self._state()
            if token.lastgroup == "anchor":
                self._free[state] = [(token.group(), after)]
            else:
                self._steps[state] = (re.compile(token.group()).fullmatch, after)
            return state

        return build

    def _in_turn(self, parts: list[_Build]) -> _Build:
        def build(after: int) -> int:
            for part in reversed(parts):
                after = part(after)
            return after

        return build

    def _any_of(self, branches: list[_Build]) -> _Build:
        def build(after: int) -> int:
            state = self._state()
            self._free[state] = [("", branch(after)) for branch in branches]
            return state

        return build

    def _repeated(self, part: _Build, token: re.Match[str]) -> _Build:
        low, high = _bounds(token)

        def maybe(after: int, end: int) -> int:
            state = self._state()
            self._free[state] = [("", part(after)), ("", end)]
            return state

        def build(after: int) -> int:
            if high is None:
                loop = self._state()
                self._free[loop] = [("", part(loop)), ("", after)]
                following = loop
            else:
                following = after
                for _ in range(high - low):
                    following = maybe(following, after)
            return self._in_turn([part] * low)(following)

        return build


@lru_cache(maxsize=2**15)
def pattern(text: str) -> Pattern:
    """The pattern that `text` is. Raises PatternProblem."""
    return Pattern(text)


def _tokens(text: str) -> Iterator[re.Match[str]]:
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or token.group() in ("(?", "\\"):
            raise PatternProblem("more than characters, classes, groups and repetitions")
        if token.lastgroup == "open" and text.startswith("?", token.end()):
            raise PatternProblem("more than characters, classes, groups and repetitions")
        yield token
        at = token.end()


def _bounds(token: re.Match[str]) -> tuple[int, int | None]:
    """How often what stands before is repeated, at least and at most."""
    sign = token.group()[0]
    if sign != "{":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
    low = int(token["low"] or 0)
    return low, (int(token["high"]) if token["high"] else None) if token["range"] else low
