"""Pages and parts of pages that are written from declarations, docstrings and measured runs while Sphinx builds."""
