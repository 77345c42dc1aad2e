"""How hard the gate is to fool, to crash and to abuse: ``python -m tests.reliability`` prints what was tried."""
