"""Runs that are still training: followed from outside by their directory, or from inside by a callback."""
