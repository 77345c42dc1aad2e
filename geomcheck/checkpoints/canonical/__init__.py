"""One naming for all layouts: from the tensors of a file to matrices under canonical names."""
