"""The larger commands of ``geomcheck``: one module each, with `add_to` for the parser."""
