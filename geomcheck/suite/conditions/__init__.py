"""What a suite may demand of a figure: one module per keyword, with everything that the keyword means."""
