"""A whole model's run, measured by real sessions of pytest: seconds, memory, and the multiple of what is inevitable."""
