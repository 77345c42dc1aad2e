"""The documentation: pages in Markdown, and in `generate` what writes the rest of them from declarations."""
