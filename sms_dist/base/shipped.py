"""Files that come with the code: cards of data sets, configurations, templates of jobs."""

from __future__ import annotations

from pathlib import Path


def shipped(folder: str) -> Path:
    """Return the folder of that name: `share/` in an installed package, beside it in a clone."""
    package = Path(__file__).resolve().parent
    installed = package / "share" / folder
    return installed if installed.is_dir() else package.parent / folder
