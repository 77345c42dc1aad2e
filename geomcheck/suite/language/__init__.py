"""The words that suites are written in: YAML with positions, quantities, checkpoints, selections of weights."""
