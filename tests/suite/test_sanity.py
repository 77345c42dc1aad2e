"""The shipped suite ``sanity``: each spoiled copy of a good run fails it, and good runs pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import geomcheck
from geomcheck.errors import GeomcheckError
from tests.checkpoints.lora_files import factors, write_adapter
from tests.runs import DOWN, EMBED, NORM, K, Q, base_weights, moved, write_model, write_run

ROOT = Path(__file__).parents[2]
STEPS = (30, 60, 90, 120, 150)
OPD = ROOT / "fixtures" / "tiny-opd"

State = dict[str, Tensor]
States = dict[int, State]
Spoil = Callable[[States, State], None]


def judged(run: Path, **how: object) -> dict[str, str]:
    """The outcome of each expectation; the reason alone where the run is refused."""
    suite = geomcheck.load_suite("sanity")
    try:
        record = geomcheck.measure(run, suites=[suite], **how)  # type: ignore[arg-type]
    except GeomcheckError as error:
        return {"refused": str(error)}
    return {verdict.id: verdict.outcome for verdict in suite.evaluate(record)}


def failing(run: Path, **how: object) -> set[str]:
    return {name for name, outcome in judged(run, **how).items() if outcome not in ("passed", "info")}


def states() -> tuple[State, States]:
    base = load_file(OPD / "base" / "model.safetensors")
    return base, {step: load_file(OPD / f"checkpoint-{step}" / "model.safetensors") for step in STEPS}


def put_back(part: str) -> Spoil:
    """Tensors are W0's at every checkpoint, in their own format."""

    def spoil(checkpoints: States, base: State) -> None:
        for state in checkpoints.values():
            state.update({name: base[name].to(w.dtype) for name, w in state.items() if part in name})

    return spoil


def reset_head(checkpoints: States, base: State) -> None:
    for state in checkpoints.values():
        state["lm_head.weight"] = 0.02 * torch.randn(state["lm_head.weight"].shape, generator=torch.manual_seed(0))


def exchange(checkpoints: States, base: State) -> None:
    checkpoints[60], checkpoints[120] = checkpoints[120], checkpoints[60]


def restart(checkpoints: States, base: State) -> None:
    """From step 90 on it is the same training again, from W0."""
    first, second, third = (checkpoints[step] for step in (30, 60, 90))
    checkpoints[120] = {name: w + 1e-3 * (second[name] - w) for name, w in first.items()}
    checkpoints[150] = {name: w + 1e-3 * (third[name] - w) for name, w in second.items()}


def stale_layer(checkpoints: States, base: State) -> None:
    for step in (90, 120, 150):
        checkpoints[step].update({n: w for n, w in checkpoints[60].items() if ".layers.1." in n})


def stale_matrix(checkpoints: States, base: State) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    checkpoints[150][name] = checkpoints[120][name]


def same_saves(checkpoints: States, base: State) -> None:
    checkpoints.update(dict.fromkeys(STEPS, checkpoints[150]))


def last_is_base(checkpoints: States, base: State) -> None:
    checkpoints[150] = {name: base[name].to(w.dtype) for name, w in checkpoints[150].items()}


def half_the_rows(checkpoints: States, base: State) -> None:
    """One of two ranks never updates: the second half of the rows of every matrix in the layers."""
    for state in checkpoints.values():
        for name, w in state.items():
            if w.dim() == 2 and ".layers." in name:
                w[len(w) // 2 :] = base[name][len(w) // 2 :].to(w.dtype)


SPOILED: dict[str, tuple[Spoil, set[str]]] = {
    "norms untrained": (put_back("norm"), {"trained"}),
    "embedding untrained": (put_back("embed_tokens"), {"trained", "goes-on"}),
    "a layer frozen": (put_back(".layers.0."), {"trained", "goes-on"}),
    "head reset": (reset_head, {"sane-size", "goes-on"}),
    "checkpoints exchanged": (exchange, {"grows", "keeps-direction"}),
    "started from the base again": (restart, {"grows", "keeps-direction"}),
    "a layer stale": (stale_layer, {"goes-on", "keeps-direction"}),
    "a matrix stale at the end": (stale_matrix, {"goes-on", "keeps-direction"}),
    "every save the same": (same_saves, {"refused"}),
    "the last is W0": (last_is_base, {"refused"}),
    "half of the rows frozen": (half_the_rows, {"every-row"}),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_copy_fails(name: str, tmp_path: Path) -> None:
    spoil, expected = SPOILED[name]
    base, checkpoints = states()
    spoil(checkpoints, base)
    assert failing(write_run(tmp_path / "run", base, checkpoints)) == expected


def test_the_same_copy_passes_as_it_is(tmp_path: Path) -> None:
    base, checkpoints = states()
    assert not failing(write_run(tmp_path / "run", base, checkpoints))


@pytest.mark.parametrize("sign", [1, -1])
def test_an_update_that_points_the_other_way_fails_beside_a_reference(sign: int, tmp_path: Path) -> None:
    base, checkpoints = states()
    w0 = {name: w.float() for name, w in base.items()}
    turned = {step: {n: w0[n] + sign * (w - w0[n]) for n, w in state.items()} for step, state in checkpoints.items()}
    run = write_run(tmp_path / "run", base, turned)
    assert failing(run, reference=ROOT / "fixtures" / "tiny-opd") == ({"same-way-as-reference"} if sign < 0 else set())
    assert judged(run)["same-way-as-reference"] == "info"
    suite = geomcheck.load_suite("sanity")
    verdicts = suite.evaluate(geomcheck.measure(run, suites=[suite]), geomcheck.measure(OPD))  # by sketches
    assert {v.id: v.outcome for v in verdicts}["same-way-as-reference"] == ("failed" if sign < 0 else "passed")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("measured_for", ["sanity", "anything"])
def test_so_does_one_beside_the_record_of_a_reference(sign: int, measured_for: str, tmp_path: Path) -> None:
    base = base_weights(dtype=torch.float32)
    good, turned = ({i: {n: w + s * i * 0.01 for n, w in base.items()} for i in (1, 2)} for s in (1, sign))
    suite = geomcheck.load_suite("sanity")
    suites = [suite] if measured_for == "sanity" else []
    record = geomcheck.measure(write_run(tmp_path / "run", base, turned), suites=suites)
    reference = geomcheck.measure(write_run(tmp_path / "good", base, good), metrics=["frozen_share"])
    beside = {verdict.id: verdict.outcome for verdict in suite.evaluate(record, reference)}
    assert beside["same-way-as-reference"] == ("failed" if sign < 0 else "passed")
    alone = {verdict.id: verdict.outcome for verdict in suite.evaluate(record)}
    assert alone["same-way-as-reference"] == "info"


def test_a_record_that_was_measured_for_nothing_in_particular_can_be_judged(tmp_path: Path) -> None:
    base = base_weights(dtype=torch.float32)
    record = geomcheck.measure(write_run(tmp_path / "run", base, {i: moved(base, i * 1e-2) for i in (1, 2)}))
    assert {verdict.outcome for verdict in geomcheck.load_suite("sanity").evaluate(record)} == {"passed", "info"}


@pytest.mark.parametrize("run", ["tiny-opd", "tiny-sft", "tiny-rlvr"])
def test_good_runs_pass(run: str) -> None:
    assert not failing(ROOT / "fixtures" / run)


def test_one_checkpoint_is_judged_by_what_it_can_show(tmp_path: Path) -> None:
    base, checkpoints = states()
    run = write_run(tmp_path / "run", base, {150: checkpoints[150]})
    outcomes = judged(run)
    assert {name for name, outcome in outcomes.items() if outcome == "passed"} == {"trained", "sane-size", "every-row"}
    assert {outcomes[name] for name in ("goes-on", "grows", "keeps-direction")} == {"info"}


def test_norms_in_bf16_may_stand_still(tmp_path: Path) -> None:
    base, checkpoints = states()
    put_back("norm")(checkpoints, base)
    coarse = {step: {name: w.bfloat16() for name, w in state.items()} for step, state in checkpoints.items()}
    assert "trained" not in failing(write_run(tmp_path / "run", base, coarse))


def test_a_new_head_is_not_judged(tmp_path: Path) -> None:
    base, checkpoints = states()
    for step, state in checkpoints.items():
        state["score.weight"] = torch.full((2, 64), float(step))
    run = write_run(tmp_path / "run", base, checkpoints)
    assert not failing(run)
    suite = geomcheck.load_suite("sanity")
    verdicts = {verdict.id: verdict for verdict in suite.evaluate(geomcheck.measure(run, suites=[suite]))}
    assert verdicts["trained"].warnings == ("1 head (score.weight) not in W0: new, and not judged",)


def test_a_head_that_was_not_saved_is_not_passed_over(tmp_path: Path) -> None:
    base, checkpoints = states()
    for state in checkpoints.values():
        del state["lm_head.weight"]
    assert "trained" in failing(write_run(tmp_path / "run", base, checkpoints))


def adapters(directory: Path, base: State, targets: list[str], listed: list[str], **config: object) -> Path:
    for step in (1, 2, 3):
        held = factors(base, targets, seed=1)
        held = {key: step * w if "lora_B" in key else w for key, w in held.items()}
        write_adapter(directory / f"checkpoint-{step}", held, target_modules=listed, **config)
    write_model(directory / "base", base)
    return directory


def test_of_an_adapter_its_targets_train_and_no_others(tmp_path: Path) -> None:
    base = base_weights()
    assert not failing(adapters(tmp_path / "run", base, [Q, DOWN], ["q_proj", "down_proj"]))


def test_a_target_without_factors_did_not_train(tmp_path: Path) -> None:
    run = adapters(tmp_path / "run", base_weights(), [Q, DOWN], ["q_proj", "k_proj", "down_proj"])
    assert failing(run) == {"trained", "goes-on"}


@pytest.mark.parametrize("narrowed", [{"layers_to_transform": [1]}, {"exclude_modules": ["k_proj"]}])
def test_settings_that_narrow_the_list_leave_it_open(narrowed: dict[str, object], tmp_path: Path) -> None:
    run = adapters(tmp_path / "run", base_weights(), [Q, DOWN], ["q_proj", "k_proj", "down_proj"], **narrowed)
    assert not failing(run)


@pytest.mark.parametrize(
    ("trains", "moves", "outcome"),
    [
        ("everything", (Q, K, DOWN), "failed"),
        ("linear", (Q, K, DOWN), "passed"),
        ("{include: ['*q_proj*', '*k_proj*']}", (Q, K), "passed"),
        ("{include: ['*q_proj*', '*k_proj*']}", (Q, K, DOWN), "failed"),
        ("{role: linear, exclude: ['*down*']}", (Q, K), "passed"),
        ("attention", (Q,), "failed"),
        ("norms", (NORM,), "passed"),
        ("norms", (NORM, Q), "failed"),
    ],
)
def test_what_is_declared_moves_and_nothing_else(
    trains: str, moves: tuple[str, ...], outcome: str, tmp_path: Path
) -> None:
    base = base_weights(dtype=torch.float32)
    states = {step: base | {n: w for n, w in moved(base, step * 1e-3).items() if n in moves} for step in (1, 2)}
    suite = tmp_path / "own.yaml"
    suite.write_text(f"geomcheck: 1\nexpect:\n  - {{id: trained, trains: {trains}}}\n")
    loaded = geomcheck.load_suite(suite)
    (verdict,) = loaded.evaluate(geomcheck.measure(write_run(tmp_path / "run", base, states), suites=[loaded]))
    assert verdict.outcome == outcome
    assert ("if that is meant, write `trains: linear`" in verdict.message) == (outcome == "failed" and DOWN in moves)


@pytest.mark.parametrize(
    ("moves", "words"),
    [
        ({NORM}, "norms"),
        ({EMBED}, "embeddings"),
        ({Q, K, DOWN, NORM}, '{role: everything, exclude: ["model.embed_tokens.*"]}'),
        ({EMBED, NORM, Q, K}, '{role: everything, exclude: ["model.layers.0.mlp.*"]}'),
        ({Q}, '{include: ["model.layers.0.self_attn.q_proj.*"]}'),
    ],
)
def test_what_moved_is_offered_in_words_that_hold(moves: set[str], words: str, tmp_path: Path) -> None:
    base = base_weights(dtype=torch.float32)
    states = {step: base | {n: w for n, w in moved(base, step * 1e-3).items() if n in moves} for step in (1, 2)}
    run, suite = write_run(tmp_path / "run", base, states), tmp_path / "own.yaml"

    def judged(trains: str) -> geomcheck.Verdict:
        suite.write_text(f"geomcheck: 1\nexpect:\n  - {{id: trained, trains: {trains}}}\n")
        loaded = geomcheck.load_suite(suite)
        return loaded.evaluate(geomcheck.measure(run, suites=[loaded]))[0]

    found = judged("everything").message.partition("if that is meant, write `trains: ")[2]
    assert found == f"{words}`"
    assert judged(found.removesuffix("`")).outcome == "passed"
