"""A head and an embedding that the config makes one weight, and that are two."""

from __future__ import annotations

from collections.abc import Iterator

from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind


def _find(case: Case) -> Iterator[Finding]:
    """What an adapter leaves alone has no `contents`: an adapter of the head alone is silent, as it is loaded beside
    the tied weight."""
    apart: dict[tuple[str, str], set[int]] = {}
    for index in range(len(case.points)):
        pair = case.tied(index)
        codes = [case.contents[name][index + 1] for name in pair or () if name in case.contents]
        if pair is not None and len(codes) == 2 and codes[0] != codes[1]:
            apart.setdefault(pair, set()).add(index)
    for (head, embedding), at in apart.items():
        yield TIED.finding(
            case,
            {(head, index) for index in at},
            f"{head} and {embedding} differ {case.when(at)}, and config.json ties them: what loads the checkpoint "
            "takes one for both",
            evidence=(
                f"tie_word_embeddings in {len(at)} of {len(case.points)} configs, and two tensors with different bytes",
            ),
        )


TIED = Kind(
    name="tied",
    group="A",
    grade="fact",
    title="a tied pair that differs",
    about="The config makes head and embedding one weight, and the checkpoint has two that differ: a model that is "
    "loaded from it uses the embedding in both places, and the trained head is lost.",
    looks_at=("weights",),
    causes=(
        "the pair was untied for training, by an adapter or a sharded optimizer, and the config was not changed",
        "the config of another model was copied beside the weights",
    ),
    next_step="If the head is meant to be trained, save the config with tie_word_embeddings false; else tie the pair "
    "again before training.",
    source="https://github.com/unslothai/unsloth/issues/9331",
    find=_find,
)
