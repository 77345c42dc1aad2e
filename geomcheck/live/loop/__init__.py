"""Following a training from inside: the weights in memory are measured as the loop goes, and judged so far."""
