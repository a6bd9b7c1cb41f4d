"""Journals and run folders of the documented shape, with numbers that tests choose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sms_dist import config_file
from sms_dist.reports.collect import Run, collect

NUM_WEIGHTS = 1000
SMALL = ("data.name=digits", "pruning.phases=2", "retrain.epochs=4", "pretrain.epochs=8")


def phase(
    number: int, soup: float | None, candidates: Sequence[float], kept: int = 500, **more: Any
) -> dict[str, Any]:
    """The document of a phase; accuracies are fractions."""
    return {
        "phase": number,
        "sparsity": (NUM_WEIGHTS - kept) / NUM_WEIGHTS,
        "surviving_weights": kept,
        "soup": {"test_accuracy": soup},
        "candidates": [
            {"index": i, "seed": i, "test_accuracy": accuracy, "diverged": False}
            for i, accuracy in enumerate(candidates)
        ],
        "best_candidate": max(candidates),
        "mean_candidate": sum(candidates) / len(candidates),
        **more,
    }


def events(
    phases: Sequence[dict[str, Any]], dense: float, epochs: int, is_done: bool
) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [
        {"event": "start", "ranks": 1},
        {"event": "dense", "test_accuracy": dense, "epochs": [{"epoch": i} for i in range(8)]},
    ]
    for document in phases:
        for candidate in document["candidates"]:
            told = {"phase": document["phase"], "retrain": {"epochs": epochs}}
            lines.append({"event": "candidate", **candidate, **told})
        lines.append({"event": "soup", **document})
    return [*lines, *([{"event": "done"}] if is_done else [])]


def run(
    phases: Sequence[dict[str, Any]],
    *settings: str,
    folder: str = "",
    dense: float = 0.95,
    is_done: bool = True,
) -> Run:
    config = config_file.load(None, (*SMALL, *settings))
    lines = events(phases, dense, config.retrain.epochs, is_done)
    return collect(folder or f"runs/{'_'.join(settings)}", config, lines)


def write(
    folder: Path, phases: Sequence[dict[str, Any]], *settings: str, is_done: bool = True
) -> Path:
    """A run folder as far as a report reads it."""
    config = config_file.load(None, (*SMALL, *settings))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_file.dump(config))
    lines = events(phases, 0.95, config.retrain.epochs, is_done)
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def two_phases(soup: float, gain: float = 0.01, m: int = 2) -> list[dict[str, Any]]:
    """Phases at 50 % and 75 %, the soup `gain` above equal candidates."""
    return [
        phase(1, soup, [soup - gain] * m, 500),
        phase(2, soup - 0.1, [soup - 0.1 - gain] * m, 250),
    ]


def one_shot(soup: float, gain: float = 0.01, m: int = 2, kept: int = 250) -> list[dict[str, Any]]:
    return [phase(1, soup, [soup - gain] * m, kept)]
