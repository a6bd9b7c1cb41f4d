"""Checkpoints of a training on disk: two folders written in turn, each by all of its ranks."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sms_dist.base import files, plain, safetensors_file
from sms_dist.base.files import json_text, write_error
from sms_dist.run.schema import RecoveryFile, parsed

SLOTS = ("a", "b")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Found:
    """A rank's file of a checkpoint with the right checksum."""

    path: Path
    document: Mapping[str, Any]


class RankCheckpoints:
    """This rank's part of the checkpoints of one training.

    A point is there when the files of all of its ranks are. While the older folder is written over
    the other one is whole, so one is always there; the caller sees to it that no rank begins before
    all ranks have finished the point before.
    """

    def __init__(self, folder: Path, rank: int, identity: Mapping[str, Any]) -> None:
        """`identity`: facts that a training has in common with the points it goes on from."""
        self.folder, self._rank = folder, rank
        self._identity = json.loads(json.dumps(identity))
        self._thread: threading.Thread | None = None
        self._error: OSError | ValueError | None = None
        self._next = 0
        self.seconds = 0.0  # that the last write took

    def find(self, rank: int) -> dict[int, Found]:
        """Return the whole files of a rank for this training, by step."""
        files_by_step = {}
        for slot in SLOTS:
            path = self._file(slot, rank)
            point = _point(path.with_suffix(".json"))
            if point is None or point.identity != self._identity:
                continue
            if path.is_file() and files.sha256_of(path) == point.sha256:
                files_by_step[point.steps] = Found(path, point.document)
        return files_by_step

    def load(self, file: Found) -> dict[str, Tensor]:
        """Return the tensors of a file, on the CPU."""
        return safetensors_file.read(file.path)[0]

    def go_on_from(self, file: Found) -> None:
        """Write the next point over the other folder, not over the one of `file`."""
        self._next = 1 - SLOTS.index(file.path.parent.name)

    def write(self, tensors: Tensors, document: Mapping[str, Any]) -> None:
        """Begin to write this rank's file of the next point; `document` has "steps", its place.

        The tensors are not to change any more. The last point is finished first.
        """
        self.finish()
        slot, self._next = SLOTS[self._next], 1 - self._next
        self._thread = threading.Thread(
            target=self._write, args=(slot, dict(tensors), dict(document)), name="checkpoint"
        )
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def finish(self) -> None:
        """Wait until this rank's file of the last point is on the disk; ValueError if it cannot
        be."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise write_error(error, self.folder) if isinstance(error, OSError) else error

    def _write(self, slot: str, tensors: Tensors, document: Mapping[str, Any]) -> None:
        start = time.monotonic()
        try:
            path = self._file(slot, self._rank)
            files.make_folder(path.parent)
            for remains in path.parent.glob(f".{path.stem}.*.tmp"):  # of starts that were killed
                shutil.rmtree(remains) if remains.is_dir() else remains.unlink()
            with files.replacing(path, in_folder=True) as new:
                safetensors_file.write(new, tensors)
                sha256 = files.sha256_of(new)
            point = RecoveryFile(identity=self._identity, sha256=sha256, document=dict(document))
            files.write_bytes(path.with_suffix(".json"), json_text(point.as_json()).encode())
        except (OSError, ValueError) as error:  # raised by `finish`, in the thread that trains
            self._error = error
        self.seconds = time.monotonic() - start

    def _file(self, slot: str, rank: int) -> Path:
        return self.folder / slot / f"rank_{rank}.safetensors"


def forget(folder: Path) -> None:
    """Remove the points of a training whose result is on the disk. One process calls."""
    shutil.rmtree(folder, ignore_errors=True)


def _point(path: Path) -> RecoveryFile | None:
    """Return the record of a point, None where there is none that can be read."""
    try:
        return parsed(RecoveryFile, plain.parse_json(path.read_bytes(), str(path)), str(path))
    except (OSError, ValueError):
        return None
