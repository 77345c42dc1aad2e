import json

import jsonschema
import pytest

from geomcheck.diagnostics import load_metrics
from geomcheck.suite import json_schema, shipped_suites
from geomcheck.suite.language.document import parse_document

from .test_build import CONDITIONS, GRAMMAR
from .test_load import CONTRACT, PARENT

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def resolved(schema):
    """What an editor sees at a reference."""
    return SCHEMA["definitions"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def keys(schema, path=""):
    """(path, schema) of every key that a suite may have, at every depth."""
    for name, part in schema.get("properties", {}).items():
        yield f"{path}/{name}", resolved(part)
        yield from keys(resolved(part), f"{path}/{name}")
    for index, part in enumerate([*schema.get("anyOf", ()), *schema.get("definitions", {}).values()]):
        yield from keys(part, f"{path}/{index}")
    if isinstance(schema.get("items"), dict):
        yield from keys(resolved(schema["items"]), f"{path}[]")


def values(schema):
    """Every schema inside `schema`."""
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from values(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from values(part)


def errors(text):
    return [error.message for error in VALIDATOR.iter_errors(parse_document(text, shown="s.yaml").plain())]


def test_it_is_a_draft_7_schema_in_plain_json():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert "$defs" not in json.dumps(SCHEMA)


@pytest.mark.parametrize("text", [CONTRACT, PARENT])
def test_valid_suites_are_valid(text):
    assert errors(text) == []


def test_an_override_needs_no_metric():
    assert errors("geomcheck: 1\nextends: opd\nexpect: [{id: a, within: [1, 2]}]\n") == []
    assert errors("geomcheck: 1\nextends: opd\nexpect: [{id: a, wthin: [1, 2]}]\n")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("within: [20, 30]", "withn: [20, 30]"),
        ("within: [20, 30]", "within: [20]"),
        ("within: [20, 30]", "within: [20%, 30%]"),
        ("near: 1 deg", "near: 1"),
        ("k: 12.5%", "k: twelve"),
        ("stat: median", "stat: avg"),
        ("metric: stable_rank", "metric: stable_rnk"),
        ("at: last", "at: lst"),
        ("level: warn", "level: wrn"),
        ("name: opd", "nmae: opd"),
        ("geomcheck: 1", "geomcheck: 2"),
        ("weights: attention", "weights: atention"),
    ],
)
def test_typos_are_refused(right, wrong):
    assert right in CONTRACT
    assert errors(CONTRACT.replace(right, wrong, 1))


@pytest.mark.parametrize(
    "keys",
    [
        "metric: subspace_energy\nfrom: {progress: 20%}\nabove: 0.5",
        "metric: stable_rank\ntrend: flat\ntolerance: 10%\nper: layer\nallow: 5%",
        "metric: stable_rank\nlike: reference\ntolerance: 10%",
        "metric: update_support\nbelow: 0.3\nat: {from: {step: 3}, to: last}",
        "regime: opd\nat: last",
    ],
)
def test_every_condition_is_known(keys):
    lines = "".join(f"    {line}\n" for line in keys.splitlines())
    assert errors(f"geomcheck: 1\nexpect:\n  - id: it\n{lines}") == []


def test_each_metric_offers_its_own_parameters_with_their_meaning():
    for metric in load_metrics():
        properties = SCHEMA["definitions"][metric.name]["properties"]
        for parameter in metric.parameters:
            assert resolved(properties[parameter.name])["description"].startswith(parameter.about)
    assert "k" not in SCHEMA["definitions"]["stable_rank"]["properties"]


@pytest.mark.parametrize("keys", [keys for keys, _ in GRAMMAR + CONDITIONS])
def test_the_schema_never_crashes_on_what_the_loader_refuses(keys):
    lines = "".join(f"    {line}\n" for line in keys.splitlines())
    errors(f"geomcheck: 1\nexpect:\n  - id: it\n{lines}")


def test_the_shipped_schema_is_current():
    shipped = shipped_suites()["opd"].parent / "geomcheck-suite.schema.json"
    assert json.loads(shipped.read_text()) == json_schema(), (
        "run: geomcheck schema > suites/geomcheck-suite.schema.json"
    )


def test_every_key_is_described_with_an_example():
    # Keys inside `if` are tests, not keys of a suite.
    bare = {path for path, part in keys(SCHEMA) if not part.get("description") or not part.get("examples")}
    assert bare == set()
    assert len(list(keys(SCHEMA))) > 300


def test_every_word_has_its_meaning():
    for schema in values(SCHEMA):
        if "enum" in schema:
            assert len(schema["enum"]) == len(schema["enumDescriptions"]), schema
            assert all(schema["enumDescriptions"]), schema


def test_every_example_is_valid():
    checked = 0
    for path, part in keys(SCHEMA):
        validator = jsonschema.Draft7Validator({"definitions": SCHEMA["definitions"], **part})
        for example in part["examples"]:
            assert not list(validator.iter_errors(example)), (path, example)
            checked += 1
    assert checked > 400


def test_hovering_over_a_metric_reads_like_its_documentation():
    for metric in load_metrics():
        about = resolved(SCHEMA["definitions"][metric.name]["properties"]["metric"])["description"]
        assert all(part in about for part in (metric.definition, metric.unit.value, metric.source, metric.undefined))


@pytest.mark.parametrize("name", sorted(shipped_suites()))
def test_the_shipped_suites_are_valid(name):
    assert errors(shipped_suites()[name].read_text()) == []
