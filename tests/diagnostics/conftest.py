"""Hypothesis profiles: the same examples in every run, or, with HYPOTHESIS_PROFILE=explore, many new ones."""

import os

from hypothesis import settings

settings.register_profile("steady", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
