"""The options of pytest and their ini values, as they are declared."""

from __future__ import annotations

from docs.generate.text import prose
from geomcheck.options import OPTIONS


def option_table() -> str:
    """A row for each option, with the name of its ini value."""
    rows = ["| option | meaning | in the ini file |", "|---|---|---|"]
    for declared in OPTIONS:
        usage = declared.usage.replace("|", "\\|")
        about = "; ".join(filter(None, [declared.about, declared.more]))
        ini = ": ".join(filter(None, [f"`{declared.ini_key}`" * declared.ini, declared.ini_help]))
        rows.append(f"| `{usage}` | {prose(about)} | {prose(ini)} |")
    return "\n".join(rows)
