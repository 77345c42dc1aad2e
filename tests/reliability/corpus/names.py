"""Names, shapes and storage formats of weights: missing, extra, renamed, reshaped, retyped."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tests.reliability.corpus.case import Case, Kit, Outcome
from tests.reliability.corpus.weights import everywhere, one, renamed, rewritten
from tests.runs import DOWN, EMBED, NORM, Q, Tensors

kit = Kit("names", "plain")

EXTRA = "model.layers.1.self_attn.q_proj.weight"
HIDDEN = "model.layers.0.self_attn.q\u200b_proj.weight"
LOOKALIKE = "model.layers.0.self_attn.q_prоj.weight"
CANNOT = f"{Q} cannot be measured: "

RETYPED = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
    "fp8": torch.float8_e4m3fn,
    "int8": torch.int8,
    "int64": torch.int64,
    "bool": torch.bool,
    "uint8": torch.uint8,
}


def _prefixed(prefix: str) -> object:
    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    return change


def _drop(name: str) -> object:
    return lambda tensors: tensors.pop(name)


def _only_vectors(tensors: Tensors) -> None:
    for name in [name for name, tensor in tensors.items() if tensor.ndim > 1]:
        del tensors[name]


def _commanding(tensors: Tensors) -> None:
    """Two more matrices, named as GitHub's commands are; wildly trained, so that they are shown as the worst."""
    scale = 1.0 if tensors[Q].dtype == torch.bfloat16 else 1.8
    for number in range(2):
        tensors[f"::error file=x::{number}.self_attn.q_proj.weight"] = (scale * torch.eye(16)).to(tensors[Q].dtype)


def cases() -> Iterator[Case]:
    """Every case."""
    yield kit("missing-from-one", rewritten(20, _drop(Q)), Outcome.ERROR, f"{CANNOT}missing from checkpoint-20")
    yield kit(
        "missing-from-two",
        lambda p: [rewritten(s, _drop(Q))(p) for s in (10, 30)],
        Outcome.ERROR,
        f"{CANNOT}missing from checkpoint-10, checkpoint-30",
    )
    yield kit("missing-from-w0", rewritten(0, _drop(Q)), Outcome.ERROR, f"{CANNOT}not in W0")
    yield kit(
        "missing-from-all", everywhere(_drop(Q), base=False), Outcome.ERROR, f"{CANNOT}in W0, but in no checkpoint"
    )
    yield kit("missing-from-all-and-w0", everywhere(_drop(Q)), Outcome.OTHER)
    yield kit("a-norm-missing-from-one", rewritten(20, _drop(NORM)), Outcome.SAME)
    yield kit(
        "all-matrices-missing", rewritten(10, _only_vectors), Outcome.USAGE, "no weight matrices in checkpoint-10"
    )
    yield kit("all-tensors-missing", rewritten(20, lambda w: w.clear()), Outcome.ERROR, "checkpoint-20")
    extra = lambda w: w.update({EXTRA: torch.ones(32, 16)})  # noqa: E731
    yield kit("extra-in-one", rewritten(20, extra), Outcome.ERROR, f"{EXTRA} cannot be measured: not in W0")
    yield kit("extra-in-all", everywhere(extra, base=False), Outcome.ERROR, f"{EXTRA} cannot be measured: not in W0")
    yield kit("extra-in-w0", rewritten(0, extra), Outcome.SAME, "left out, as W0 has them and no checkpoint does")
    yield kit("an-extra-vector", rewritten(20, lambda w: w.update({"model.extra.bias": torch.ones(4)})), Outcome.SAME)
    yield kit(
        "an-extra-integer-buffer", rewritten(20, lambda w: w.update({"num_batches": torch.tensor(3)})), Outcome.SAME
    )
    yield kit(
        "renamed-in-one",
        rewritten(20, renamed(Q, "model.layers.0.self_attn.query.weight")),
        Outcome.ERROR,
        f"{CANNOT}missing from checkpoint-20 (and 1 more)",
    )
    yield kit(
        "two-names-exchanged",
        rewritten(
            20,
            lambda w: w.update(
                {
                    Q.replace("q_proj", "k_proj"): w[Q.replace("q_proj", "v_proj")],
                    Q.replace("q_proj", "v_proj"): w[Q.replace("q_proj", "k_proj")],
                }
            ),
        ),
        Outcome.ERROR,
        "different models in 2 of 7 weights",
        "k_proj",
    )
    yield kit("a-lookalike-letter", rewritten(20, renamed(Q, LOOKALIKE)), Outcome.ERROR, "cannot be measured: ")
    yield kit("an-invisible-letter", rewritten(20, renamed(Q, HIDDEN)), Outcome.ERROR, "q\\u200b_proj", "opd")
    yield kit(
        "an-escape-in-a-name",
        rewritten(20, lambda w: w.update({"a\x1b[2Jb.weight": torch.ones(4, 4)})),
        Outcome.ERROR,
        "a\\x1b[2Jb.weight",
    )
    yield kit(
        "a-newline-in-a-name",
        rewritten(20, lambda w: w.update({"a\n::error::b": torch.ones(4, 4)})),
        Outcome.ERROR,
        "a\\n::error::b",
    )
    yield kit("a-command-for-a-name", everywhere(_commanding), Outcome.FAILED)
    yield kit("an-empty-name", rewritten(20, lambda w: w.update({"": torch.ones(4, 4)})), Outcome.ERROR)
    yield kit("a-name-of-100-kB", rewritten(20, lambda w: w.update({"x" * 100_000: torch.ones(4, 4)})), Outcome.ERROR)
    yield kit("prefixed-in-one", rewritten(20, _prefixed("module.")), Outcome.SAME)
    yield kit("compiled-in-one", rewritten(20, _prefixed("_orig_mod.")), Outcome.SAME)
    yield kit(
        "both-with-and-without-prefix",
        rewritten(20, lambda w: w.update({f"module.{Q}": w[Q] + 1})),
        Outcome.ERROR,
        "checkpoint-20",
        Q,
    )
    for what, change in {
        "transposed": lambda w: w.T,
        "flattened": lambda w: w.flatten(),
        "of-three-dimensions": lambda w: w[None],
        "cropped": lambda w: w[:31],
        "padded": lambda w: torch.cat([w, w[:1]]),
        "empty": lambda w: w[:0],
        "a-placeholder": lambda w: w.flatten()[:0],
        "a-number": lambda w: w[0, 0],
    }.items():
        yield kit(f"{what}-in-one", rewritten(20, one(Q, change)), Outcome.ERROR, f"{CANNOT}shape", "in checkpoint-20")
        yield kit(
            f"{what}-in-all", everywhere(one(Q, change), base=False), Outcome.ERROR, f"{CANNOT}shape", "checkpoint-10"
        )
    yield kit("a-longer-vocabulary", everywhere(one(EMBED, lambda w: torch.cat([w, w])), base=False), Outcome.SAME)
    yield kit(
        "square-and-transposed",
        rewritten(20, one(Q.replace("q_proj", "k_proj"), lambda w: w.T)),
        Outcome.ERROR,
        "k_proj",
    )
    for name, dtype in RETYPED.items():
        if name in ("bf16", "fp16", "fp64"):
            says = (CANNOT, "its storage format changes along the run", f"{name} from checkpoint-20")
        else:
            says = (CANNOT, "stored as", "in checkpoint-20")
        yield kit(f"{name}-in-one", rewritten(20, one(Q, lambda w, to=dtype: w.to(to))), Outcome.ERROR, *says)
    for name in ("bf16", "fp64"):
        yield kit(f"{name}-in-all", everywhere(one(Q, lambda w, to=RETYPED[name]: w.to(to)), base=False), Outcome.OTHER)
    yield kit(
        "int8-in-all",
        everywhere(one(DOWN, lambda w: w.to(torch.int8))),
        Outcome.ERROR,
        f"{DOWN} cannot be measured: stored as I8",
    )
    yield kit(
        "fp8-without-scales", everywhere(one(DOWN, lambda w: w.to(torch.float8_e4m3fn))), Outcome.ERROR, DOWN, "F8_E4M3"
    )
