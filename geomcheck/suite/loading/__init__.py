"""From a suite file to expectations: the grammar, what no run could make sense of, and the schema for editors."""
