"""Whole runs of one rank, a second or two each, with trouble at a chosen operation on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launching import MAIN, WARM, main_arguments


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str
    operations: list[dict[str, Any]]  # on the disk; "data" in base 64


@dataclass(frozen=True)
class Runs:
    """One run at a time; `logs` is the folder in which they start and write what they say."""

    logs: Path

    def run(
        self, root: Path, *settings: str, trouble: str | None = None, before: str = ""
    ) -> Ended:
        """launcher/main.py in the run folder root/run, with tiny settings and these on top.

        `trouble` (of `warm.TROUBLES`) comes before the first operation on the disk whose
        "kind path" holds the text `before`.
        """
        return self.main(main_arguments(root / "run", *settings), root, trouble, before)

    def main(
        self, words: Iterable[object], root: Path, trouble: str | None = None, before: str = ""
    ) -> Ended:
        """launcher/main.py with these words; operations on the disk below `root` are told.

        The logs must not be there: telling of an operation would be one.
        """
        assert not self.logs.is_relative_to(root), f"{self.logs} is in {root}"
        watch = {"root": str(root.resolve()), "trouble": trouble, "before": before}
        finished, logs = WARM.run([MAIN, *words], self.logs, timeout=240, **watch)
        operations = Path(f"{logs}.operations").read_text().splitlines()
        return Ended(
            finished.status, finished.out, finished.err, [json.loads(line) for line in operations]
        )
