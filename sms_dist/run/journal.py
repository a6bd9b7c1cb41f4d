"""The journal of a run: one JSON object a line, appended and on the disk before work goes on."""

from __future__ import annotations

import errno
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from sms_dist.base import plain
from sms_dist.base.atomic import sync
from sms_dist.base.disk_errors import telling
from sms_dist.base.files import finite
from sms_dist.run.events import Event, event_type
from sms_dist.run.schema import parsed


class Journal:
    """One process appends; anyone may read at any time."""

    def __init__(self, path: Path) -> None:
        self.path, self._is_lasting = path, False

    def write(self, event: Event) -> None:
        """Append an event with the time of now; non-finite numbers become null.

        ValueError where the disk cannot take it.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        document = event.model_copy(update={"time": now}).as_json()
        line = json.dumps(finite(document), allow_nan=False)
        with telling(self.path):
            self._append(line.encode() + b"\n")

    def _append(self, line: bytes) -> None:
        if self._is_lasting and not self.path.exists():  # removed under us: not to be made again
            raise FileNotFoundError(errno.ENOENT, "it is gone")
        with self.path.open("ab+") as file:
            _end_last_line(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if not self._is_lasting:
            sync(self.path.parent)
            self._is_lasting = True


def read(path: Path) -> list[Event]:
    """Return the events so far (none if there is no file yet), without a torn last line.

    ValueError, one line, where another line is none of an event.
    """
    if not path.is_file():
        return []
    values = lines(path.read_bytes())
    for number, value in enumerate(values, start=1):
        if value is None:
            raise ValueError(f"{path}, line {number} is not a JSON object; repair or remove it")
    return [
        parsed(event_type(value), value, f"{path}, line {number}")
        for number, value in enumerate(values, start=1)
        if value is not None
    ]


def lines(content: bytes) -> list[dict[str, Any] | None]:
    """Return the object on each line, None for a damaged line; a torn last line is left out."""
    *whole, rest = content.split(b"\n")
    last = _parse(rest)
    return [*map(_parse, whole), *([] if last is None else [last])]


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, None if it is torn."""
    try:
        return plain.parse_object(line, "the line")
    except ValueError:
        return None


def _end_last_line(file: BinaryIO) -> None:
    """See that the next byte appended starts a line.

    A crash in the middle of a write leaves a last line without its end. If only the newline is
    missing it is added; a fragment is cut off, else it would lie in the middle and spoil reading.
    """
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    last = file.read().rpartition(b"\n")[2]
    if _parse(last) is not None:
        file.write(b"\n")
    else:
        file.truncate(end - len(last))
