"""The journal of a run: one JSON object a line, appended and on the disk before work goes on."""

from __future__ import annotations

import errno
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from sms_dist import plain_json
from sms_dist.atomic import sync
from sms_dist.records.disk_errors import telling
from sms_dist.records.files import finite


class Journal:
    """One process appends; anyone may read at any time."""

    def __init__(self, path: Path) -> None:
        self.path, self._is_lasting = path, False

    def write(self, event: str, **fields: Any) -> None:
        """Append {"time": UTC, "event": event, ...fields}; non-finite numbers become null.

        ValueError where the disk cannot take it.
        """
        assert "time" not in fields, "the journal sets the time"
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps(finite({"time": now, "event": event, **fields}), allow_nan=False)
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


def read(path: Path) -> list[dict[str, Any]]:
    """The events so far (none if there is no file yet); a torn last line is left out."""
    if not path.is_file():
        return []
    *lines, rest = path.read_bytes().split(b"\n")
    events = [_parse(line) for line in lines]
    for number, event in enumerate(events, start=1):
        if event is None:
            raise ValueError(f"{path}, line {number} is not a JSON object; repair or remove it")
    last = _parse(rest)
    return [event for event in [*events, last] if event is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object on a line, None if it is torn."""
    try:
        return plain_json.parse_object(line, "the line")
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
