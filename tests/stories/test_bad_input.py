"""Every bad input is a clear error with its exit code, and never a pass."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from geomcheck.cli import main
from tests.runs import DOWN, K, Q, base_weights, moved, simple_run, write_model, write_run, write_sharded
from tests.stories.conftest import HEALTHY

PASS, FAILED, INVALID_SUITE, USAGE = 0, 1, 2, 4


@pytest.fixture
def expect(geom, write_suite) -> Callable[..., None]:
    """Run the gate, demand an exit code, and a text in what it prints."""

    def check(code: int, message: str, *arguments: str, suite: str = HEALTHY, path: str = "ckpts/opd") -> None:
        write_suite(suite)
        result = geom(*arguments, path=path)
        output = result.stdout.str() + result.stderr.str()
        assert message in output, output
        assert result.ret == code
        assert "Traceback" not in output
        assert "INTERNALERROR" not in output

    return check


class TestUsage:
    def test_no_such_run(self, expect) -> None:
        expect(USAGE, "the run ckpts/nowhere does not exist", path="ckpts/nowhere")

    def test_a_run_without_checkpoints(self, expect, pytester: pytest.Pytester) -> None:
        (pytester.path / "opd-empty").mkdir()
        expect(USAGE, "holds no checkpoint directory and no model; found nothing", path="opd-empty")

    @pytest.mark.parametrize("flag", ["--geom-run", "--geom-base", "--geom-reference"])
    def test_an_empty_value_is_no_directory(self, expect, flag: str) -> None:
        expect(USAGE, f"{flag}= is empty; is a variable not set?", f"{flag}=")

    def test_names_of_files_do_not_drive_the_terminal(self, expect, pytester: pytest.Pytester) -> None:
        (pytester.path / "opd-odd").mkdir()
        (pytester.path / "opd-odd" / "a\x1b[31m").touch()
        expect(USAGE, "no model; found a\\x1b[31m.", path="opd-odd")

    def test_no_base(self, expect, opd_run: Path, tmp_path: Path) -> None:
        (opd_run / "base").rename(tmp_path / "base")
        expect(USAGE, "no W0 to compare with. Give one of")

    def test_a_base_from_another_architecture(self, expect, pytester: pytest.Pytester) -> None:
        write_model(pytester.path / "gpt2", {"transformer.h.0.attn.c_attn.weight": torch.ones(16, 48)})
        expect(USAGE, "W0 (gpt2, --geom-base) does not belong to run ckpts/opd", "--geom-base=gpt2")

    def test_no_suite_applies(self, expect, pytester: pytest.Pytester) -> None:
        simple_run(pytester.path / "ckpts" / "sft")
        expect(USAGE, "no suite applies to run 'sft'", path="ckpts/sft")

    def test_an_unknown_suite(self, expect) -> None:
        expect(USAGE, "no suite 'odp': neither a suite of the project (mine) nor a shipped suite (", "--geom-suite=odp")

    def test_a_detached_run(self, pytester: pytest.Pytester, opd_run: Path) -> None:
        result = pytester.runpytest_inprocess("--geom-run", "ckpts/opd")
        result.stderr.fnmatch_lines(["ERROR: geomcheck: write --geom-run=ckpts/opd, with `=`: *"])
        assert result.ret == USAGE

    @pytest.mark.parametrize("workers", ["0", "-1", "many", "1.5"])
    def test_a_bad_number_of_workers(self, expect, workers: str) -> None:
        expect(USAGE, "give a whole number of local workers", f"--geom-workers={workers}")

    @pytest.mark.parametrize("option", ["--geom-json", "--geom-record"])
    def test_an_output_inside_the_run(self, expect, opd_run: Path, option: str) -> None:
        expect(
            USAGE,
            "would write to the run ckpts/opd, which is never written to",
            f"{option}=ckpts/opd/checkpoint-10/out",
        )
        assert not (opd_run / "checkpoint-10" / "out").exists()

    def test_a_record_that_is_none(self, expect, pytester: pytest.Pytester) -> None:
        (pytester.path / "r.parquet").write_bytes(b"nonsense")
        expect(USAGE, "r.parquet: not a readable record", path="r.parquet")

    def test_outputs_do_not_replace_what_is_judged(self, expect, pytester: pytest.Pytester) -> None:
        write_model(pytester.path / "anchor", base_weights())
        base = ("--geom-base=anchor", "--geom-json=anchor/model.safetensors")
        expect(USAGE, "would write to W0 (anchor), which is never written to", *base)
        expect(USAGE, "would write to the suite", "--geom-json=suites/mine.yaml")
        expect(USAGE, "--geom-json and --geom-record name the same file", "--geom-json=x", "--geom-record=x")

    def test_an_output_that_is_a_pipe(self, expect, pytester: pytest.Pytester) -> None:
        os.mkfifo(pytester.path / "pipe")
        expect(USAGE, "is not a regular file", "--geom-json=pipe")

    @pytest.mark.parametrize(
        "option", ["--geom-report=x.html", "--geom-json=x", "--geom-suite=opd", "--geom-base=b", "--geom-fail-on=warn"]
    )
    def test_options_without_a_run_would_check_nothing(self, pytester: pytest.Pytester, option: str) -> None:
        pytester.makepyfile("def test_passes(): pass")
        result = pytester.runpytest_inprocess(option)
        result.stderr.fnmatch_lines(
            [f"ERROR: geomcheck: {option.partition('=')[0]} does nothing without --geom-run=PATH*"]
        )
        assert result.ret == USAGE

    def test_options_of_the_ini_file_do_not_need_a_run(self, pytester: pytest.Pytester) -> None:
        pytester.makeini("[pytest]\naddopts = --geom-json=verdicts.json --geom-fail-on=warn\n")
        pytester.makepyfile("def test_passes(): pass")
        pytester.runpytest_inprocess().assert_outcomes(passed=1)

    def test_a_file_that_is_no_record_is_no_run(self, expect, opd_run: Path) -> None:
        expect(
            USAGE,
            "ckpts/opd/base/model.safetensors: a file, but not a readable record; give the directory of the run",
            path="ckpts/opd/base/model.safetensors",
        )

    def test_a_suite_that_links_in_a_circle(self, expect, pytester: pytest.Pytester) -> None:
        (pytester.path / "circle.yaml").symlink_to("circle.yaml")
        expect(USAGE, "circle.yaml", "circle.yaml")

    def test_the_run_as_its_own_reference(self, expect) -> None:
        expect(USAGE, "--geom-reference=ckpts/opd is the run that is checked", "--geom-reference=ckpts/opd")


class TestFiles:
    def test_all_weights_damaged(self, expect, opd_run: Path) -> None:
        broken = {name: torch.full_like(w.float(), float("nan")) for name, w in base_weights().items()}
        write_model(opd_run / "checkpoint-20", broken)
        expect(FAILED, "values are NaN or infinite")  # which tensor is named depends on who was faster

    def test_a_truncated_checkpoint(self, expect, opd_run: Path) -> None:
        file = opd_run / "checkpoint-20" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        expect(FAILED, "checkpoint-20/model.safetensors: truncated or not a safetensors file")

    def test_a_model_with_fewer_layers_than_its_config_says(self, expect, opd_run: Path) -> None:
        for directory in ("base", "checkpoint-10", "checkpoint-20", "checkpoint-30"):
            (opd_run / directory / "config.json").write_text('{"model_type": "qwen3", "num_hidden_layers": 3}')
        said = "lacks 2 of the 3 layers that ckpts/opd/base/config.json counts, such as layer 1: a part of it"
        expect(FAILED, said)
        for directory in ("base", "checkpoint-10", "checkpoint-20", "checkpoint-30"):
            (opd_run / directory / "config.json").write_text('{"model_type": "qwen3", "num_hidden_layers": 1}')
        expect(PASS, "2 passed")

    def test_a_tensor_that_the_index_does_not_name(self, expect, opd_run: Path) -> None:
        for place in ("base", "checkpoint-10", "checkpoint-20", "checkpoint-30"):
            weights = load_file(opd_run / place / "model.safetensors")
            (opd_run / place / "model.safetensors").unlink()
            write_sharded(opd_run / place, weights)
        expect(PASS, "2 passed")
        index = opd_run / "checkpoint-20" / "model.safetensors.index.json"
        whole = json.loads(index.read_text())
        cut = {name: file for name, file in whole["weight_map"].items() if name != DOWN}
        index.write_text(json.dumps({"weight_map": cut}))
        expect(FAILED, f"holds {DOWN}, which model.safetensors.index.json does not name (1 weights affected)")
        first = {name: file for name, file in whole["weight_map"].items() if file.startswith("model-00001")}
        index.write_text(json.dumps({"weight_map": first}))
        expect(FAILED, "model.safetensors.index.json: names 1 of 2 shards, such as model-00001-of-00002.safetensors")

    def test_a_missing_shard(self, expect, opd_run: Path) -> None:
        (opd_run / "checkpoint-20" / "model.safetensors").unlink()
        write_sharded(opd_run / "checkpoint-20", moved(base_weights(), 1e-2))
        (opd_run / "checkpoint-20" / "model-00001-of-00002.safetensors").unlink()
        expect(FAILED, "model-00001-of-00002.safetensors: missing, though model.safetensors.index.json names it")

    def test_a_stale_index_alone(self, expect, opd_run: Path) -> None:
        (opd_run / "checkpoint-20" / "model.safetensors").unlink()
        write_sharded(opd_run / "checkpoint-20", moved(base_weights(), 1e-2))
        save_file({"other": torch.ones(2, 2)}, opd_run / "checkpoint-20" / "model-00001-of-00002.safetensors")
        expect(FAILED, "the index is stale or the shard was overwritten")

    def test_a_stale_index_beside_the_whole_model_is_harmless(self, expect, opd_run: Path) -> None:
        index = opd_run / "checkpoint-20" / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {Q: "model-00001-of-00009.safetensors"}}))
        expect(PASS, "2 passed")

    def test_an_index_that_points_outside(self, expect, opd_run: Path) -> None:
        (opd_run / "checkpoint-20" / "model.safetensors").unlink()
        index = opd_run / "checkpoint-20" / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {Q: "../base/model.safetensors"}}))
        expect(FAILED, "shards must be plain file names in the same directory")

    def test_a_checkpoint_without_weights(self, expect, opd_run: Path) -> None:
        (opd_run / "checkpoint-20" / "model.safetensors").unlink()
        expect(USAGE, "checkpoint-20: no weights that are read; found config.json")


class TestWeights:
    def run(self, path: Path, **changes: dict[str, torch.Tensor]) -> None:
        base = base_weights()
        write_run(
            path,
            base,
            {10: moved(base, 1e-2), 20: moved(base, 2e-2) | changes.get("middle", {}), 30: moved(base, 3e-2)},
        )

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_nan_or_infinity(self, expect, opd_run: Path, bad: float) -> None:
        broken = moved(base_weights(), 2e-2)[Q]
        broken[0, 0] = bad
        self.run(opd_run, middle={Q: broken})
        expect(FAILED, f"{Q} cannot be measured: checkpoint-20: 1 of 384 values are NaN or infinite")

    def test_a_shape_mismatch(self, expect, opd_run: Path) -> None:
        self.run(opd_run, middle={Q: torch.zeros(24, 8)})
        expect(FAILED, f"{Q} cannot be measured: shape (24, 8) in checkpoint-20, but (24, 16) in W0")

    def test_a_weight_missing_from_one_checkpoint(self, expect, opd_run: Path) -> None:
        weights = moved(base_weights(), 2e-2)
        del weights[K]
        write_model(opd_run / "checkpoint-20", weights)
        expect(FAILED, f"{K} cannot be measured: missing from checkpoint-20")

    def test_a_healthy_part_can_still_be_judged(self, expect, opd_run: Path) -> None:
        self.run(opd_run, middle={Q: torch.zeros(24, 8)})
        suite = HEALTHY.replace('applies_to: ["opd*"]', 'weights: {include: ["*.down_proj.*"]}')
        expect(PASS, "2 passed", suite=suite)

    def test_all_weights_frozen(self, expect, opd_run: Path) -> None:
        base = base_weights()
        write_run(opd_run, base, dict.fromkeys((10, 20, 30), base))
        expect(FAILED, "none of the 3 selected weights ever changed")

    def test_mixed_storage_formats(self, expect, opd_run: Path) -> None:
        self.run(opd_run, middle=moved(base_weights(), 2e-2, dtype=torch.bfloat16))
        expect(FAILED, "its storage format changes along the run (fp32 from checkpoint-10, bf16 from checkpoint-20)")

    def test_another_model_of_the_same_shape(self, expect, pytester: pytest.Pytester) -> None:
        write_model(pytester.path / "other", base_weights(seed=5))
        expect(FAILED, "are different models: half of the weights differ by 1.", "--geom-base=other")

    def test_no_matching_weights(self, expect) -> None:
        suite = HEALTHY.replace('applies_to: ["opd*"]', 'weights: {include: ["*.w_proj.*"]}')
        expect(FAILED, "`*.w_proj.*` matches no weight of the run", suite=suite)

    def test_one_checkpoint(self, expect, opd_run: Path) -> None:
        write_run(opd_run.parent / "opd-one", base_weights(), {10: moved(base_weights(), 1e-2)})
        suite = HEALTHY.replace("stable_rank\n    within: [1.5, 16]", "subspace_alignment\n    k: 2\n    above: 0.1")
        expect(
            FAILED,
            "subspace_alignment compares checkpoints, and the run has only one",
            suite=suite,
            path="ckpts/opd-one",
        )

    def test_k_that_spans_everything(self, expect) -> None:
        suite = HEALTHY.replace("stable_rank\n    within: [1.5, 16]", "principal_angle\n    k: 16\n    below: 9 deg")
        expect(FAILED, "k = 16 spans the whole of", suite=suite)

    def test_one_zeroed_weight(self, expect, opd_run: Path) -> None:
        self.run(opd_run, middle={DOWN: torch.zeros(16, 24)})
        expect(FAILED, "all zeros, though W0 is not")


class TestSuites:
    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            ("above: 50%", "abvoe: 50%", "suites/mine.yaml:8:5: "),
            ("above: 50%", "abvoe: 50%", "did you mean `above`?"),
            ("metric: update_support", "metric: update_suport", "did you mean `update_support`?"),
            ("id: rank", "id: support", "`id: support` is given twice: here and in line 6"),
            ("above: 50%", "above: -1", "cannot fail"),
            ("within: [1.5, 16]", "within: [16, 1.5]", "can never hold"),
            ("metric: stable_rank\n    within: [1.5, 16]", "metric: principal_angle\n    below: 1", "1 deg"),
            ("geomcheck: 1", "geomcheck: 2", "suites/mine.yaml:2:12"),
        ],
    )
    def test_a_mistake_is_located_and_explained(self, expect, before: str, after: str, message: str) -> None:
        assert before in HEALTHY
        expect(INVALID_SUITE, message, suite=HEALTHY.replace(before, after))

    def test_scientific_notation_is_a_number(self, expect) -> None:
        expect(PASS, "2 passed", suite=HEALTHY.replace("above: 50%", "above: 1e-4"))

    def test_a_suite_executes_nothing(self, expect, pytester: pytest.Pytester) -> None:
        payload = HEALTHY.replace("A direction collapsed.", '!!python/object/apply:os.system ["touch owned"]')
        expect(INVALID_SUITE, "suites/mine.yaml:", suite=payload)
        assert not (pytester.path / "owned").exists()

    def test_a_reason_cannot_command_github(self, expect) -> None:
        why = HEALTHY.replace("above: 50%", "below: 5%").replace(
            "    at: last", '    at: last\n    why: "x\\n::error file=a.py::injected"'
        )
        expect(FAILED, "\\x3a:error file=a.py::injected", suite=why)

    def test_names_cannot_drive_the_terminal(self, expect, opd_run: Path) -> None:
        evil = "model.layers.0.self_attn.\x1b[2J_proj.weight"
        base = base_weights() | {evil: torch.ones(8, 8)}
        write_run(opd_run, base, {10: moved(base, 1e-2)})
        expect(FAILED, "\\x1b[2J_proj", suite=HEALTHY.replace("above: 50%", "below: 5%"))


class TestWhatIsMeasuredBeside:
    """The verdict on a run does not depend on what else looks at it."""

    ALONE = HEALTHY.replace("expect:", 'weights: {include: ["*q_proj*"]}\nexpect:')

    def test_nan_where_only_a_report_looks(self, expect, opd_run: Path) -> None:
        broken = moved(base_weights(), 2e-2)
        broken[DOWN][0, 0] = float("nan")
        write_model(opd_run / "checkpoint-20", broken)
        for options in ((), ("--geom-report=r.html",), ("--geom-record=r.parquet",)):
            expect(FAILED, f"of {DOWN}" if not options else DOWN, *options, suite=self.ALONE)
        assert main(["measure", str(opd_run), "-o", "r.parquet"]) != 0


class TestReferences:
    LIKE = HEALTHY.replace("above: 50%", "like: reference\n    tolerance: 5%")

    def test_a_reference_that_cannot_be_measured_fails_what_compares_with_it(
        self, expect, pytester: pytest.Pytester
    ) -> None:
        good = simple_run(pytester.path / "good")
        (good / "checkpoint-20" / "model.safetensors").write_bytes(b"")
        expect(FAILED, "checkpoint-20/model.safetensors: truncated", "--geom-reference=good", suite=self.LIKE)
        expect(FAILED, "1 failed, 1 passed", "--geom-reference=good", suite=self.LIKE)

    def test_w0_beside_a_record_is_the_one_that_it_was_measured_against(
        self, expect, opd_run: Path, pytester: pytest.Pytester
    ) -> None:
        assert main(["measure", str(opd_run), "-o", "opd.parquet"]) == 0
        write_model(pytester.path / "same", base_weights())
        write_model(pytester.path / "other", base_weights(seed=5))
        write_model(pytester.path / "less", {Q: base_weights()[Q]})
        expect(PASS, "2 passed", "--geom-base=same", path="opd.parquet")
        expect(PASS, "2 passed", suite=HEALTHY.replace("expect:", "base: same\nexpect:"), path="opd.parquet")
        another = "other: does not hold the weights that the record of opd was measured on as W0, such as model."
        expect(FAILED, another, "--geom-base=other", path="opd.parquet")
        expect(FAILED, another, suite=HEALTHY.replace("expect:", "base: ../other\nexpect:"), path="opd.parquet")
        expect(FAILED, "less: lacks model.", "--geom-base=less", path="opd.parquet")
        write_model(pytester.path / "wide", {name: w.float() for name, w in base_weights().items()})
        expect(PASS, "2 passed", "--geom-base=wide", path="opd.parquet")
        write_model(pytester.path / "wide", {name: w.float() + 1e-6 for name, w in base_weights().items()})
        expect(FAILED, "wide: does not hold the weights", "--geom-base=wide", path="opd.parquet")
        elsewhere = HEALTHY.replace("expect:", "base: /models/gone\nexpect:")
        expect(PASS, "the suite's base, /models/gone, is not here", suite=elsewhere, path="opd.parquet")
        expect(FAILED, another, "--geom-base=other", "-n1", path="opd.parquet")

    def test_a_reference_that_started_from_another_w0(self, expect, pytester: pytest.Pytester) -> None:
        base = base_weights(seed=5)
        steps = {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20, 30)}
        write_run(pytester.path / "elsewhere", base, steps)
        said = "their W0 (in model.layers.0.mlp.down_proj.weight) differ: "
        loose = self.LIKE.replace("5%", "50%")
        expect(PASS, said, "--geom-reference=elsewhere", suite=loose)
        assert main(["measure", "elsewhere", "-o", "elsewhere.parquet"]) == 0
        expect(PASS, said, "--geom-reference=elsewhere.parquet", suite=loose)
        masks = HEALTHY.replace("update_support\n    above: 50%", "mask_jaccard\n    above: 1%")
        for _ in range(2):
            expect(FAILED, "started from another W0", "--geom-reference=elsewhere", suite=masks)
        write_run(pytester.path / "beside", base_weights(), {s: moved(base_weights(), 1e-3 * s) for s in (10, 20, 30)})
        expect(PASS, "2 passed", "--geom-reference=beside", suite=masks)
        write_model(pytester.path / "beside" / "base", {name: w.float() for name, w in base_weights().items()})
        expect(PASS, "2 passed", "--geom-reference=beside", suite=masks)

    def test_a_reference_of_another_architecture(self, expect, pytester: pytest.Pytester) -> None:
        wide = {name: torch.ones([2 * n for n in w.shape]) for name, w in base_weights().items()}
        write_run(pytester.path / "wide", base_weights(), {10: wide})
        expect(USAGE, "W0 (wide/base, base/ in the run) does not belong", "--geom-reference=wide", suite=self.LIKE)

    def test_a_reference_that_is_not_there(self, expect) -> None:
        expect(USAGE, "--geom-reference: the run nowhere does not exist", "--geom-reference=nowhere", suite=self.LIKE)

    def test_a_reference_without_a_checkpoint_nearby(self, expect, pytester: pytest.Pytester) -> None:
        write_run(pytester.path / "one", base_weights(), {30: moved(base_weights(), 3e-2)}, max_steps=60)
        at_last = "no checkpoint matches step 30 (progress 100%): the nearest is step 30 at 50%, 50 points away"
        expect(FAILED, at_last, "--geom-reference=one", suite=self.LIKE)
        jaccard = HEALTHY.replace("update_support\n    above: 50%", "mask_jaccard\n    above: 10%")
        expect(FAILED, "the reference has no checkpoint near 100% of training", "--geom-reference=one", suite=jaccard)
