"""What a suite would notice, on small runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import geomcheck
from fixtures.defects.power import compared
from geomcheck.checkpoints import comparable, find_base
from geomcheck.defects import Defect, NotApplicable, Spoiling, Subject
from geomcheck.defects.noticed import notice
from geomcheck.defects.operations import Noisy, Scaled
from geomcheck.defects.power import TooLong, bench_of
from geomcheck.defects.registry import load_defects
from geomcheck.defects.spoiled import GoodRun
from geomcheck.errors import UsageError
from geomcheck.measurement import Cache, Resources, measure_record, survey
from geomcheck.measurement.cache.identity import identity
from geomcheck.suite import Suite
from tests.defects.conftest import suite_within
from tests.extensions.installed import install
from tests.runs import DOWN, NORM, K, Q, age, base_weights, moved, simple_run, write_model, write_run

SCALES = ("update-x0.5", "update-x1.1", "update-x2", "negated")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_each_defect_is_caught_by_the_first_expectation_from_its_checkpoint_on(suite: Suite, run: Path) -> None:
    found = geomcheck.power(suite, run, defects=[*SCALES, "frozen-matrix", "head-reset"])
    by_name = {one.defect: one for one in found.tried}
    assert {name: one.outcome for name, one in by_name.items()} == {
        "update-x0.5": "caught",
        "update-x1.1": "missed",
        "update-x2": "caught",
        "negated": "missed",
        "frozen-matrix": "caught",
        "head-reset": "idle",
    }
    assert (by_name["update-x2"].failed, by_name["update-x2"].step) == (("size",), 30)
    assert (by_name["frozen-matrix"].expectation, by_name["frozen-matrix"].step) == ("moves", 10)
    assert by_name["head-reset"].reason == "no head that moved"
    assert found.summary == "would notice 3 of 5 defects; blind to: update-x1.1, negated"


def test_the_smallest_change_that_is_noticed_is_that_of_the_band(suite: Suite, run: Path) -> None:
    least = {one.kind: one for one in geomcheck.power(suite, run).thresholds}
    assert (least["scale-up"].unnoticed, least["scale-up"].noticed) == (1.3, 1.31)
    assert (least["scale-down"].unnoticed, least["scale-down"].noticed) == (0.7, 0.69)
    assert least["noise"].noticed == 1.0  # D and its noise have a norm of sqrt(1 + share^2)
    assert least["noise"].unnoticed == 0.8


def test_what_is_said_is_what_a_gate_says_of_the_same_defects_on_disk(suite: Suite, run: Path, tmp_path: Path) -> None:
    found = compared(suite, run, tmp_path)
    assert len(found) > 20
    assert [one for one in found if not one.agrees] == []


def test_so_it_is_of_a_run_of_adapters(tmp_path: Path) -> None:
    adapted = _adapted(tmp_path / "adapted")
    found = compared(suite_within(tmp_path, 0, 4e-3), adapted, tmp_path / "out")
    assert [one for one in found if not one.agrees] == []
    outcomes = {one.tried.defect: one.tried.outcome for one in found}
    assert outcomes["update-x2"] == outcomes["frozen-matrix"] == "caught"
    assert outcomes["negated"] == "missed"
    assert not {"through-bf16", "noise-0.5", "norms-reset"} & outcomes.keys()


def _adapted(directory: Path) -> Path:
    """A run of three adapters of rank 2; the last is 1.7 times as far as the first."""
    generator = torch.Generator().manual_seed(0)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "k_proj", "down_proj"]}
    base = base_weights()
    write_model(directory / "base", base)
    for step in (10, 20, 30):
        factors = {}
        for name in (Q, K, DOWN):
            prefix, (out, into) = f"base_model.model.{name.removesuffix('.weight')}", base[name].shape
            size = 3e-4 * step**0.5
            factors[f"{prefix}.lora_A.weight"] = torch.randn(2, into, generator=torch.Generator().manual_seed(1))
            factors[f"{prefix}.lora_B.weight"] = size * torch.randn(out, 2, generator=generator)
        checkpoint = directory / f"checkpoint-{step}"
        checkpoint.mkdir()
        save_file(factors, checkpoint / "adapter_model.safetensors")
        (checkpoint / "adapter_config.json").write_text(json.dumps(settings))
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": 30}))
    return directory


def test_only_the_weights_that_a_defect_touches_are_measured_again(suite: Suite, run: Path) -> None:
    with bench_of(suite, run) as bench:
        measured: list[int] = []
        bench.tell = measured.append
        one, all_of = Spoiling({Q: Scaled(0.5), NORM: Scaled(0.5)}), Spoiling(dict.fromkeys((Q, DOWN), Scaled(0.5)))
        bench.judge(one)
        assert measured == [24 * 16]
        bench.judge(all_of)
        assert measured == [24 * 16, 16 * 24]


def test_nothing_is_remembered_of_a_run_with_a_defect(suite: Suite, run: Path, tmp_path: Path) -> None:
    """Under the files of the good run lie its own figures, before and after."""
    cache = tmp_path / "cache"
    with bench_of(suite, run, cache=cache):
        pass
    before = contents(cache)
    assert before
    remembering = geomcheck.power(suite, run, defects=SCALES, cache=cache)
    assert contents(cache) == before
    assert remembering == geomcheck.power(suite, run, defects=SCALES)


def test_a_source_with_a_defect_has_no_key_in_the_cache(suite: Suite, run: Path, tmp_path: Path) -> None:
    opened = geomcheck.open_run(run)
    good = GoodRun(*comparable(opened, find_base(opened)))
    cache, sizes = Cache(tmp_path / "cache"), []
    for spoiling in (Spoiling(), Spoiling({Q: Scaled(2.0)}), Spoiling(to_w0={Q: Noisy(1.0, last=2)}), Spoiling()):
        spoiled, base = good.spoiled(spoiling) if spoiling.names else (good.run, good.base)
        record = survey(spoiled, base)
        measure_record(record, spoiled, base, suite.requests(record), resources=Resources(cache=cache))
        sizes.append(suite.evaluate(record)[0].observed[-1].value)
    assert sizes[0] == sizes[3]
    assert len(set(sizes)) == 3
    touched = good.spoiled(Spoiling({Q: Scaled(2.0)}))[0].checkpoints[0].source
    assert identity(touched, settled_at=2**62) is None


def test_a_run_that_the_suite_does_not_pass_is_refused(suite: Suite, tmp_path: Path) -> None:
    small = simple_run(tmp_path / "small", scale=1e-4)
    with pytest.raises(UsageError, match=r"^small does not pass size by itself: size: .* give one that passes$"):
        geomcheck.power(suite, small)


def test_a_defect_that_changes_nothing_is_none(suite: Suite, tmp_path: Path, run: Path) -> None:
    base = base_weights()
    coarse = write_run(
        tmp_path / "coarse", base, {s: moved(base, 1e-2 * s, seed=s, dtype=torch.bfloat16) for s in (10, 20)}
    )
    (found,) = geomcheck.power(suite_within(tmp_path, 0, 1), coarse, defects=["through-bf16"]).tried
    assert (found.outcome, found.reason) == ("idle", "it changes nothing here")


def test_a_run_of_one_checkpoint_lacks_what_needs_two(tmp_path: Path) -> None:
    single = simple_run(tmp_path / "single", (10,))
    found = geomcheck.power(suite_within(tmp_path, 0, 1), single)
    idle = {one.defect for one in found.of("idle")}
    assert {"reordered", "overwritten", "stale-matrix", "last-x1.25"} <= idle
    assert "update-x2" not in idle


def test_more_than_is_allowed_is_refused_before_it_begins(suite: Suite, run: Path) -> None:
    with pytest.raises(TooLong, match="more than 100"):
        geomcheck.power(suite, run, most=100)


def test_how_long_it_takes_is_said_before_it_begins(suite: Suite, run: Path) -> None:
    told: list[float] = []
    geomcheck.power(suite, run, defects=["update-x2"], expected=told.append)
    assert len(told) == 1
    assert 0 < told[0] < math.inf


def test_an_unknown_defect_is_refused_with_what_is_meant(suite: Suite, run: Path) -> None:
    with pytest.raises(UsageError, match=r"^no defect is called 'update-x3'; did you mean update-x2\?. There are"):
        geomcheck.power(suite, run, defects=["update-x3"])


def test_a_defect_that_makes_another_shape_or_no_number_is_a_refusal(suite: Suite, run: Path) -> None:
    class Cut:
        of_factors = False

        def __call__(self, good: object, name: str, index: int) -> torch.Tensor:
            return torch.zeros(1)

    class Burst(Cut):
        def __call__(self, good: object, name: str, index: int) -> torch.Tensor:
            return torch.full((24, 16), math.inf)

    with bench_of(suite, run) as bench:
        for operation, reason in ((Cut(), "the defect makes shape"), (Burst(), "NaN or infinite")):
            found = notice(bench.judge(Spoiling({Q: operation})), bench.record.points)
            assert found is not None
            assert reason in found.reason


PACKAGE = """
from geomcheck.defects import Defect, Spoiling
from geomcheck.defects.operations import Scaled

TENFOLD = Defect("tenfold", "the update ten times", lambda run: Spoiling({w.name: Scaled(10.0) for w in run.weights}))
NONE = "no defect"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    load_defects.cache_clear()
    yield tmp_path / "site"
    load_defects.cache_clear()


def test_packages_add_defects(suite: Suite, run: Path, site: Path) -> None:
    install(site, "tenfold_of_mine", PACKAGE, {"geomcheck.defects": {"tenfold": "TENFOLD"}})
    (found,) = geomcheck.power(suite, run, defects=["tenfold"]).tried
    assert (found.about, found.outcome) == ("the update ten times", "caught")


def test_what_is_no_defect_is_refused(site: Path) -> None:
    install(site, "none_of_mine", PACKAGE, {"geomcheck.defects": {"tenfold": "NONE"}})
    with pytest.raises(UsageError, match=r"is not a geomcheck\.defects\.Defect"):
        load_defects()


def test_a_defect_says_what_a_run_lacks(suite: Suite, run: Path) -> None:
    def spoil(subject: Subject) -> Spoiling:
        raise NotApplicable(f"{subject.count} checkpoints are too few")

    with bench_of(suite, run) as bench, pytest.raises(NotApplicable, match="3 checkpoints are too few"):
        bench.spoiling(Defect("none", "none", spoil).spoil)


def test_an_aged_run_is_left_as_it_is(suite: Suite, tmp_path: Path) -> None:
    mine = age(simple_run(tmp_path / "mine"))
    before = contents(mine)
    geomcheck.power(suite, mine, defects=SCALES)
    assert contents(mine) == before
