"""What a benchmark found: a row for each comparison, with target, values, and where it ran."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Target:
    """What the median is to be; one of the two."""

    at_most: float | None = None
    at_least: float | None = None

    def is_met(self, value: float) -> bool:
        is_low = self.at_most is None or value <= self.at_most
        return is_low and (self.at_least is None or value >= self.at_least)

    def __str__(self) -> str:
        return f"<= {self.at_most:g}" if self.at_least is None else f">= {self.at_least:g}"


@dataclass(frozen=True)
class Row:
    """`values`: one for each turn, mostly ratios to `baseline`, that was measured in it too."""

    benchmark: str
    what: str
    baseline: str  # empty: an absolute figure
    unit: str  # "x its time", "x faster", "MiB"
    values: Sequence[float]
    target: Target | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool | None:
        return None if self.target is None else self.target.is_met(self.median)

    @property
    def figure(self) -> str:
        """Median, and the range it lies in."""
        low, high = min(self.values), max(self.values)
        middle = f"{_short(self.median)} {self.unit}"
        return middle if low == high else f"{middle} ({_short(low)} to {_short(high)})"


@dataclass(frozen=True)
class Measured:
    """All of one script, and where that was."""

    command: str
    rows: Sequence[Row]
    day: str = field(default_factory=lambda: date.today().isoformat())
    commit: str = field(default_factory=lambda: _git("describe", "--always", "--dirty"))
    machine: str = field(default_factory=lambda: _machine())
    versions: str = field(
        default_factory=lambda: f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def report(rows: Sequence[Row], file: Path | None) -> None:
    """Print the rows, and keep them in a JSON file for the table of all."""
    for row in rows:
        words = "" if row.target is None else f"  target {row.target}"
        missed = "  MISSED" if row.is_met is False else ""
        against = f" / {row.baseline}" if row.baseline else ""
        print(f"{row.benchmark}: {row.what}{against}: {row.figure}{words}{missed}")
        if row.note:
            print(f"    {row.note}")
    if file is not None:
        names = [Path(sys.argv[0]).name, *(word for word in sys.argv[1:] if word != "--json")]
        command = " ".join(word for word in names if word != str(file))
        file.parent.mkdir(parents=True, exist_ok=True)
        document = asdict(Measured(f"python benchmarks/{command}", rows))
        file.write_text(json.dumps(document, indent=1) + "\n")


def read(file: Path) -> Measured:
    """What `report` has written."""
    document: dict[str, Any] = json.loads(file.read_text())
    rows = [_row(row) for row in document.pop("rows")]
    return Measured(rows=rows, **document)


def _row(fields: dict[str, Any]) -> Row:
    target = fields.pop("target")
    return Row(target=None if target is None else Target(**target), **fields)


def _short(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _machine() -> str:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores of {(models or ['an unknown processor'])[0]}{device}"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
