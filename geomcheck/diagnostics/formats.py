"""The storage formats that are measured."""

FORMATS = ("bf16", "fp16", "fp32", "fp64")
"""Under the short names that users write."""
