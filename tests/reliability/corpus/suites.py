"""Suites: YAML that is cut, garbled, of another encoding, or says what cannot be meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.reliability.corpus.case import Bytes, Case, Kit, Outcome, edited, nothing
from tests.reliability.corpus.project import SUITE, Project

kit = Kit("suite", "plain")

WHERE = "suites/mine.yaml"


def _text(text: str) -> Callable[[Project], object]:
    return lambda project: project.suite.write_text(text)


def _swap(old: str, new: str) -> Callable[[Project], object]:
    assert old in SUITE
    return _text(SUITE.replace(old, new, 1))


def _bytes(edit: Bytes) -> Callable[[Project], object]:
    return edited(lambda project: project.suite, edit)


INVALID: dict[str, tuple[str, str, str]] = {
    "version-2": ("geomcheck: 1", "geomcheck: 2", "1:12"),
    "version-a-text": ("geomcheck: 1", "geomcheck: one", "1:12"),
    "version-true": ("geomcheck: 1", "geomcheck: true", "1:12"),
    "no-version": ("geomcheck: 1\n", "", "1:1"),
    "a-key-twice": ("name: healthy", "name: healthy\nname: sick", "3"),
    "an-unknown-key": ("name: healthy", "nmae: healthy", "2"),
    "a-list-for-a-name": ("name: healthy", "name: [a]", "2:7"),
    "a-mapping-for-a-name": ("name: healthy", "name: {a: b}", "2:7"),
    "globs-a-number": ('["opd*"]', "7", "3:13"),
    "globs-of-numbers": ('["opd*"]', "[7]", "3"),
    "an-id-of-spaces": ("id: support", "id: 'a b'", "5"),
    "an-id-of-colons": ("id: support", "id: a::b", "5"),
    "an-empty-id": ("id: support", "id: ''", "5"),
    "an-id-twice": ("id: rank", "id: support", "9"),
    "no-id": ("  - id: support\n    metric", "  - metric", "5"),
    "an-unknown-metric": ("update_support", "update_suport", "6:13"),
    "no-metric": ("    metric: update_support\n", "", "5"),
    "metric-null": ("update_support", "~", "6"),
    "two-conditions": ("above: 5%", "above: 5%\n    near: 3", "8:5"),
    "no-condition": ("    above: 5%\n", "", "5"),
    "a-bound-nan": ("above: 5%", "above: .nan", "7:12"),
    "a-bound-infinite": ("above: 5%", "above: .inf", "7:12"),
    "a-bound-true": ("above: 5%", "above: true", "7:12"),
    "a-bound-null": ("above: 5%", "above: ~", "7"),
    "a-bound-a-list": ("above: 5%", "above: [1]", "7:12"),
    "a-bound-a-text": ("above: 5%", "above: a lot", "7:12"),
    "a-bound-a-date": ("above: 5%", "above: 2026-01-01", "7:12"),
    "a-bound-with-underscores": ("above: 5%", "above: 1_0", "7:12"),
    "a-bound-beyond-float": ("above: 5%", "above: 1e999", "7:12"),
    "a-bound-of-digits": ("above: 5%", f"above: {'9' * 5000}", "7"),
    "a-bound-that-cannot-fail": ("above: 5%", "above: -1", "7"),
    "a-bound-that-cannot-hold": ("above: 5%", "above: 2", "7"),
    "a-range-reversed": ("[1.2, 16]", "[16, 1.2]", "11:5"),
    "a-range-of-one": ("[1.2, 16]", "[1.2]", "11:13"),
    "a-range-of-three": ("[1.2, 16]", "[1.2, 2, 16]", "11:13"),
    "a-range-of-everything": ("[1.2, 16]", "[0, .inf]", "11"),
    "a-range-of-one-point-and-nan": ("[1.2, 16]", "[.nan, .nan]", "11"),
    "an-angle-without-unit": ("metric: update_support\n    above: 5%", "metric: principal_angle\n    below: 5", "7"),
    "at-nowhere": ("at: last", "at: middle", "8:9"),
    "at-progress-200": ("at: last", "at: {progress: 200%}", "8"),
    "at-a-negative-step": ("at: last", "at: {step: -5}", "8"),
    "a-level-of-nothing": ("at: last", "level: fatal", "8:12"),
    "a-fold-of-nothing": ("at: last", "fold: sum", "8:11"),
    "per-nothing": ("per: weight", "per: tensor", "16:10"),
    "an-allowance-of-all": ("per: weight", "per: weight\n    allow: 100%", "17"),
    "an-allowance-negative": ("per: weight", "per: weight\n    allow: -5%", "17"),
    "weights-a-number": ("name: healthy", "name: healthy\nweights: 3", "3"),
    "weights-of-nothing": ("name: healthy", "name: healthy\nweights: {include: []}", "3"),
    "a-parameter-of-another-metric": ("above: 5%", "above: 5%\n    k: 3", "8"),
    "a-parameter-that-cannot-be": ("above: 5%", "above: 5%\n    eta: -1", "8"),
    "extends-nothing": ("name: healthy", "name: healthy\nextends: ./nowhere.yaml", "3"),
    "extends-itself": ("name: healthy", "name: healthy\nextends: ./mine.yaml", "3"),
    "extends-a-url": ("name: healthy", "name: healthy\nextends: https://example.com/a.yaml", "3"),
    "a-base-of-nothing": ("name: healthy", "name: healthy\nbase: 7", "3:7"),
    "a-tag-of-python": ("A direction collapsed.", "!!python/object/apply:os.system ['touch owned']", "12"),
    "an-unknown-tag": ("A direction collapsed.", "!secret x", "12"),
    "an-alias-to-nothing": ("A direction collapsed.", "*x", "12"),
    "a-merge-key": ("name: healthy", "name: healthy\n<<: {about: x}", "3"),
    "two-documents": ("expect:", "---\nexpect:", ""),
    "a-tab": ("    metric: update_support", "\tmetric: update_support", "6"),
    "no-expectations": ("expect:", "x-expect:", ""),
    "a-null-character": ("name: healthy", "name: hea\0lthy", "2"),
    "an-escape-character": ("name: healthy", "name: hea\x1blthy", "2"),
    "an-escaped-escape": ("name: healthy", 'name: "hea\\elthy"', "2"),
}


def cases() -> Iterator[Case]:
    """Every case."""
    for what, (old, new, where) in INVALID.items():
        yield kit(what, _swap(old, new), Outcome.INVALID, f"{WHERE}:{where}")
    yield kit(
        "extends-no-suite",
        _swap("name: healthy", "name: healthy\nextends: ../pytest.ini"),
        Outcome.INVALID,
        "pytest.ini:1:1",
    )
    for what, text in {
        "empty": "",
        "a-comment": "# nothing\n",
        "null": "~\n",
        "a-list": "[]\n",
        "a-number": "3\n",
        "a-text": "hello\n",
        "expectations-empty": SUITE[: SUITE.index("  - id")] + "  []\n",
        "expectations-a-mapping": "geomcheck: 1\nname: a\nexpect: {a: b}\n",
        "brackets": "[" * 5000,
        "braces": "{a: " * 2000,
        "aliases": "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "a-block": "geomcheck: |\n" * 50,
        "json-cut": '{"geomcheck": 1, "name"',
        "html": "<html></html>\n",
        "long": "# " + "x" * 1_100_000,
    }.items():
        yield kit(what, _text(text), Outcome.INVALID, f"{WHERE}:")
    for line in range(1, len(SUITE.splitlines())):
        text = "\n".join(SUITE.splitlines()[:line])[:-3] + "\n"
        yield kit(f"cut-in-line-{line}", _text(text), CUT.get(line, Outcome.INVALID))
    encodings: dict[str, Bytes] = {
        "in-utf16": lambda c: c.decode().encode("utf-16"),
        "in-latin1": lambda c: c.replace(b"collapsed", b"k\xf6llaps"),
        "half-a-character": lambda c: c.replace(b"collapsed", b"coll\xe2\x82"),
        "nulls": lambda c: bytes(len(c)),
    }
    for what, edit in encodings.items():
        yield kit(what, _bytes(edit), Outcome.INVALID, f"{WHERE}:")
    yield kit("no-name", _swap("name: healthy\n", ""), Outcome.SAME)
    yield kit("at-step-zero", _swap("at: last", "at: {step: 0}"), Outcome.PART, "no checkpoint at step 0")
    yield kit("a-byte-order-mark", _bytes(lambda c: b"\xef\xbb\xbf" + c), Outcome.SAME)
    yield kit("windows-newlines", _bytes(lambda c: c.replace(b"\n", b"\r\n")), Outcome.SAME)
    yield kit("no-last-newline", _bytes(lambda c: c.rstrip()), Outcome.SAME)
    yield kit(
        "keys-in-another-order",
        _swap("    metric: update_support\n    above: 5%\n", "    above: 5%\n    metric: update_support\n"),
        Outcome.SAME,
    )
    yield kit("an-anchor", _swap("[1.2, 16]", "&band [1.2, 16]"), Outcome.SAME)
    why = _swap("A direction collapsed.", '"x\\n::error file=a::injected\\n::warning::y"')
    yield kit("a-why-that-commands", lambda p: (why(p), _break(p)), Outcome.FAILED)
    yield kit(
        "no-weight-selected",
        _swap("name: healthy", "name: healthy\nweights: {include: ['nothing.*']}"),
        Outcome.ERROR,
        "`nothing.*` matches no weight",
    )
    yield kit("a-step-that-is-not-there", _swap("at: last", "at: {step: 25}"), Outcome.PART, "step 25")
    yield kit(
        "a-k-that-spans-everything",
        _swap("metric: update_support\n    above: 5%", "metric: principal_angle\n    k: 16\n    below: 9 deg"),
        Outcome.PART,
        "spans the whole",
    )
    yield kit(
        "a-reference-that-is-not-given",
        _swap("above: 5%", "like: reference\n    tolerance: 5%"),
        Outcome.PART,
        "reference",
    )
    yield kit(
        "a-suite-named-twice", nothing, Outcome.SAME, arguments=(f"--geom-suite={WHERE}", f"--geom-suite={WHERE}")
    )
    yield kit("two-suites-of-one-name", lambda p: (p.suite.parent / "other.yaml").write_text(SUITE), Outcome.OTHER)
    yield kit("a-suite-for-nobody", _swap('["opd*"]', '["sft*"]'), Outcome.USAGE, "no suite applies to run 'opd'")
    yield kit("a-suite-that-is-unknown", nothing, Outcome.USAGE, "no suite 'odp'", arguments=("--geom-suite=odp",))
    yield kit("nothing-selected", nothing, Outcome.NOTHING, arguments=("-k", "nothing"))
    yield kit("collected-only", nothing, Outcome.COLLECTED, arguments=("--collect-only",))


CUT = {12: Outcome.OTHER}
"""Where what is left is a suite of fewer expectations, as whole as any."""


def _break(project: Project) -> None:
    project.suite.write_text(project.suite.read_text().replace("[1.2, 16]", "[15, 16]"))
