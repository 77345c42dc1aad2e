"""What a diagnosis is asked and asks: the command, records, adapters, kinds of other packages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import geomcheck
from geomcheck import _plugins
from geomcheck.cli import main
from geomcheck.diagnosis import Case, Finding, load_kinds
from geomcheck.diagnosis.ask import findings
from geomcheck.diagnosis.identical import NEVER
from geomcheck.errors import UsageError
from tests.diagnosis.spoiled import LAYER, from_step, replaced, spoiled
from tests.runs import EMBED, NORM, K, Q, base_weights, moved, simple_run, write_model, write_run


def test_the_command_prints_findings_and_says_so_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(spoiled(tmp_path / "opd", replaced((150,), LAYER, from_step(120))))
    assert main(["diagnose", run, "--cache=off", "-q"]) == 1
    text = capsys.readouterr().out
    assert "  1. layer 1 stands still at checkpoint-150: that of checkpoint-120, to the bit\n" in text
    assert all(len(line) <= 80 for line in text.splitlines()[1:])
    assert main(["diagnose", run, "--cache=off", "-q", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert (found["kind"], found["grade"], found["steps"]) == ("stale", "fact", [150])
    assert set(found["weights"]) >= {"model.layers.1.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight"}


def test_of_a_healthy_run_the_command_says_that_nothing_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simple_run(tmp_path / "opd")
    assert main(["diagnose", str(run), "--cache=off", "-q"]) == 0
    assert "opd): nothing found\n" in capsys.readouterr().out
    assert main(["diagnose", str(tmp_path / "nowhere")]) == 4


def test_a_name_in_a_file_cannot_drive_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = {**base_weights(), "::error::.weight": torch.randn(8, 8)}
    last = moved(base, 1e-2)
    last["::error::.weight"] = base["::error::.weight"]
    write_run(tmp_path / "opd", base, {10: last})
    assert main(["diagnose", str(tmp_path / "opd"), "--cache=off", "-q"]) == 1
    assert "::error::" not in capsys.readouterr().out


def test_a_record_of_an_older_geomcheck_tells_nothing(tmp_path: Path) -> None:
    run = spoiled(tmp_path / "opd", replaced((150,), LAYER, from_step(120)))
    record = geomcheck.measure(run, metrics=["update_norm"], workers=1)
    assert findings(Case(record))
    assert findings(Case(replace(record, contents={}))) == ()


def test_equal_tensors_have_one_number_in_a_record(tmp_path: Path) -> None:
    base = base_weights(dtype=torch.float32)
    one, other = (moved(base, 1e-2, seed=seed) for seed in (1, 2))
    other[NORM], one[K] = one[NORM], base[K]
    record = geomcheck.measure(write_run(tmp_path / "opd", base, {1: one, 2: other}), metrics=["update_norm"])
    geomcheck.write_record(record, tmp_path / "opd.parquet")
    assert geomcheck.read_record(tmp_path / "opd.parquet").contents == record.contents
    codes = {name: [record.contents[at][i] for at in record.contents] for i, name in enumerate(record.weights)}
    assert codes[NORM][1] == codes[NORM][2] != codes[NORM][0]
    assert codes[K][0] == codes[K][1] != codes[K][2]
    assert len({codes[EMBED][0], codes[EMBED][1], codes[EMBED][2], codes[Q][0]}) == 4


def test_a_record_that_calls_equal_what_has_different_norms_is_not_believed(tmp_path: Path) -> None:
    record = geomcheck.measure(simple_run(tmp_path / "opd"), metrics=["update_norm"], workers=1)
    places = list(record.contents)
    for here, there in ((3, 0), (3, 2)):
        claimed = replace(record, contents={**record.contents, places[here]: record.contents[places[there]]})
        assert {found.kind for found in findings(Case(claimed)) for name in found.weights if name in (Q, K)} == set()
    assert findings(Case(record)) == ()


# ---- adapters


def adapted(directory: Path, factors: dict[int, torch.Tensor]) -> Path:
    """A run of LoRA on the queries alone; the second factor by step."""
    name = "base_model.model." + Q.removesuffix(".weight")
    write_model(directory / "base", base_weights())
    first = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    for step, factor in factors.items():
        there = directory / "opd" / f"checkpoint-{step}"
        there.mkdir(parents=True)
        save_file(
            {f"{name}.lora_A.weight": first, f"{name}.lora_B.weight": factor}, there / "adapter_model.safetensors"
        )
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "bias": "none"}
        (there / "adapter_config.json").write_text(json.dumps(config))
        state = {"global_step": step, "max_steps": max(factors)}
        (there / "trainer_state.json").write_text(json.dumps(state))
    return directory / "opd"


def factor(seed: int) -> torch.Tensor:
    return 1e-2 * torch.randn(24, 2, generator=torch.Generator().manual_seed(seed))


def test_what_an_adapter_does_not_target_is_not_accused(tmp_path: Path) -> None:
    run = adapted(tmp_path, {1: factor(1), 2: factor(1) + factor(2)})
    assert geomcheck.diagnose(run, base=tmp_path / "base") == ()


def test_what_good_runs_move_and_an_adapter_leaves_to_w0_is_found(tmp_path: Path) -> None:
    run = adapted(tmp_path, {1: factor(1), 2: factor(1) + factor(2)})
    base = base_weights()
    states = {step: {**base, **{n: moved(base, step * 1e-3)[n] for n in (Q, K)}} for step in (1, 2)}
    good = write_run(tmp_path / "good", base, states)
    (found, *_) = geomcheck.diagnose(run, base=tmp_path / "base", good=[good])
    assert found.sentence == f"{K} never moved: the adapter leaves it to W0, and good runs do not"
    assert (found.grade, found.weights) == ("fact", {K})
    assert geomcheck.diagnose(run, base=tmp_path / "base", good=[run]) == ()


def test_an_adapter_that_stands_still_is_found(tmp_path: Path) -> None:
    run = adapted(tmp_path, {1: factor(1), 2: factor(1)})
    (found,) = geomcheck.diagnose(run, base=tmp_path / "base")
    assert found.sentence == "checkpoint-2 holds the weights of checkpoint-1, to the bit"


def test_an_adapter_that_was_not_trained_is_found(tmp_path: Path) -> None:
    run = adapted(tmp_path, {1: torch.zeros(24, 2)})
    (found,) = geomcheck.diagnose(run, base=tmp_path / "base")
    assert "lora_B is zero: the adapter has not been trained" in found.sentence


# ---- kinds of findings


def test_every_kind_says_what_it_is_and_what_to_do() -> None:
    for kind in load_kinds():
        assert kind.about.endswith(".")
        assert kind.next_step.endswith((".", "?"))
        assert 1 <= len(kind.causes) <= 3
        assert kind.group == "D" or kind.grade == ("inference" if kind.group in "BC" else "fact")
    assert [kind.group for kind in load_kinds()] == sorted(kind.group for kind in load_kinds())


def entry(monkeypatch: pytest.MonkeyPatch, kind: object) -> None:
    """Pretend that an installed package declares `kind`."""

    class Entry:
        name, value = "toy", "toy:KIND"

        def load(self) -> object:
            return kind

    monkeypatch.setattr(_plugins, "entry_points", lambda group: [Entry()] if group == "geomcheck.findings" else [])
    load_kinds.cache_clear()


@pytest.fixture(autouse=True)
def _forget() -> object:
    yield
    load_kinds.cache_clear()


def test_another_package_adds_its_own_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(case: Case) -> list[Finding]:
        return [toy.finding(case, {(Q, 0)}, f"{Q} is seen")]

    toy = replace(NEVER, name="toy", group="D", find=find)
    entry(monkeypatch, toy)
    (found,) = geomcheck.diagnose(simple_run(tmp_path / "opd"), workers=1)
    assert (found.kind, found.sentence, found.steps) == ("toy", f"{Q} is seen", (10,))


@pytest.mark.parametrize(
    ("kind", "message"), [("no kind", "is not a geomcheck.diagnosis.Kind"), (NEVER, "declared twice")]
)
def test_what_is_no_kind_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch, kind: object, message: str) -> None:
    entry(monkeypatch, kind)
    with pytest.raises(UsageError, match=message):
        load_kinds()


def test_what_one_checkpoint_lacks_or_holds_in_another_format_is_a_finding(tmp_path: Path) -> None:
    base = base_weights()
    states = {1: moved(base, 1e-3), 2: moved(base, 2e-3)}
    lacking = write_run(tmp_path / "lacking", base, {**states, 2: {n: w for n, w in states[2].items() if n != K}})
    (found,) = geomcheck.diagnose(lacking)
    assert (found.kind, found.weights) == ("incomparable", {K})
    assert "missing from checkpoint-2" in found.sentence
    coarse = write_run(tmp_path / "coarse", base, {**states, 2: {n: w.bfloat16() for n, w in states[2].items()}})
    (found,) = geomcheck.diagnose(coarse)
    assert found.sentence.startswith("5 tensors, such as ")
    assert "its storage format changes along the run" in found.sentence


def test_what_is_added_or_left_out_on_purpose_is_no_finding(tmp_path: Path) -> None:
    base = base_weights()
    states = {step: {n: w for n, w in moved(base, step * 1e-3).items() if n != EMBED} for step in (1, 2)}
    states = {step: {**state, "score.weight": torch.ones(2, 16)} for step, state in states.items()}
    assert not geomcheck.diagnose(write_run(tmp_path / "run", base, states))


def test_json_goes_to_a_file_and_never_into_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = simple_run(tmp_path / "run"), tmp_path / "found.json"
    assert main(["diagnose", str(run), "--cache=off", "-q", f"--json={file}"]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert json.loads(file.read_text())["findings"] == []
    assert main(["diagnose", str(run), "--cache=off", "-q", f"--json={run / 'found.json'}"]) == 4
    assert not (run / "found.json").exists()
