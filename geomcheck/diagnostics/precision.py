"""What a storage format lets a weight do: which entries a learning rate can move in bf16, and which values of a wide
format are numbers of a narrower one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from geomcheck._lazy import late, torch
from geomcheck.diagnostics.declaration import Parameter, scalar, share
from geomcheck.diagnostics.reading import Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics import storage
    from geomcheck.diagnostics.update import Update
else:
    storage = late("geomcheck.diagnostics.storage")

LR = Parameter(
    name="lr",
    kind="number",
    low=0.0,
    high=1e3,
    example=1e-6,
    about="The largest step of one entry: of Adam, about the peak learning rate.",
    synonyms=("learning_rate", "step_size", "max_step"),
)
FORMAT = Parameter(
    name="format",
    kind="choice",
    choices=("bf16", "fp16"),
    default="bf16",
    about="The narrower format.",
    synonyms=("dtype", "cast"),
)

INFINITY = 0x7F80
"""The bits of infinity in bf16; those of every finite magnitude are below, in the order of magnitudes."""


def unmovable_share(w0: Tensor, lr: float) -> float:
    """Share of the entries that a step of `lr` cannot move in bf16: it rounds back to the entry, up and down. 0..1.

    That is where half the distance to the nearest other bf16 number is above `lr`. The nearest is the next towards
    zero, and half of it lies between |w| / 512 and |w| / 256: 1.0 cannot move where `lr` is below 2^-9.

    Args:
        w0: any shape and floating dtype; it is rounded to bf16 first.
        lr: >= 0, the largest step of one entry.

    >>> unmovable_share(torch.tensor([1.0, 0.1, 0.0]), lr=1e-3)
    0.3333333333333333
    """
    magnitudes = torch.arange(1, INFINITY, dtype=torch.int16, device=w0.device).view(torch.bfloat16).double()
    halves = torch.diff(magnitudes, prepend=magnitudes.new_zeros(1)) / 2  # growing with the magnitude
    first = 1 + int(torch.searchsorted(halves, lr, right=True))
    if first == 1 and lr < float(halves[0]):
        return 1.0  # zero too
    blocks = (storage.magnitude_keys(block.to(torch.bfloat16)) for block in storage.blocks_of(w0))
    return sum(storage.count(block >= first) for block in blocks) / w0.numel()


def representable_share(w: Tensor, narrow: Literal["bf16", "fp16"]) -> float:
    """Share of the entries that are numbers of the format `narrow`, exactly, 0..1.

    Args:
        w: any shape and floating dtype.

    >>> [representable_share(torch.tensor([0.5, 1.001, 1e-20]).bfloat16().float(), narrow) for narrow in ("bf16",
    ...     "fp16")]
    [1.0, 0.6666666666666666]
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[narrow]
    exact = (block.to(dtype).to(block.dtype) == block for block in storage.blocks_of(w))
    return sum(storage.count(storage.array(block)) for block in exact) / w.numel()


def _of_stored(update: Update, *, format: Literal["bf16", "fp16"]) -> float:
    if not isinstance(update.stored, torch.Tensor):
        raise Undefined("an adapter stores D_t, so W_t is of no format")
    return representable_share(update.stored, format)


FROZEN_BY_PRECISION = share(
    name="frozen_by_precision",
    title="frozen by precision",
    definition="share of entries of W_0 to which w_0 + lr and w_0 - lr are rounded back in bf16",
    parameters=(LR,),
    fold="weighted",
    source="geomcheck; entries with |w_0| above some 256 to 512 lr cannot move in bf16",
    when_unchanged=True,
    of_entries=True,
    on_request=True,
    compute=scalar(lambda update, lr: unmovable_share(update.base.w0, lr)),
    words=Words(
        "The share of single numbers in the weights that a step of the learning rate cannot move in bf16.",
        "Most steps are rounded away in bf16: raise the learning rate, or keep an fp32 master or stochastic rounding.",
        "More of the weights can move at this learning rate than should.",
    ),
    distrust="It says what pure bf16 training could not move, not what did not move: an fp32 master or stochastic "
    "rounding moves it. A step of Adam may be several times the learning rate at first, and weight decay adds lr times "
    "the decay times |w|.",
    inflated_by_rounding=False,
    example=("0%", "50%"),
    synonyms=("unmovable_share", "unmovable", "below_resolution", "rounded_away", "precision_frozen"),
)

REPRESENTABLE_SHARE = share(
    name="representable_share",
    title="representable share",
    definition="share of entries of W_t, as stored, that are numbers of a narrower format",
    parameters=(FORMAT,),
    baseline="2^-16 of fp32 entries are bf16 numbers by chance, 2^-13 fp16 numbers; of bf16 and fp16 files, all of "
    "their own",
    fold="weighted",
    source="geomcheck",
    undefined="D_t is what is stored, as an adapter does",
    when_unchanged=True,
    of_entries=True,
    on_request=True,
    compute=scalar(_of_stored),
    words=Words(
        "The share of single numbers in the stored weights that a narrower format holds exactly.",
        "The weights were cast to a narrower format, and back: an fp32 file that holds bf16 numbers is no fp32 master.",
        "The weights have finer values than they should: they were not cast to the narrower format.",
    ),
    distrust="Zeros, ones and powers of two are numbers of every format: norms and biases that never trained are "
    "coarse by nature.",
    inflated_by_rounding=False,  # it is what rounding leaves
    example=("99%", "100%"),
    synonyms=("coarse_values", "representable", "bf16_values", "fp16_values", "is_bf16"),
)
