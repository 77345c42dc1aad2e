"""Which tests are slow, and which want the machine to themselves: paths below the root, or tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

WEEKLY = (
    "tests/checkpoints/formats/test_dcp.py::test_the_shards_of_two_processes_are_put_together",
    "tests/checkpoints/formats/torch_save/test_pickle_data.py::test_numbers_whose_hashes_are_equal_are_no_keys",
    "tests/checkpoints/test_comparable.py::test_46000_experts_take_seconds",
    "tests/checkpoints/test_families.py::test_the_names_of_every_family_but_the_odd_ones_say_what_their_modules_say",
    "tests/live/loop/test_distributed.py",
    "tests/projection/test_projection_on_ranks.py",
    "tests/reliability/test_bounds.py",
    "tests/writers",
)
"""They measure time or memory, or start training processes: ``nox -s weekly`` runs them alone. They are slow too."""

SLOW = (
    *WEEKLY,
    "tests/bench",
    "tests/calibration/test_derive.py",
    "tests/calibration/test_moderated.py::test_a_recipe_that_repeats_ten_times_more_closely_than_usual_raises_no_alarm",
    "tests/calibration/test_moderated.py::test_a_suite_keeps_its_false_alarm_rate",
    "tests/calibration/test_normal.py::test_one_expert_of_64_that_stands_still_is_seen_and_good_runs_are_not",
    "tests/calibration/test_outlier.py",
    "tests/calibration/test_profile.py",
    "tests/calibration/test_runs.py",
    "tests/calibration/test_update.py",
    "tests/checkpoints/canonical/test_megatron.py::test_the_model_that_was_trained_comes_back_bit_for_bit",
    "tests/checkpoints/formats/test_adapter.py",
    "tests/checkpoints/formats/test_dcp.py::test_thousands_of_chunks_are_checked_in_no_time",
    "tests/checkpoints/formats/test_pickled.py::test_one_rank_is_not_a_model",
    "tests/checkpoints/formats/torch_save/test_pickle_data.py::test_plain_values_are_what_pickle_says",
    "tests/checkpoints/formats/torch_save/test_pickle_data.py::test_tuples_nested_without_end_are_no_key",
    "tests/checkpoints/test_adapted_models.py",
    "tests/checkpoints/test_one_model_in_every_layout.py",
    "tests/checkpoints/test_remote.py::test_a_bucket_of_s3",
    "tests/checkpoints/test_remote.py::test_checkpoints_in_a_repository_of_the_hub",
    "tests/checkpoints/test_remote.py::test_each_tensor_is_asked_for_once_and_alone",
    "tests/checkpoints/test_remote.py::test_what_was_measured_is_not_fetched_again",
    "tests/cli/test_commands.py",
    "tests/cli/test_init.py",
    "tests/cli/test_interruption.py",
    "tests/cli/test_means.py",
    "tests/cli/test_power.py",
    "tests/cli/test_watch.py",
    "tests/comparison",
    "tests/defects/test_power.py::test_so_it_is_of_a_run_of_adapters",
    "tests/defects/test_power.py::test_the_smallest_change_that_is_noticed_is_that_of_the_band",
    "tests/defects/test_power.py::test_what_is_said_is_what_a_gate_says_of_the_same_defects_on_disk",
    "tests/diagnosis/test_findings.py::test_nothing_is_said_of_a_benign_change",
    "tests/diagnosis/test_findings.py::test_what_is_wrong_is_said_in_one_sentence",
    "tests/diagnosis/test_good.py::test_nothing_is_said_of_a_run_like_the_good_ones",
    "tests/diagnosis/test_good.py::test_what_differs_from_good_runs_is_told_once_with_two_causes",
    "tests/diagnosis/test_good.py::test_what_the_log_says_is_told",
    "tests/diagnostics/test_adversaries.py",
    "tests/diagnostics/test_declarations.py::test_any_update_gives_figures_in_range_or_a_reason",
    "tests/diagnostics/test_edges.py",
    "tests/diagnostics/test_entry_points.py",
    "tests/diagnostics/test_lowrank.py::test_every_metric_gives_the_same_from_factors_as_from_the_matrix",
    "tests/diagnostics/test_perturbation.py",
    "tests/diagnostics/test_rank.py::test_hill_of_a_nearly_tied_tail",
    "tests/diagnostics/test_spectrum.py",
    "tests/diagnostics/test_update.py",
    "tests/docs/test_guides.py::test_commands_do_what_the_guide_says",
    "tests/docs/test_pages.py",
    "tests/extensions",
    "tests/live",
    "tests/measurement/cache/test_recall.py",
    "tests/measurement/cache/test_store.py::test_killed_at_any_moment_the_next_session_goes_on",
    "tests/measurement/executors/test_batches.py",
    "tests/measurement/executors/test_ray.py",
    "tests/measurement/test_real_run.py",
    "tests/measurement/test_soundness.py",
    "tests/projection",
    "tests/record/test_parquet.py::test_metadata_that_cannot_be_is_refused",
    "tests/reliability",
    "tests/report/test_browser.py",
    "tests/report/test_html.py::test_46000_experts_stay_small",
    "tests/report/test_html.py::test_the_size_is_bounded_even_where_nothing_can_be_folded",
    "tests/report/test_summary.py::test_no_line_is_wider_than_the_screen",
    "tests/stories",
    "tests/suite/test_due.py::test_what_is_settled_stays",
    "tests/suite/test_sufficiency.py",
    "tests/test_action.py",
    "tests/test_defects.py",
    "tests/test_pictures.py",
    "tests/test_readme.py::test_the_transcript_of_a_run_that_passes_is_real",
    "tests/test_readme.py::test_the_transcript_of_a_run_that_fails_is_real",
    "tests/test_synthetic.py::test_the_command_line_writes_what_it_names",
)
"""What ``pytest -m "not slow"`` leaves out, so that the rest takes less than two minutes."""


def marks(test: str) -> Iterator[str]:
    """The markers of a test, by its id."""
    for marker, listed in (("slow", SLOW), ("weekly", WEEKLY)):
        if any(test == entry or test.startswith((f"{entry}/", f"{entry}::", f"{entry}[")) for entry in listed):
            yield marker
