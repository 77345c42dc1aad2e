"""The gate: which suites judge which runs, measuring them once, and pytest items that hold the verdicts."""
