"""Models of the Hugging Face Hub, from its local cache if they are there."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from geomcheck.checkpoints.formats import held, open_weights
from geomcheck.errors import RunError, UsageError

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,127}}))?")

WANTED = (("model*.safetensors", "*.json"), ("pytorch_model*.bin", "*.json"))
"""The files that are downloaded: the safetensors of a model, or its pickles where it has none."""


def is_hub_id(text: str) -> bool:
    """Whether `text` has the shape of ``org/name`` or ``org/name@revision``, and no directory starts like it.

    A mistyped ``ckpts/anchor`` must not become a download where ``ckpts/`` exists.
    """
    match = _HUB_ID.fullmatch(text)
    return match is not None and ".." not in text and not Path(text.split("/")[0]).exists()


def cached(hub_id: str) -> Path | None:
    """The model's snapshot in the local cache; None where it is not there, not whole, or there is no Hub library."""
    try:
        return _snapshot(hub_id, local_files_only=True)
    except (ImportError, OSError, ValueError):
        return None


def fetched(hub_id: str, how: str) -> Path:
    """The model's snapshot, downloaded where the local cache lacks it; `how` it was named is for messages. Raises
    UsageError where there is no such model, or it cannot be had."""
    asked = f"W0: {hub_id} ({how}) is not a directory, and as a model of the Hugging Face Hub it"
    try:
        snapshot = _snapshot(hub_id, local_files_only=True) or _snapshot(hub_id, local_files_only=False)
    except ImportError:
        raise UsageError(f"{asked} needs huggingface_hub: pip install 'geomcheck[hub]'") from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{asked} cannot be had: {reason} ({type(error).__name__}). Check the id and the connection, log in with "
            "`hf auth login` where the model is private or gated, or give a local directory"
        ) from error
    if snapshot is None:
        raise UsageError(
            f"{asked} holds no whole model that is read, or only a part of it is cached and the Hub offline"
        )
    return snapshot


def _snapshot(hub_id: str, *, local_files_only: bool) -> Path | None:
    """The directory of a snapshot that holds a whole model; None where it does not. Raises ImportError where
    huggingface_hub is not installed; OSError, ValueError where the Hub, the network or the id is at fault."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    of_client: tuple[type[Exception], ...] = HfHubHTTPError.__bases__  # of httpx or requests, by its version
    match = _HUB_ID.fullmatch(hub_id)
    assert match is not None
    repository, revision = match.groups()
    download = partial(snapshot_download, repository, revision=revision, local_files_only=local_files_only)
    for patterns in WANTED:
        try:
            snapshot = Path(download(allow_patterns=list(patterns)))
        except LocalEntryNotFoundError:
            if not local_files_only:
                raise
            return None
        except of_client as error:
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
        if _is_whole(snapshot):
            return snapshot
    return None


def _is_whole(snapshot: Path) -> bool:
    """Whether every file that the weights need is there: a cache may hold a part of a model."""
    try:
        return held([snapshot]) is not None and all(file.is_file() for file in open_weights(snapshot).files)
    except RunError:
        return False
