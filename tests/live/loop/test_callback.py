"""The callback in real trainers: what trackers show is what measuring the checkpoints gives, and training goes on."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import geomcheck
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RecordError, UsageError
from geomcheck.live.loop.plan import DEFAULT_METRICS
from geomcheck.record import Record, Request
from tests.figures import require_same_figures

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")

from geomcheck.training import GeometryCallback  # noqa: E402 (needs transformers)

pytestmark = pytest.mark.filterwarnings("ignore")  # of the trainers

METRICS = [*DEFAULT_METRICS, "principal_angle"]
STEPS = [2, 4, 6]


@pytest.fixture
def anchor(tmp_path: Path) -> Path:
    """A tiny model as it is published: in bf16."""
    return write_anchor(tmp_path / "anchor")


def write_anchor(directory: Path, seed: int = 0) -> Path:
    from fixtures.recipe.models import build_tokenizer, new_model, save_rounded

    tokenizer = build_tokenizer()
    save_rounded(new_model(32, tokenizer, seed), tokenizer, directory)
    return directory


def load(anchor: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(anchor, dtype=torch.float32)


def arguments(run: Path, **options: Any) -> dict[str, Any]:
    shared = {
        "output_dir": str(run),
        "max_steps": STEPS[-1],
        "save_steps": STEPS[0],
        "logging_steps": 1,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "save_only_model": True,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return {**shared, **options}


def trainer(model: Any, run: Path, *callbacks: Any, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 20, (12, 8), generator=generator)
    data = [{"input_ids": row, "labels": row} for row in ids]
    settings = transformers.TrainingArguments(**arguments(run, **options))
    return transformers.Trainer(model, settings, train_dataset=data, callbacks=list(callbacks))


def logged(trained: Any) -> dict[int, dict[str, float]]:
    """What `state.log_history` holds of the geometry, by step."""
    return {entry["step"]: entry for entry in trained.state.log_history if "geom/seconds" in entry}


def assert_same(record: Record | None, after: Record) -> None:
    assert record is not None
    require_same_figures(record, after)


SUITE = """
geomcheck: 1
name: watched
expect:
  - {id: rank-band, metric: stable_rank, within: [1, 30]}
  - {id: settled, metric: subspace_alignment, k: 4, above: 1%, at: first}
"""


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, GeometryCallback]:
    """A TRL distillation that was watched: its trainer, its directory, and the callback."""
    trl = pytest.importorskip("trl")
    pytest.importorskip("tensorboard")
    from fixtures.recipe.models import build_tokenizer, new_model
    from fixtures.recipe.stages import _prompts

    directory = tmp_path_factory.mktemp("distillation")
    anchor = write_anchor(directory / "anchor")
    (directory / "suite.yaml").write_text(SUITE)
    tokenizer = build_tokenizer()
    callback = GeometryCallback(directory / "suite.yaml", metrics=METRICS)
    options = {"max_completion_length": 4, "beta": 1.0, "bf16": False, "report_to": ["tensorboard"]}
    trained = trl.DistillationTrainer(
        load(anchor),
        new_model(32, tokenizer, 1),
        trl.DistillationConfig(**arguments(directory / "opd", gradient_checkpointing=False, **options)),
        train_dataset=_prompts("watched", 12),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trained.train()
    return trained, directory, callback


def test_figures_of_a_distillation_are_those_of_its_checkpoints(
    distilled: tuple[Any, Path, GeometryCallback], record_property: Any
) -> None:
    trained, directory, callback = distilled
    suite = geomcheck.load_suite(directory / "suite.yaml")
    after = geomcheck.measure(directory / "opd", base=directory / "anchor", metrics=METRICS, suites=[suite])
    assert_same(callback.record, after)
    assert_same(geomcheck.read_record(directory / "opd.geometry.parquet"), after)
    assert [entry["geom/watched_weights"] for entry in logged(trained).values()] == [14, 14, 14]
    for step, entry in logged(trained).items():
        assert entry["geom/seconds"] > 0
        record_property(f"seconds at step {step}", entry["geom/seconds"])


def test_a_distillation_logs_as_if_it_were_not_watched(distilled: tuple[Any, Path, GeometryCallback]) -> None:
    trained, directory, _ = distilled
    assert list(logged(trained)) == STEPS
    losses = [entry for entry in trained.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in losses] == [1, 2, 3, 4, 5, 6]
    assert all("entropy" in entry for entry in losses)  # TRL averages these between two logs
    assert not any("entropy" in entry for entry in logged(trained).values())
    state = json.loads((directory / "opd" / "checkpoint-4" / "trainer_state.json").read_text())
    assert logged(trained)[2] in state["log_history"]


def test_tensorboard_shows_every_figure_and_its_band(distilled: tuple[Any, Path, GeometryCallback]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained, directory, _ = distilled
    (events,) = (directory / "opd").rglob("events.out.tfevents.*")
    shown = EventAccumulator(str(events))
    shown.Reload()
    names = {f"geom/{name}" for name in [*METRICS, "rank-band", "rank-band/low", "rank-band/high", "seconds"]}
    assert {f"train/{name}" for name in names} <= set(shown.Tags()["scalars"])
    for name in names - {"geom/subspace_alignment"}:
        points = {event.step: event.value for event in shown.Scalars(f"train/{name}")}
        assert points == pytest.approx({step: entry[name] for step, entry in logged(trained).items()}, rel=1e-6)
    assert [event.step for event in shown.Scalars("train/geom/settled")] == [4, 6]


def test_a_violated_suite_stops_the_training_where_it_is_violated(
    anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = Request.of(load_metrics()["relative_update_norm"], {})
    free = trainer(load(anchor), tmp_path / "free", watch := GeometryCallback(metrics=[request]))
    free.train()
    norms = {step: entry["geom/relative_update_norm"] for step, entry in logged(free).items()}
    assert list(norms) == STEPS
    assert not caplog.records
    bound = (norms[2] + norms[4]) / 2
    suite = tmp_path / "small.yaml"
    suite.write_text(
        "geomcheck: 1\nname: small\nexpect:\n"
        f"  - {{id: small-step, metric: relative_update_norm, below: {bound}, why: It ran away.}}\n"
        "  - {id: in-the-end, metric: stable_rank, above: 31, at: last}\n"
    )
    stopped = trainer(load(anchor), tmp_path / "run", watch := GeometryCallback(suite, on_violation="stop"))
    stopped.train()
    assert stopped.state.global_step == 4
    assert watch.record is not None
    assert [point.step for point in watch.record.points] == [2, 4]
    warning, ended = (record.getMessage() for record in caplog.records)
    assert ended.startswith("geometry: the training ended at step 4 of 6, observed last at step 4: in-the-end not")
    for part in (
        "geometry: small-step is violated at step 4, and the training is stopped\nrelative_update_norm left value < ",
        "small.yaml:4",
        "expected",
        "furthest",
        "It ran away.",
    ):
        assert part in warning

    caplog.clear()
    warned = trainer(load(anchor), tmp_path / "warned", GeometryCallback(suite))
    warned.train()
    assert warned.state.global_step == 6
    assert ["small-step" in r.getMessage() or "in-the-end" in r.getMessage() for r in caplog.records] == [True, True]


class Sabotage(transformers.TrainerCallback):
    """Removes W0 while the model trains."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for file in self.directory.glob("*.safetensors"):
            file.unlink()


def test_a_training_that_was_never_looked_at_says_so(
    anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = trainer(load(anchor), tmp_path / "run", GeometryCallback(), save_strategy="no")
    trained.train()
    assert not logged(trained)
    assert ["nothing was measured" in record.getMessage() for record in caplog.records] == [True]


def test_a_failure_is_told_once_and_training_goes_on(
    anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = trainer(load(anchor), tmp_path / "run", GeometryCallback(), Sabotage(anchor))
    trained.train()
    assert trained.state.global_step == 6
    assert not logged(trained)
    warning, ended = caplog.records
    assert "nothing was measured" in ended.getMessage()
    assert "changed or removed" in warning.getMessage()
    assert "training goes on" in warning.getMessage()


def test_a_crash_in_the_callback_does_not_stop_the_training(
    anchor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr("geomcheck.live.loop.measure.observe_weight", crash)
    trained = trainer(load(anchor), tmp_path / "run", GeometryCallback())
    trained.train()
    assert trained.state.global_step == 6
    warning, _ = caplog.records
    assert warning.exc_info is not None
    assert "ZeroDivisionError" in warning.getMessage()


class Refuses(transformers.TrainerCallback):
    """A tracker that cannot take figures of the geometry."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "geom/seconds" in logs:
            raise ConnectionError("no tracker")


def test_what_a_tracker_refuses_is_told_once_and_nothing_else_is_lost(
    anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("geomcheck: 1\nexpect: [{id: rank, metric: stable_rank, above: 31, level: warn}]\n")
    trained = trainer(load(anchor), tmp_path / "run", GeometryCallback(suite), Refuses())
    trained.train()
    assert trained.state.global_step == 6
    assert [entry["step"] for entry in trained.state.log_history if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    violated, refused = (record.getMessage() for record in caplog.records)
    assert violated.startswith("geometry: rank is violated at step 2\nstable_rank left value > 31")
    assert "ConnectionError: no tracker; training goes on" in refused


@pytest.mark.parametrize(
    "variant", [{}, {"use_dora": True}, {"use_rslora": True, "modules_to_save": ["lm_head"]}], ids=str
)
def test_an_adapter_is_watched_as_it_is_saved(
    anchor: Path, tmp_path: Path, variant: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], **variant)
    model = peft.get_peft_model(load(anchor), config)
    callback = GeometryCallback(metrics=["stable_rank", "update_sparsity", "frozen_share"])
    trained = trainer(model, tmp_path / "run", callback)
    trained.train()
    assert not caplog.records
    after = geomcheck.measure(tmp_path / "run", base=anchor, metrics=["stable_rank", "update_sparsity", "frozen_share"])
    assert_same(callback.record, after)
    assert logged(trained)[6]["geom/stable_rank"] <= 4 + 1e-6


def test_an_adapter_that_cannot_be_read_is_not_watched_in_silence(
    anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peft = pytest.importorskip("peft")
    config = peft.IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"])
    trained = trainer(peft.get_peft_model(load(anchor), config), tmp_path / "run", GeometryCallback())
    trained.train()
    assert trained.state.global_step == 6
    assert [(r.levelno, "IA3" in r.getMessage()) for r in caplog.records] == [(logging.ERROR, True)]


def test_a_resumed_training_continues_the_record(anchor: Path, tmp_path: Path) -> None:
    class Interrupt(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step == 5
            return control

    run = tmp_path / "run"
    trainer(load(anchor), run, GeometryCallback(metrics=METRICS), Interrupt(), save_only_model=False).train()
    callback = GeometryCallback(metrics=METRICS, base=anchor)
    trainer(load(anchor), run, callback, save_only_model=False).train(resume_from_checkpoint=str(run / "checkpoint-4"))
    assert_same(callback.record, geomcheck.measure(run, base=anchor, metrics=METRICS))


def test_the_start_of_the_training_as_w0(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from fixtures.recipe.models import build_tokenizer, new_model

    callback = GeometryCallback(base="start", metrics=METRICS)
    trainer(new_model(32, build_tokenizer(), 3), tmp_path / "run", callback).train()
    assert not caplog.records
    start = tmp_path / "run.geometry.start"
    assert_same(callback.record, geomcheck.measure(tmp_path / "run", base=start, metrics=METRICS))
    fresh = new_model(32, build_tokenizer(), 3)
    written = load(start)
    assert all(torch.equal(one, other) for one, other in zip(fresh.parameters(), written.parameters(), strict=True))


def test_two_callbacks_do_not_keep_one_record(anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = GeometryCallback(metrics=["stable_rank"]), GeometryCallback(metrics=["update_sparsity"])
    trainer(load(anchor), tmp_path / "run", first, second).train()
    assert "two callbacks keep their record in" in caplog.text
    assert second.record is None
    assert_same(first.record, geomcheck.read_record(tmp_path / "run.geometry.parquet"))
    beside = GeometryCallback(metrics=["update_sparsity"], record=tmp_path / "beside.parquet")
    trainer(load(anchor), tmp_path / "both", GeometryCallback(metrics=["stable_rank"]), beside).train()
    assert (tmp_path / "both.geometry.parquet").exists()
    assert_same(beside.record, geomcheck.read_record(tmp_path / "beside.parquet"))


def test_no_w0_is_an_error_in_the_log_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from fixtures.recipe.models import build_tokenizer, new_model

    trained = trainer(new_model(32, build_tokenizer(), 3), tmp_path / "run", GeometryCallback())
    trained.train()
    assert trained.state.global_step == 6
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "base='start'" in record.getMessage()


def test_another_start_than_w0_is_told(anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = write_anchor(tmp_path / "other", seed=5)
    trainer(load(anchor), tmp_path / "run", GeometryCallback(base=other, metrics=["stable_rank"]), max_steps=2).train()
    assert "does not start from W0" in caplog.records[0].getMessage()
    assert "_proj.weight (off by" in caplog.records[0].getMessage()


def test_every_so_many_steps_without_a_save(anchor: Path, tmp_path: Path) -> None:
    callback = GeometryCallback(metrics=["stable_rank"], every=3)
    trained = trainer(load(anchor), tmp_path / "run", save_strategy="no")
    trained.add_callback(callback)  # after the trainer was made
    trained.train()
    assert list(logged(trained)) == [3, 6]
    assert [entry["step"] for entry in trained.state.log_history if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_the_last_step_is_looked_at_too(anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    suite = tmp_path / "end.yaml"
    suite.write_text("geomcheck: 1\nexpect:\n  - {id: in-the-end, metric: stable_rank, above: 31, at: last}\n")
    trained = trainer(load(anchor), tmp_path / "run", GeometryCallback(suite, every=4), save_strategy="no")
    trained.train()
    assert list(logged(trained)) == [4, 6]
    assert ["in-the-end is violated at step 6\n" in r.getMessage() for r in caplog.records] == [True]


def test_mistakes_are_told_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no metric is called"):
        GeometryCallback(metrics=["stable_ranks"])
    with pytest.raises(UsageError, match="every is 0"):
        GeometryCallback(every=0)
    with pytest.raises(UsageError, match="on_violation"):
        GeometryCallback(on_violation="halt")  # type: ignore[arg-type]
    with pytest.raises(RecordError, match="not a readable record"):
        GeometryCallback(reference=tmp_path / "missing.parquet")
    with pytest.raises(UsageError, match="no suite"):
        GeometryCallback("missing")


def test_only_the_callback_needs_transformers() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None; from geomcheck import training as t; t.Monitor; print('has')"
    )
    done = [
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
        for text in (code, f"{code}; t.GeometryCallback")
    ]
    assert [one.stdout for one in done] == ["has\n"] * 2
    assert done[0].returncode == 0
    assert "GeometryCallback needs transformers" in done[1].stderr


def test_norms_that_nobody_trains_are_told_once(anchor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load(anchor)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "norm" not in name
    trained = trainer(model, tmp_path / "run", GeometryCallback(metrics=METRICS))
    trained.train()
    assert trained.state.global_step == 6
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("geometry: at step 2: ")
    assert "never moved: W0, to the bit, at every checkpoint (likely frozen on purpose" in told
