"""Mutation testing of the gate's own code: one change at a time, and the tests that are meant to notice it."""
