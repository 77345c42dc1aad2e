"""A run that is still training: followed in its directory, or observed from within its loop."""
