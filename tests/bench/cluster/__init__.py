"""What a run that is too large for this machine would take on a Ray cluster, from what one layer of it takes here."""
