"""The formats that checkpoints are stored in: one module per format, each a `WeightSource`."""
