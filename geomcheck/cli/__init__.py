"""The ``geomcheck`` command: one module per subcommand, with `add_to` for the parser."""

from geomcheck.cli.main import main

__all__ = ["main"]
