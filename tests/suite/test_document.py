import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.errors import SuiteError, UsageError
from geomcheck.suite.language.document import MAX_BYTES, parse_document, read_document


def plain(text):
    return parse_document(text, shown="s.yaml").plain()


def problems(text):
    with pytest.raises(SuiteError) as caught:
        parse_document(text, shown="s.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-12", -12),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("true", True),
        ("false", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("'true'", "true"),
        ('"1"', "1"),
        ("~", None),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1e400", float("inf")),
        ("-.inf", float("-inf")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = plain(f"v: {text}\n")["v"]
    assert found == value
    assert type(found) is type(value)


def test_positions_are_of_values_and_keys():
    node = parse_document("a: 1\nb:\n  - x: [2, 3]\n", shown="s.yaml")
    assert str(node.locate(["b", 0, "x", 1])) == "s.yaml:3:12"
    assert str(node.locate(["b", 0, "x"], key=True)) == "s.yaml:3:5"
    assert str(node.locate(["b", 7, "x"])) == "s.yaml:3:3"


def test_a_key_is_what_is_written():
    assert plain("1: 2\ntrue: 3\n'4': 5\n") == {"1": 2, "true": 3, "4": 5}


def test_duplicate_keys_are_refused_with_both_lines():
    assert problems("a: 1\nb: 2\na: 3\nb: 4\n") == [
        "s.yaml:3:1: `a` is given twice: here and in line 1; keep one",
        "s.yaml:4:1: `b` is given twice: here and in line 2; keep one",
    ]


def test_an_alias_is_its_anchor():
    assert plain("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml:1:1: the file is empty"),
        ("# only a comment\n", "s.yaml:1:1: the file is empty"),
        ("a: !!python/object:os.system x\n", "s.yaml:1:4: tags such as `!!python/object:os.system` are not"),
        ("a: !!str 5\n", "s.yaml:1:4: tags such as `!!str` are not allowed: a suite is plain data; remove it"),
        ("a: [1\n", "s.yaml:1:4: the `[` that opens here is never closed; add `]`"),
        ("a: 1\n---\nb: 2\n", "s.yaml:2:1: a second document begins here; a suite is one"),
        ("a: [*opd]\n", 's.yaml:1:5: `*opd` needs quotes, `"*opd"`: an unquoted `*` begins a YAML alias'),
        ("a: [x, *opd*, y]\n", 's.yaml:1:8: `*opd*` needs quotes, `"*opd*"`'),
        ("a: *\n", 's.yaml:1:4: `*` needs quotes, `"*"`'),
        ("why: this: that\n", 's.yaml:1:10: a `: ` inside a text needs quotes around it: `why: "this: that"`'),
        ("a: [!tiny-*]\n", 's.yaml:1:5: `!tiny-*` needs quotes, `"!tiny-*"`: an unquoted `!` begins a YAML tag'),
        ("? [a]\n: 2\n", "s.yaml:1:3: a key is a plain word"),
        ("a: \x07\n", "s.yaml:1:4: character U+0007 may not stand in a YAML file"),
        ('a: "\\UFFFFFFFF"\n', "not valid YAML"),
        ('a: "\\ud800"\n', "s.yaml:1:4: half of a surrogate pair"),
        ("a: " + "9" * 5000 + "\n", "s.yaml:1:4: a number of 5000 characters is too long"),
        ("[" * 5000, "nested deeper than 32 levels"),
        ("a: &x {b: *x}\n", "more than 50,000 values or 32 levels"),
    ],
)
def test_what_is_no_suite_is_refused(text, message):
    (problem,) = problems(text)
    assert message in problem


def test_billion_laughs_are_bounded():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (problem,) = problems("\n".join(lines))
    assert "after aliases are expanded" in problem


class TestFiles:
    def refused(self, path: Path) -> str:
        with pytest.raises(SuiteError) as caught:
            read_document(path, shown="s.yaml")
        return str(caught.value)

    def test_a_list_is_no_suite(self, tmp_path):
        path = tmp_path / "s.yaml"
        path.write_text("- 1\n")
        assert self.refused(path) == ("s.yaml:1:1: a suite is a mapping that starts with `geomcheck: 1`; found a list")

    def test_text_is_utf8(self, tmp_path):
        path = tmp_path / "s.yaml"
        path.write_bytes(b"name: x\nabout: caf\xe9\n")
        assert self.refused(path) == "s.yaml:2:11: the file is not UTF-8 text; save it as UTF-8"

    def test_a_byte_order_mark_is_no_text(self, tmp_path):
        path = tmp_path / "s.yaml"
        path.write_bytes(b"\xef\xbb\xbfname: x\n")
        assert read_document(path, shown="s.yaml").plain() == {"name": "x"}

    def test_size_is_bounded(self, tmp_path):
        path = tmp_path / "s.yaml"
        path.write_text("#" * (MAX_BYTES + 1))
        assert "larger than 1,000,000 bytes" in self.refused(path)

    def test_a_missing_file_is_wrong_usage(self, tmp_path):
        with pytest.raises(UsageError, match=r"cannot read suite s\.yaml: No such file"):
            read_document(tmp_path / "s.yaml", shown="s.yaml")


@given(st.text(alphabet=st.sampled_from("ab01:-[]{}&*!|>'\"%@#\n\t \\.,?~<é\x00\x85"), max_size=60))
def test_no_text_raises_anything_else(text):
    with contextlib.suppress(SuiteError):
        parse_document(text, shown="s.yaml")
