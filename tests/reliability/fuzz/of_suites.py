"""Suites, profiles and quantities as targets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from geomcheck.diagnostics.declaration import Unit
from geomcheck.record import Record
from geomcheck.suite import judge, load_profiles, load_suite, shipped_suites
from geomcheck.suite.language.quantities import Refusal, flatness, quantity, ratio, spelled, tolerance
from tests.reliability.fuzz.places import put
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.watch import ROOT
from tests.report.records import record_of


@cache
def _record() -> Record:
    return record_of(
        ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"], steps=(10, 20, 30)
    )


def _suite(content: bytes, scratch: Path) -> None:
    suite = load_suite(put(scratch / "fuzzed.yaml", content))
    suite.applies("tiny-opd")
    for expectation in suite.expectations[:20]:
        judge(expectation, _record(), _record())


def _suites() -> dict[str, bytes]:
    small = b"geomcheck: 1\nexpect:\n  - {id: a, metric: stable_rank, within: [1, 2]}\n"
    odd = b"geomcheck: 1\nextends: opd\nexpect:\n  - {id: b, why: &w text, metric: hill_exponent, below: 1e3}\n"
    return {path.stem: path.read_bytes() for path in shipped_suites().values()} | {"small": small, "odd": odd}


def _profile(content: bytes, scratch: Path) -> None:
    load_profiles([put(scratch / "fuzzed.yaml", content)])


def _profiles() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted((ROOT / "fixtures" / "profiles").glob("*.yaml"))}


def _quantity(content: bytes, scratch: Path) -> None:
    text = content.decode("utf-8", errors="replace")
    spelled(text)
    readers = [partial(read, unit=unit) for unit in Unit for read in (quantity, tolerance)]
    for read in (*readers, ratio, flatness):
        with suppress(Refusal):
            read(text)


def _quantities() -> Mapping[str, bytes]:
    texts = ("30%", "1 deg", "1°", "0.02 rad", "25", "-1e-4", ".5e+3 %", "1e999")
    return {str(number): text.encode() for number, text in enumerate(texts)}


def targets() -> list[Target]:
    """Everything that is written by hand."""
    return [
        Target("suite", _suite, _suites),
        Target("profile", _profile, _profiles),
        Target("quantity", _quantity, _quantities),
    ]
