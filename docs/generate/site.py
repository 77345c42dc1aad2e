"""The pages of the metrics as files, for Sphinx to read."""

from __future__ import annotations

from pathlib import Path

from docs.generate.examples import examples
from docs.generate.metric import metric_page, overview
from docs.generate.sufficiency import sufficiency_page
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY


def write_metric_pages(root: Path) -> None:
    """Measure the committed runs in `root` and write ``docs/metrics``; pages that stay the same are left alone."""
    pages = {"index": overview(), SUFFICIENCY: sufficiency_page()} | {
        name: metric_page(example) for name, example in examples(root / "fixtures").items()
    }
    directory = root / "docs" / "metrics"
    directory.mkdir(exist_ok=True)
    for stale in set(directory.glob("*.md")) - {directory / f"{name}.md" for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        page = directory / f"{name}.md"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
