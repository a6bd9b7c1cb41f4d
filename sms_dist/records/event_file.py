"""TensorBoard's event files, written at once and by nobody else: no thread that could die of it."""

from __future__ import annotations

import io
import itertools
import os
import platform
import time
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from sms_dist.records.disk_errors import Dispensable

_numbers = itertools.count()  # names of files made in the same second


class EventFile:
    """The events of one folder. What the disk does not take waits for the next flush."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        """`purge_step`: hide what earlier files of the folder have from this step on."""
        self._folder, self._dispensable = folder, Dispensable()
        self._path: Path | None = None
        self._pending: list[Event] = []
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._pending.append(_event(step=purge_step, session_log=start))

    def add(self, summary: Summary, step: int | None = None) -> None:
        self._pending.append(_event(step=step, summary=summary))

    def flush(self) -> None:
        """Write what was added; a run goes on where that fails."""
        with self._dispensable.attempt(self._folder):
            self._append(self._path or self._new_path())
            self._pending.clear()

    def _append(self, path: Path) -> None:
        content = io.BytesIO()
        records = RecordWriter(content)
        if self._path is None:
            records.write(_event(file_version="brain.Event:2").SerializeToString())
        for event in self._pending:
            records.write(event.SerializeToString())
        size = 0 if self._path is None else path.stat().st_size
        self._path = None  # after a failure its end may be torn: a new file
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(content.getvalue())
        except OSError:
            with suppress(OSError):  # else what was written of it is drawn twice
                os.truncate(path, size)
            raise
        self._path = path

    def _new_path(self) -> Path:
        place = f"{platform.node()}.{os.getpid()}.{next(_numbers)}"
        return self._folder / f"events.out.tfevents.{int(time.time()):010d}.{place}"


def _event(**content: object) -> Event:
    return Event(wall_time=time.time(), **content)
