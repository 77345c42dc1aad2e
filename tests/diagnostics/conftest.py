"""Hypothesis profiles: the same examples in every run, or, with HYPOTHESIS_PROFILE=explore, many new ones."""

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

from tests.diagnostics.adversaries import windows_at_every_size

settings.register_profile("steady", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """As workers measure: small matrices gain nothing from more, and processes that run beside each other lose much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def every_route() -> Iterator[None]:
    """Windows answer where float64 would do it sooner, as brute force takes minutes where they are meant to answer."""
    with windows_at_every_size():
        yield
