"""What a run has decided by a trial, in a file of its folder: later starts do the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sms_dist.base import plain
from sms_dist.config.file import one_line
from sms_dist.config.section import Section


def decided_before(path: Path, kind: type[Section]) -> dict[str, Any] | None:
    """The values of an earlier start; None: there are none yet."""
    if not path.is_file():
        return None
    try:
        return kind(**plain.read_object(path)).model_dump()
    except ValidationError as error:
        raise ValueError(
            f"{path}: {one_line(error, kind)}; it decides the bits of candidates: put it back "
            "as it was, or start anew with another --run-dir"
        ) from None
