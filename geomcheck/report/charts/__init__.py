"""Charts as SVG: one engine, styled by the page that they stand in, or on their own."""
