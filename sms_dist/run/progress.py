"""The position of each candidate group: a small file, replaced about once a second."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter

from sms_dist.base import plain
from sms_dist.base.files import Dispensable, entries, json_text

Stage = Literal[
    "pretrain", "retrain", "batch norm", "evaluate", "soup", "corruptions", "waiting", "done"
]
INTERVAL = 1.0  # seconds between two writes of a group
_UNMEASURED: dict[str, Any] = {
    "epoch": 0,
    "num_epochs": 0,
    "step": 0,
    "num_steps": 0,
    "loss": None,
    "samples_per_second": None,
    "eta_seconds": None,
}
_FILE = re.compile(r"group_(\d+)\.json")


@dataclass(frozen=True)
class Progress:
    """The position of one group; 0 or None where a field means nothing in its stage."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # of those that are read

    phase: int = 0  # from 1; 0: before the first phase
    num_phases: int = 0
    candidate: int | None = None  # from 0
    together: tuple[int, ...] = ()  # the candidates, where several train at once
    num_candidates: int = 0
    stage: Stage = "waiting"
    epoch: int = 0  # from 1
    num_epochs: int = 0
    step: int = 0  # steps done in this epoch
    num_steps: int = 0  # steps of an epoch
    loss: float | None = None
    samples_per_second: float | None = None
    eta_seconds: float | None = None  # until the stage ends
    wave: int = 0  # from 1; 0: not in a wave
    time: float = 0.0  # seconds since 1970

    @property
    def fraction(self) -> float | None:
        """The fraction of the stage that is done, 0 to 1; None if it is not known."""
        if self.num_epochs == 0 or self.epoch == 0:
            return None
        in_epoch = self.step / self.num_steps if self.num_steps else 0.0
        return min(1.0, (self.epoch - 1 + in_epoch) / self.num_epochs)


class ProgressWriter:
    """Held by the leader of a group. A run goes on where its progress cannot be written."""

    def __init__(self, folder: Path, group: int, clock: Callable[[], float] = time.time) -> None:
        self._path = folder / f"group_{group}.json"
        self._dispensable = Dispensable()
        self._clock = clock
        self.current = Progress()
        self._written: Progress | None = None

    def update(self, force: bool = False, **changes: Any) -> None:
        """Replace fields; write them if forced, after a second, or in a new stage."""
        old, new = self.current, replace(self.current, **changes, time=self._clock())
        if _place(old) != _place(new):  # what was measured elsewhere says nothing here
            new = replace(new, **{**_UNMEASURED, **changes})
        self.current = new
        if force or self._is_due():
            self._write()

    def _is_due(self) -> bool:
        old, new = self._written, self.current
        if old is None or _place(old) != _place(new):
            return True
        return not 0 <= new.time - old.time < INTERVAL  # a clock set back must not silence us

    def _write(self) -> None:
        self._written = self.current
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        with self._dispensable.attempt(self._path):
            self._path.parent.mkdir(exist_ok=True)
            temporary.write_text(json_text(asdict(self.current)))
            os.replace(temporary, self._path)  # no fsync: after a crash nobody needs it


_PROGRESS = TypeAdapter(Progress)


def read_all(folder: Path) -> dict[int, Progress]:
    """Return the progress of the groups whose files can be read, by group, in order."""
    groups = {}
    for path in entries(folder):
        match = _FILE.fullmatch(path.name)
        progress = _read(path) if match else None
        if match and progress is not None:
            groups[int(match[1])] = progress
    return dict(sorted(groups.items()))


def _read(path: Path) -> Progress | None:
    """Return the progress in a file; None where it was removed, replaced (NFS) or left empty."""
    try:
        return _PROGRESS.validate_python(plain.parse_json(path.read_bytes(), str(path)))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise
    except ValueError:
        return None


def _place(progress: Progress) -> tuple[int, int | None, Stage]:
    return progress.phase, progress.candidate, progress.stage
