"""Whole runs of one rank, a second or two each: forks of a process that has imported everything."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launching import PROGRAMS, ROOT, main_arguments


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str
    operations: list[dict[str, Any]]  # on the disk; "data" in base 64


class Runs:
    """Use as a context; one run at a time."""

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs

    def __enter__(self) -> Runs:
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "forked_runs.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | own,
            cwd=self._logs,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def run(
        self, root: Path, *settings: str, trouble: str | None = None, before: str = ""
    ) -> Ended:
        """launcher/main.py in the run folder root/run, with tiny settings and these on top.

        `trouble` (of `forked_runs.TROUBLES`) comes before the first operation on the disk whose
        "kind path" holds the text `before`.
        """
        return self.main(main_arguments(root / "run", *settings), root, trouble, before)

    def main(
        self, words: Iterable[object], root: Path, trouble: str | None = None, before: str = ""
    ) -> Ended:
        """launcher/main.py with these words; operations on the disk below `root` are told.

        The logs must not be there: telling of an operation would be one.
        """
        assert not self._logs.is_relative_to(root), f"{self._logs} is in {root}"
        logs = self._logs / uuid.uuid4().hex
        job = {
            "arguments": [str(word) for word in words],
            "root": str(root.resolve()),
            "logs": str(logs),
            "trouble": trouble,
            "before": before,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        status = int(self._answer())
        out, err, operations = (
            Path(f"{logs}.{end}").read_text() for end in ("out", "err", "operations")
        )
        return Ended(status, out, err, [json.loads(line) for line in operations.splitlines()])

    def _answer(self, timeout: float = 240) -> str:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(timeout), f"a run hangs after {timeout} s"
        return self._process.stdout.readline()
