"""The projected training of the paper: learn a channel of K directions, and confine every later update to it."""
