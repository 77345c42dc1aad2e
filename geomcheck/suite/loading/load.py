"""Load a suite: read its file and those it extends, merge them, validate everything, report all problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from geomcheck.diagnostics import load_metrics
from geomcheck.errors import Problem, SuiteError, UsageError
from geomcheck.files import displayed
from geomcheck.suite.conditions import SubjectCondition, load_conditions
from geomcheck.suite.conditions.parts import Parts
from geomcheck.suite.conditions.profile import PAPER, Profile
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.good_runs import GoodRuns
from geomcheck.suite.language.document import Node, salvage_document
from geomcheck.suite.language.ids import is_slip
from geomcheck.suite.language.names import metric_hint
from geomcheck.suite.language.places import UNKNOWN
from geomcheck.suite.language.quantities import did_you_mean, spelled
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.language.statement import Statement, validate
from geomcheck.suite.loading.build import build
from geomcheck.suite.loading.grammar import Heading, MetricStatement, defaults_model
from geomcheck.suite.loading.profiles import load_profiles
from geomcheck.suite.loading.shipped import find_suite
from geomcheck.suite.normal import Normal
from geomcheck.suite.suite import Suite

MAX_CHAIN = 16
SAME = {"id", "level", "why", "allow"}
"""Keys that an expectation may override and is still about the same figures at the same checkpoints."""

MAX_COMPARED = 1000  # inherited ids that a new one is held against

Defaults = dict[str, dict[str, Node]]


def load_suite(source: str | Path) -> Suite:
    """Load the suite file at `source`, or the shipped suite of that name.

    Raises:
        UsageError: there is no such file or shipped suite.
        SuiteError: the file, or one that it extends, is invalid; carries every problem found.
    """
    path = find_suite(source)
    layer = _read(path, ())
    problems = list(layer.problems)
    expectations = _build(layer, problems)
    if not layer.statements and not problems:
        problems.append(Problem(layer.root.position, "the suite expects nothing; add expectations under `expect`"))
    if problems:
        raise SuiteError(list(dict.fromkeys(problems)))
    return Suite(
        name=layer.name,
        about=layer.about,
        path=displayed(path),
        file=path.resolve(),
        base=layer.base,
        applies_to=layer.applies_to,
        weights=layer.weights,
        expectations=tuple(expectations),
        good=layer.good,
    )


@dataclass
class _Layer:
    """What a file says, with what it inherits.

    `statements` are the expectations by id, in order. `orphaned`: what it extends could not be read, so that
    statements without a metric may be complete all the same. `inherits`: it extends one that was read.
    """

    root: Node
    name: str = ""
    about: str = ""
    base: str | None = None
    applies_to: tuple[str, ...] = ("*",)
    weights: Selection = DEFAULT
    profiles: tuple[Profile, ...] = PAPER
    storage: tuple[str, ...] = ()
    normal: Mapping[str, Normal] = field(default_factory=dict)
    good: GoodRuns | None = None
    defaults: Defaults = field(default_factory=dict)
    statements: dict[str, Node] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    orphaned: bool = False
    inherits: bool = False


def _read(path: Path, chain: tuple[Path, ...]) -> _Layer:
    root, unread = salvage_document(path, shown=displayed(path))
    inner = {*MetricStatement.model_fields, *load_conditions().by_key, "tolerance"} - {*Heading.model_fields}
    elsewhere = dict.fromkeys(inner, "; it belongs to an expectation: indent it below its `- id:`")
    heading, problems = validate(Heading, root, what="the suite", elsewhere=elsewhere)
    problems = [*unread, *problems]
    parent = _parent(root, path, (*chain, path.resolve()), problems)
    layer = _Layer(root) if parent is None else replace(parent, root=root)
    layer.orphaned = parent is None and "extends" in root.value
    layer.inherits = parent is not None and bool(parent.statements)
    layer.problems = [*(parent.problems if parent else []), *problems]
    if heading is not None:
        _adopt(heading, layer, path)
    layer.defaults = _defaults(root, layer)
    layer.statements = _statements(root, layer)
    layer.problems += [
        Problem(root.locate(["normal", name], key=True), f"`normal`: no expectation has the id `{name}`")
        for name in (heading.normal if heading is not None else ())
        if name not in layer.statements
    ]
    return layer


def _adopt(heading: Heading, layer: _Layer, path: Path) -> None:
    given = heading.model_fields_set
    layer.name = heading.name or _slug(path.stem)
    layer.about = heading.about if "about" in given else layer.about
    layer.base = _base(heading.base, path) if "base" in given else layer.base
    layer.applies_to = heading.applies_to if "applies_to" in given else layer.applies_to
    layer.weights = heading.weights if "weights" in given else layer.weights
    layer.storage = tuple(heading.storage) if "storage" in given else layer.storage
    layer.normal = {**_still_normal(layer), **heading.normal}
    if heading.calibrated is not None:
        names = frozenset(name for normal in heading.normal.values() for name in normal.means)
        layer.good = replace(heading.calibrated, selection=layer.weights, names=names)
    try:
        if "profiles" in given:
            layer.profiles = load_profiles(heading.profiles, beside=path.parent)
    except UsageError as error:
        layer.problems.append(Problem(layer.root.value["profiles"].position, f"`profiles`: {error}"))
    except SuiteError as error:
        layer.problems += error.problems


def _still_normal(layer: _Layer) -> dict[str, Normal]:
    """What a suite inherits of what is normal: not of expectations of which it changes what is judged."""
    expect = layer.root.value.get("expect")
    items = expect.value if expect is not None and isinstance(expect.value, list) else []
    changed = {item.text("id") for item in items if isinstance(item.value, dict) and not item.value.keys() <= SAME}
    return {name: normal for name, normal in layer.normal.items() if name not in changed}


def _parent(root: Node, path: Path, chain: tuple[Path, ...], problems: list[Problem]) -> _Layer | None:
    source = root.text("extends") or ""
    if not source.strip():
        return None
    try:
        found = find_suite(source, beside=path.parent)
        if len(chain) > MAX_CHAIN:
            raise UsageError(f"more than {MAX_CHAIN} suites in a row")
        if found.resolve() in chain:
            links = [*chain[chain.index(found.resolve()) :], found.resolve()]
            raise UsageError(f"a suite cannot extend itself: {' -> '.join(map(displayed, links))}")
        return _read(found, chain)
    except UsageError as error:
        problems.append(Problem(root.locate(["extends"]), f"`extends`: {error}"))
    except SuiteError as error:
        problems += error.problems
    return None


def _base(base: str, path: Path) -> str:
    """An absolute path where `base` is local, else `base` as it is: a Hub id."""
    looks_local = base.startswith((".", "/", "~"))
    try:
        local = path.resolve().parent / Path(base).expanduser()
        return str(local.resolve()) if looks_local or local.exists() else base
    except (OSError, ValueError, RuntimeError):  # too long, a null character, no such home
        return base


def _slug(stem: str) -> str:
    return re.sub(r"[^a-z0-9_.-]+", "-", stem.lower()).lstrip("_.-") or "suite"


def _defaults(root: Node, layer: _Layer) -> Defaults:
    merged = {metric: dict(values) for metric, values in layer.defaults.items()}
    node = root.value.get("defaults")
    if node is None or not isinstance(node.value, dict):
        return merged
    metrics = load_metrics()
    for name, values in node.value.items():
        if name not in metrics:
            holders = [metric.name for metric in metrics if metric.parameter(name)]
            meant = f"; parameters stand below their metric: `{holders[0]}: {{{name}: ...}}`" if holders else ""
            hint = meant or metric_hint(name)
            layer.problems.append(Problem(values.key, f"unknown metric {spelled(name)} in `defaults`{hint}"))
        elif not isinstance(values.value, dict):
            found = spelled(values.plain())
            layer.problems.append(Problem(values.position, f"expected parameters of {name}; found {found}"))
        else:
            _, problems = validate(defaults_model(name), values, what=f"`defaults` of {name}")
            layer.problems += problems
            known = {key: value for key, value in values.value.items() if metrics[name].parameter(key)}
            merged.setdefault(name, {}).update(known)
    return merged


def _statements(root: Node, layer: _Layer) -> dict[str, Node]:
    node = root.value.get("expect")
    merged = dict(layer.statements)
    if node is None or not isinstance(node.value, list):
        return merged
    seen: dict[str, Node] = {}
    entries, problems = _together(node.value)
    layer.problems += problems
    for item in entries:
        key = item.text("id")
        if key is None:
            merged[f"\0{item.position}"] = item  # for what is wrong with it
        elif key in seen:
            here, first = item.value["id"], seen[key]
            message = f"`id: {key}` is given twice: here and in line {first.position.line}; ids are unique"
            layer.problems.append(Problem(here.position, message))
            merged[f"\0{item.position}"] = item  # for what else is wrong with it
        else:
            seen[key] = item.value["id"]
            layer.problems += _overrides_none(key, item, layer.statements)
            merged[key] = _override(merged[key], item) if key in merged else item
    return merged


def _subject(item: Node) -> str | None:
    """What an expectation is about: the name of its metric, or the key that stands for one."""
    return item.text("metric") or next((key for key in load_conditions().instead if key in item.value), None)


def _together(entries: list[Node]) -> tuple[list[Node], list[Problem]]:
    """The expectations, without those of which each key has a dash of its own, and a problem for each of these."""
    subjects = {"metric", *load_conditions().instead}
    kept, problems, scattered = [], [], False
    for index, entry in enumerate(entries):
        after = entries[index + 1] if index + 1 < len(entries) else None
        starts = entry.text("id") is not None and not subjects & set(entry.value)
        if starts and after is not None and isinstance(after.value, dict) and "id" not in after.value:
            message = (
                "each `-` begins an expectation: write the keys of one below each other, and a `-` before the first"
            )
            problems.append(Problem(after.position, message))
            scattered = True
        elif not (scattered and isinstance(entry.value, dict) and "id" not in entry.value):
            scattered = False
            kept.append(entry)
    return kept, problems


def _overrides_none(key: str, item: Node, inherited: dict[str, Node]) -> list[Problem]:
    """A problem where an expectation is meant to override an inherited one, and its id is that of none.

    It is so meant where it names no metric, or where its id is one slip of the keyboard away from that of an inherited
    expectation of the same metric. An id that is plainly another is a new expectation.
    """
    if not inherited or key in inherited:
        return []
    place = item.value["id"].position
    ids = [name for name in inherited if not name.startswith("\0")]
    if _subject(item) is None:
        hint = did_you_mean(key, ids)
        listed = "" if hint else f"; the suite that is extended has {', '.join(ids)}"
        return [Problem(place, f"`{key}` overrides no expectation, and names no metric of its own{hint or listed}")]
    near = [name for name in ids[:MAX_COMPARED] if is_slip(key, name)]
    same = [name for name in near if _subject(item) == _subject(inherited[name])]
    if not same:
        return []
    return [
        Problem(
            place,
            f"`{key}` overrides nothing, and is nearly `{same[0]}` of the suite that is extended, which has the same "
            "metric: write that id to override it, or another one to add an expectation",
        )
    ]


def _override(inherited: Node, item: Node) -> Node:
    """The keys of `item` over those of `inherited`, without what they replace as a whole.

    Another metric takes over nothing but the common keys; another kind of condition replaces the old one
    together with its tolerance.
    """
    old, by_key = dict(inherited.value), load_conditions().by_key
    kinds = {by_key[key] for key in item.value if key in by_key}
    metric = item.value.get("metric")
    changed = metric is not None and "metric" in old and metric.value != old["metric"].value
    if changed or any(issubclass(kind, SubjectCondition) for kind in kinds):
        old = {key: node for key, node in old.items() if key in Statement.model_fields}
    elif kinds and kinds != {by_key[key] for key in old if key in by_key}:
        old = {key: node for key, node in old.items() if key not in by_key and key != "tolerance"}
    return Node({**old, **item.value}, item.position, item.key)


def _build(layer: _Layer, problems: list[Problem]) -> list[Expectation]:
    built = []
    subjects = {"metric", *load_conditions().instead}
    for node in layer.statements.values():
        # What it overrides was not read, or `_overrides_none` says that there is nothing.
        overrides = layer.orphaned or layer.inherits
        if overrides and isinstance(node.value, dict) and "id" in node.value and not subjects & set(node.value):
            continue
        defaults = layer.defaults.get(node.text("metric") or "")
        complete = Node({**defaults, **node.value}, node.position, node.key) if defaults else node
        expectation, found = build(complete, layer.weights, layer.profiles)
        problems += found
        if expectation is not None:
            training = layer.good.training if layer.good is not None else UNKNOWN
            normal = layer.normal.get(expectation.id)
            built.append(
                replace(
                    expectation.in_training(training),
                    storage=layer.storage,
                    normal=None if normal is None else replace(normal, training=training),
                    good=layer.good,
                )
            )
    return [_with_ranges(expectation, built, problems) for expectation in built]


def _with_ranges(expectation: Expectation, built: list[Expectation], problems: list[Problem]) -> Expectation:
    """An expectation on single weights takes the ranges of one on the same figures, where it has none of its own."""
    if not isinstance(expectation.condition, Parts):
        return expectation
    alike = (one for one in built if one.metric == expectation.metric and one.params == expectation.params)
    others = (one.normal for one in alike if one.weights == expectation.weights)
    normal = next(filter(None, (expectation.normal, *others)), None)
    if normal is not None:
        if normal.idle:
            told = f"the range of {normal.idle} under `normal` reaches down to 0, where a weight stands still"
            problems.append(Problem(expectation.position, f"{told}: remove this expectation, or calibrate again"))
        return replace(expectation, normal=normal)
    told = f"`normal: each weight` needs ranges of {expectation.metric} under `normal`, as `geomcheck calibrate` writes"
    problems.append(Problem(expectation.position, f"{told}; there are none of these figures"))
    return expectation
