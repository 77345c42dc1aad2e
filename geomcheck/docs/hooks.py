"""What MkDocs calls while it builds: adds the pages of the metrics, which no file holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from geomcheck.diagnostics import load_metrics
from geomcheck.docs.examples import examples
from geomcheck.docs.pages import metric_page, overview
from geomcheck.docs.sufficiency import sufficiency_page
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY

ROOT = Path(__file__).parents[2]


def on_config(config: Any) -> Any:
    """Enter the pages of the metrics in the navigation."""
    names = (*(metric.name for metric in load_metrics()), SUFFICIENCY)
    entries = [{name: f"metrics/{name}.md"} for name in names]
    config["nav"].append({"Metrics": [{"All metrics": "metrics/index.md"}, *entries]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Write the pages of the metrics, measured now."""
    made = examples(ROOT / "fixtures")
    texts = {"index": overview(), SUFFICIENCY: sufficiency_page()} | {
        name: metric_page(example) for name, example in made.items()
    }
    new_file = import_module("mkdocs.structure.files").File.generated
    for name, text in texts.items():
        files.append(new_file(config, f"metrics/{name}.md", content=text))
    return files
