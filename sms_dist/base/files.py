"""A text file is there whole or not at all, and its JSON is JSON that every reader accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sms_dist.base import atomic
from sms_dist.base.disk_errors import telling


def finite(value: Any) -> Any:
    """The value with every NaN and infinity in it replaced by None: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def json_text(value: Any) -> str:
    """Indented JSON ending in a newline; non-finite numbers become null."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Make or replace a file; a crash leaves the old text or the new one. ValueError for people."""
    with telling(path):
        atomic.write(path, text.encode())
