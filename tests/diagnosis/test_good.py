"""A run against good ones, and what its trainer logged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import geomcheck
from geomcheck.cli import main
from geomcheck.diagnosis import Case, Finding, case_of, diagnose
from tests.diagnosis.spoiled import ALL, EVERY, FIXTURES, States, place, replaced, spoiled

OPD = FIXTURES / "tiny-opd"
LAYER = ("layers.1.self_attn", "layers.1.mlp")


@cache
def _noisy(seed: int) -> Callable[[States], None]:
    """Noise of a tenth of each update, the same at every checkpoint in its share: a good run of another seed."""

    def edit(states: States) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, w0 in states[0].items():
            noise = torch.randn(w0.shape, generator=generator)
            for step in ALL:
                update = states[step][name].float() - w0.float()
                states[step][name] = w0.float() + (update + 0.1 * update.norm() * noise / noise.norm()) / 1.01**0.5

    return edit


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    """Two good runs, measured once."""
    there = tmp_path_factory.mktemp("good")
    return tuple(case_of(spoiled(there / f"seed-{seed}", _noisy(seed))) for seed in (1, 2))


def told(run: Path, goods: tuple[Case, ...]) -> list[Finding]:
    return list(diagnose(run, good=goods))


def scaled(factor: Callable[[int], float], parts: tuple[str, ...] = EVERY) -> Callable[[States], None]:
    """The update of some weights times a factor, by step."""

    def make(states: States, step: int, name: str) -> Tensor:
        w0 = states[0][name].float()
        return w0 + factor(step) * (states[step][name].float() - w0)

    return replaced(ALL, parts, make)


def other_update(states: States, step: int, name: str) -> Tensor:
    """The update of the other layer."""
    other = name.replace("layers.1.", "\0").replace("layers.0.", "layers.1.").replace("\0", "layers.0.")
    return states[0][name].float() + states[step][other].float() - states[0][other].float()


def another_way(states: States) -> None:
    """Updates of the same size in directions of their own, as straight."""
    generator = torch.Generator().manual_seed(7)
    for name, w0 in states[0].items():
        noise = torch.randn(w0.shape, generator=generator)
        for step in ALL:
            size = (states[step][name].float() - w0.float()).norm()
            states[step][name] = w0.float() + size * noise / noise.norm()


def jittered(states: States) -> None:
    """Noise of its own at every checkpoint."""
    generator = torch.Generator().manual_seed(7)
    for step in ALL:
        for name, w0 in states[0].items():
            noise = torch.randn(w0.shape, generator=generator)
            size = 0.35 * (states[step][name].float() - w0.float()).norm()
            states[step][name] = states[step][name].float() + size * noise / noise.norm()


def new_start(states: States) -> None:
    for step, held in states.items():
        for name in held:
            noise = torch.randn(held[name].shape, generator=torch.Generator().manual_seed(3))
            held[name] = (held[name].float() + 0.01 * noise).to(torch.float32 if step else held[name].dtype)


def from_elsewhere(states: States) -> None:
    """As trained from weights near W0."""
    for index, name in enumerate(states[0]):
        noise = torch.randn(states[0][name].shape, generator=torch.Generator().manual_seed(index))
        size = 2 * (states[30][name].float() - states[0][name].float()).norm()
        for step in ALL:
            states[step][name] = states[step][name].float() + size * noise / noise.norm()


def drunk(states: States) -> None:
    """Two thirds of each step, and a step to the side."""
    generator, aside = torch.Generator().manual_seed(7), dict[str, Tensor]()
    for step in ALL:
        for name, w0 in states[0].items():
            update = states[step][name].float() - w0.float()
            noise = torch.randn(w0.shape, generator=generator)
            aside[name] = aside.get(name, torch.zeros(w0.shape)) + 0.25 * update.norm() * noise / noise.norm()
            states[step][name] = w0.float() + 0.66 * update + aside[name]


def uneven(states: States) -> None:
    for index, name in enumerate(sorted(states[0])):
        scaled(lambda _, index=index: 0.3 + 0.1 * (index % 6), (name,))(states)


DEFECTS: Mapping[str, tuple[str, Callable[[States], None], str, str]] = {
    "halved": ("scale", scaled(lambda _: 0.5), "0.50 times a good run's at every checkpoint", "50% with the base"),
    "twice": ("scale", scaled(lambda _: 2.0), "2.00 times", "added twice"),
    "rslora": ("scale", scaled(lambda _: 8**0.5), "2.83 times", "rsLoRA used"),
    "last": ("scale", scaled(lambda step: 5.0 if step == 150 else 1.0), "at checkpoint-150", "merge"),
    "fading": ("drift", scaled(lambda step: 1.1 - step / 300), "falls from 1.00", "penalty towards W0"),
    "rising": ("drift", scaled(lambda step: 0.3 + step / 300), "rises from 0.40", "average (EMA)"),
    "one": ("uneven", scaled(lambda _: 0.5, ("layers.1.mlp.up_proj",)), "layers.1.mlp.up_proj.weight is 0.50", "stale"),
    "layer": ("uneven", scaled(lambda _: 2.0, LAYER), "every matrix of layer 1 is 2.00 times", "another scale"),
    "all uneven": ("uneven", uneven, "differ from weight to weight: 0.30 to 0.8", "Adam's epsilon"),
    "negated": ("sign", scaled(lambda _: -1.0), "every matrix points the other way", "sign of the loss"),
    "negated layer": (
        "sign",
        scaled(lambda _: -0.5, LAYER),
        "every matrix of layer 1 points the other way",
        "subtract",
    ),
    "exchanged": (
        "another-update",
        replaced(ALL, ("layers.",), other_update),
        "hold the update of",
        "under each other's names",
    ),
    "another way": ("objective", another_way, "points elsewhere than in good runs", "data"),
    "jittered": ("noise", jittered, "noisier than in good runs", "batch"),
    "elsewhere": ("start", from_elsewhere, "did not start at W0: up to checkpoint-30 the update is", "earlier one"),
    "new start": ("start", new_start, "another W0 than the good runs", "another checkpoint"),
}


@pytest.mark.parametrize(("kind", "edit", "sentence", "cause"), DEFECTS.values(), ids=DEFECTS.keys())
def test_what_differs_from_good_runs_is_told_once_with_two_causes(
    tmp_path: Path, goods: tuple[Case, ...], kind: str, edit: Callable[[States], None], sentence: str, cause: str
) -> None:
    (found,) = told(spoiled(tmp_path / "opd", edit), goods)
    assert (found.kind, found.grade, len(found.causes)) == (kind, "inference", 2)
    assert sentence in found.sentence
    assert any(cause in one for one in found.causes)


def in_bf16(states: States) -> None:
    for step in ALL:
        states[step] = {name: tensor.bfloat16() for name, tensor in states[step].items()}


def at_other_steps(run: Path) -> Path:
    """Without two of the checkpoints."""
    for step in (60, 120):
        shutil.rmtree(run / place(step))
    return run


BENIGN: Mapping[str, Callable[[Path], Path]] = {
    "itself": lambda there: shutil.copytree(OPD, there),
    "another seed": lambda there: spoiled(there, _noisy(3)),
    "bf16": lambda there: spoiled(there, in_bf16),
    "other steps": lambda there: at_other_steps(spoiled(there, _noisy(3))),
    "10% larger": lambda there: spoiled(there, scaled(lambda _: 1.1)),
    "a slow start": lambda there: spoiled(there, scaled(lambda step: 1 - 4 / step)),
}


@pytest.mark.parametrize("make", BENIGN.values(), ids=BENIGN.keys())
@pytest.mark.parametrize("count", [1, 2])
def test_nothing_is_said_of_a_run_like_the_good_ones(
    tmp_path: Path, goods: tuple[Case, ...], make: Callable[[Path], Path], count: int
) -> None:
    assert told(make(tmp_path / "opd"), goods[:count]) == []


def test_saves_that_lag_one_behind_are_told_beside_the_first_that_is_w0(
    tmp_path: Path, goods: tuple[Case, ...]
) -> None:
    late = replaced(ALL, EVERY, lambda states, step, name: states[step - 30][name].float())
    first, second = told(spoiled(tmp_path / "opd", late), goods)
    assert first.sentence == "checkpoint-30 is W0, to the bit, in every weight"
    assert second.sentence.startswith("every save lags one behind: checkpoint-30 is W0 or nearly")
    slow = scaled(lambda step: 0.001 if step == 30 else 0.5)
    assert "lag" not in {found.kind for found in told(spoiled(tmp_path / "slow", slow), goods)}


def test_what_the_loss_says_comes_before_a_smaller_batch(tmp_path: Path, logged: tuple[Case, ...]) -> None:
    run = logging(spoiled(tmp_path / "opd", drunk), {**SOUND, "loss": lambda step: 0.1 / step})
    (noise,) = told(run, logged)
    assert noise.causes[0] == "another objective, with noisier gradients: the loss in the log is 0.1 times a good run's"
    (noise,) = told(logging(spoiled(tmp_path / "same", drunk), SOUND), logged)
    assert noise.causes[0].startswith("a smaller batch")


def test_a_logged_rate_comes_before_another_objective(tmp_path: Path, logged: tuple[Case, ...]) -> None:
    def slow(states: States) -> None:
        another_way(states)
        scaled(lambda _: 0.3)(states)

    run = logging(spoiled(tmp_path / "opd", slow), {**SOUND, "learning_rate": lambda _: 3e-6})
    assert told(run, logged)[0].causes[0].startswith("the learning rate: 3e-06 in the log")
    assert told(logging(spoiled(tmp_path / "same", slow), SOUND), logged)[0].kind == "objective"


def test_one_good_run_tells_what_no_recipe_does_by_itself(tmp_path: Path, goods: tuple[Case, ...]) -> None:
    (found,) = told(spoiled(tmp_path / "half", scaled(lambda _: 0.5)), goods[:1])
    assert found.kind == "scale"
    assert "compared with one good run" in found.evidence[-1]
    (found,) = told(spoiled(tmp_path / "negated", scaled(lambda _: -1.0)), goods[:1])
    assert found.kind == "sign"
    assert told(spoiled(tmp_path / "jittered", jittered), goods[:1]) == []


def test_checkpoints_at_other_steps_are_compared_by_what_lies_between(tmp_path: Path, goods: tuple[Case, ...]) -> None:
    few = case_of(at_other_steps(spoiled(tmp_path / "few", _noisy(4))))
    (found,) = told(spoiled(tmp_path / "half", scaled(lambda _: 0.5)), (few, goods[0]))
    assert found.kind == "scale"
    assert "0.50 times" in found.sentence
    assert told(spoiled(tmp_path / "seed", _noisy(3)), (few, goods[0])) == []


def test_records_of_good_runs_tell_without_their_weights(tmp_path: Path, goods: tuple[Case, ...]) -> None:
    files = [tmp_path / f"{number}.parquet" for number in (1, 2)]
    for file, good in zip(files, goods, strict=True):
        geomcheck.write_record(good.record, file)
    run = spoiled(tmp_path / "opd", scaled(lambda _: -1.0))
    assert [found.kind for found in diagnose(run, good=files)] == ["sign"]
    assert [found.kind for found in diagnose(case_of(run).record, good=files)] == ["sign"]


def test_what_is_stale_is_not_explained_again_by_its_size(tmp_path: Path, goods: tuple[Case, ...]) -> None:
    run = spoiled(tmp_path / "opd", replaced((120, 150), ("layers.1.",), lambda states, _, name: states[90][name]))
    assert [found.kind for found in told(run, goods)] == ["stale"]


def test_weights_that_no_good_run_moves_may_stay(tmp_path: Path) -> None:
    still = replaced(ALL, ("embed_tokens",), lambda states, _, name: states[0][name].float())
    run = spoiled(tmp_path / "opd", still)
    assert [found.kind for found in diagnose(run)] == ["never-moved"]
    assert diagnose(run, good=[run]) == ()


def test_the_command_takes_good_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(spoiled(tmp_path / "opd", scaled(lambda _: 0.5)))
    assert main(["diagnose", run, f"--good={OPD}", "--cache=off", "-q"]) == 1
    text = capsys.readouterr().out
    assert "every update is 0.50 times a good run's" in text
    assert "1 good run beside them" in " ".join(text.split())


# ---- a calibrated suite instead of good runs


@pytest.fixture(scope="module")
def calibrated(goods: tuple[Case, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite of two good runs."""
    file = tmp_path_factory.mktemp("suites") / "mine.yaml"
    geomcheck.calibrate([one.record.path for one in goods], metrics=["relative_update_norm"]).write(file)
    return file


@pytest.mark.parametrize("name", ["halved", "last", "fading", "one", "layer"])
def test_normal_ranges_tell_sizes_without_good_runs(tmp_path: Path, calibrated: Path, name: str) -> None:
    kind, edit, sentence, _ = DEFECTS[name]
    (found,) = diagnose(spoiled(tmp_path / "opd", edit), suites=[geomcheck.load_suite(calibrated)])
    assert found.kind == kind
    assert sentence in found.sentence
    assert "sizes compared with the normal ranges of calibrated" in found.evidence[-1]


def test_normal_ranges_tell_nothing_of_directions(tmp_path: Path, calibrated: Path) -> None:
    suites = [geomcheck.load_suite(calibrated)]
    for name in ("negated", "another way"):
        assert diagnose(spoiled(tmp_path / name, DEFECTS[name][1]), suites=suites) == ()
    (scale,) = diagnose(spoiled(tmp_path / "twice", DEFECTS["twice"][1]), suites=suites)
    assert "good runs, with --good" in scale.causes[-1]
    assert diagnose(spoiled(tmp_path / "clean", lambda _: None), suites=suites) == ()


def test_one_good_run_tells_directions_beside_normal_ranges(
    tmp_path: Path, calibrated: Path, goods: tuple[Case, ...]
) -> None:
    suites, good = [geomcheck.load_suite(calibrated)], goods[:1]
    slow = spoiled(tmp_path / "slow", scaled(lambda _: 0.85))
    assert diagnose(slow, good=good) == ()
    assert [found.kind for found in diagnose(slow, good=good, suites=suites)] == ["scale"]
    negated = spoiled(tmp_path / "negated", DEFECTS["negated"][1])
    assert [found.kind for found in diagnose(negated, good=good, suites=suites)] == ["sign"]


def test_the_command_takes_a_calibrated_suite_and_refuses_another(
    tmp_path: Path, calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(spoiled(tmp_path / "opd", scaled(lambda _: 0.5)))
    assert main(["diagnose", run, f"--suite={calibrated}", "--cache=off", "-q"]) == 1
    assert "every update is 0.50 times a good run's" in capsys.readouterr().out
    assert main(["diagnose", run, "--suite=sanity", "--cache=off", "-q"]) == 4
    assert "does not say what is normal for each weight" in capsys.readouterr().err


def test_what_a_suite_leaves_alone_may_stand_still(tmp_path: Path) -> None:
    still = replaced(ALL, ("embed_tokens",), lambda states, _, name: states[0][name].float())
    run = spoiled(tmp_path / "opd", still)
    suite = tmp_path / "suite.yaml"
    expectation = "trains: {role: everything, exclude: ['*embed_tokens*']}"
    suite.write_text(f"geomcheck: 1\nname: mine\nexpect:\n  - id: trained\n    {expectation}\n")
    assert [found.kind for found in diagnose(run)] == ["never-moved"]
    assert diagnose(run, suites=[geomcheck.load_suite(suite)]) == ()


# ---- the trainer's log


def logging(run: Path, series: Mapping[str, Callable[[int], Any]], *, steps: range = range(10, 151, 10)) -> Path:
    """A run whose trainer logged this, by step."""
    history = [{"step": step, **{name: value(step) for name, value in series.items()}} for step in steps]
    for step in ALL:
        state = {"global_step": step, "max_steps": 150, "log_history": [e for e in history if e["step"] <= step]}
        (run / place(step) / "trainer_state.json").write_text(json.dumps(state))
    return run


SOUND: Mapping[str, Callable[[int], Any]] = {
    "learning_rate": lambda _: 1e-5,
    "loss": lambda step: 1 / step,
    "grad_norm": lambda step: 3.0 + step % 3,
    "num_tokens": lambda step: 100 * step,
    "completions/mean_length": lambda _: 22.0,
}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    """Two good runs with a log."""
    there = tmp_path_factory.mktemp("logged")
    return tuple(case_of(logging(spoiled(there / f"seed-{seed}", _noisy(seed)), SOUND)) for seed in (1, 2))


LOGS: Mapping[str, tuple[str, Mapping[str, Callable[[int], Any]], str]] = {
    "rate": ("learning-rate", {"learning_rate": lambda _: 2e-5}, "2e-05 in the log, 2 times the good run's 1e-05"),
    "decay": (
        "learning-rate",
        {"learning_rate": lambda step: 1e-5 * (1 - step / 160)},
        "from 9.4e-06 at step 10 to 6.3e-07 at step 150 in the log, where the good run's is 1e-05 throughout",
    ),
    "loss": (
        "loss-scale",
        {"loss": lambda step: 100 / step, "grad_norm": lambda step: 100 * (3.0 + step % 3)},
        "the loss in the log is 100 times a good run's, and the gradient norm 100 times",
    ),
    "nan": (
        "not-finite-log",
        {"loss": lambda step: float("nan") if step > 70 else 1.0},
        "the loss in the log is no finite number from step 80 on",
    ),
    "infinite": ("not-finite-log", {"grad_norm": lambda _: float("inf")}, "no finite number from step 10 on"),
    "no gradient": ("no-gradient", {"grad_norm": lambda _: 0.0}, "the gradient norm in the log is 0 throughout"),
    "no rate": ("no-gradient", {"learning_rate": lambda _: 0}, "the learning rate in the log is 0 throughout"),
    "short": (
        "short-completions",
        {"completions/mean_length": lambda step: 500 if step < 80 else 9},
        "completions end at 2% of the length",
    ),
}


@pytest.mark.parametrize(("kind", "series", "sentence"), LOGS.values(), ids=LOGS.keys())
def test_what_the_log_says_is_told(
    tmp_path: Path, logged: tuple[Case, ...], kind: str, series: Mapping[str, Callable[[int], Any]], sentence: str
) -> None:
    (found,) = told(logging(spoiled(tmp_path / "opd", _noisy(3)), {**SOUND, **series}), logged)
    assert (found.kind, found.group) == (kind, "D")
    assert sentence in found.sentence


QUIET: Mapping[str, Mapping[str, Callable[[int], Any]]] = {
    "as good": SOUND,
    "a rate that ends at 0": {"learning_rate": lambda step: 1e-5 if step < 150 else 0.0},
    "one overflow": {**SOUND, "grad_norm": lambda step: float("inf") if step == 20 else 3.0},
    "a loss of 0": {**SOUND, "loss": lambda _: 0.0},
    "noise of a log": {**SOUND, "grad_norm": lambda step: 3.0 * (1 + step % 20 / 10)},
    "no log": {},
    "words": dict.fromkeys(SOUND, lambda _: "a lot"),
    "beyond all floats": dict.fromkeys(SOUND, lambda _: 10**400),
}


@pytest.mark.parametrize("series", QUIET.values(), ids=QUIET.keys())
def test_a_usual_or_a_useless_log_tells_nothing(
    tmp_path: Path, logged: tuple[Case, ...], series: Mapping[str, Callable[[int], Any]]
) -> None:
    found = told(logging(spoiled(tmp_path / "opd", _noisy(3)), series), logged)
    assert [one.kind for one in found if one.kind != "not-finite-log"] == []


def test_a_log_decides_between_the_causes_of_a_size(tmp_path: Path, logged: tuple[Case, ...]) -> None:
    twice = spoiled(tmp_path / "opd", scaled(lambda _: 2.0))
    (found,) = told(logging(twice, SOUND), logged)
    assert found.causes[0].startswith("the update was added twice")
    (found,) = told(logging(twice, {**SOUND, "learning_rate": lambda _: 2e-5}), logged)
    assert found.kind == "scale"
    assert found.causes[0] == "the learning rate: 2e-05 in the log, 2 times the good run's 1e-05"


def test_steps_that_bf16_rounds_away_are_told_from_weights_that_are_stored_in_it(tmp_path: Path) -> None:
    def trained_in_bf16(states: States) -> None:
        generator = torch.Generator().manual_seed(0)
        for name, w0 in states[0].items():
            weight = w0.clone()
            for step in ALL:
                for _ in range(30):
                    sign = torch.randint(0, 2, w0.shape, generator=generator) * 2.0 - 1
                    weight = (weight.float() + 1e-5 * (sign + 0.5)).bfloat16()
                states[step][name] = weight

    rate: Mapping[str, Callable[[int], Any]] = {"learning_rate": lambda _: 1e-5}
    found = diagnose(logging(spoiled(tmp_path / "trained", trained_in_bf16), rate))
    assert "precision" in [one.kind for one in found]
    stored = diagnose(logging(spoiled(tmp_path / "stored", in_bf16), rate))
    assert "precision" not in [one.kind for one in stored]
