"""Journals and run folders of the documented shape, with numbers that tests choose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.reports.runs import Run, collect
from sms_dist.run.journal import event_type
from sms_dist.run.schema import Summary, parsed

NUM_WEIGHTS = 1000
SMALL = ("data.name=digits", "pruning.phases=2", "retrain.epochs=4", "pretrain.epochs=8")


def phase(
    number: int,
    soup: float | None,
    candidates: Sequence[float],
    kept: int = 500,
    score: str = "accuracy",
    metrics: Mapping[str, float | None] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The document of a phase; `metrics` are further ones of the soup."""
    test = f"test_{score}"
    return {
        "phase": number,
        "score": score,
        "sparsity": (NUM_WEIGHTS - kept) / NUM_WEIGHTS,
        "surviving_weights": kept,
        "soup": {test: soup, **tests(metrics)},
        "candidates": [
            {"index": i, "seed": i, test: found, "diverged": False}
            for i, found in enumerate(candidates)
        ],
        "best_candidate": max(candidates),
        "mean_candidate": sum(candidates) / len(candidates),
        **more,
    }


def tests(metrics: Mapping[str, float | None] | None) -> dict[str, float | None]:
    return {f"test_{name}": found for name, found in (metrics or {}).items()}


def ood(
    where: str, accuracies: Mapping[str, Sequence[float]], kind: str = "generated"
) -> dict[str, Any]:
    """The line of a model on corrupted samples."""
    found = [own for each in accuracies.values() for own in each]
    return {
        "event": "ood",
        "where": where,
        "ood_accuracy": sum(found) / len(found),
        "corruptions": kind,
        "accuracies": {name: list(own) for name, own in accuracies.items()},
    }


def events(
    phases: Sequence[dict[str, Any]],
    dense: float,
    epochs: int,
    is_done: bool,
    dense_metrics: Mapping[str, float | None] | None = None,
) -> list[dict[str, Any]]:
    score = phases[0]["score"] if phases else "accuracy"
    measured = {f"test_{score}": dense, **tests(dense_metrics)}
    lines: list[dict[str, Any]] = [
        {"event": "start", "ranks": 1, "score": score},
        {"event": "dense", **measured, "epochs_trained": 8},
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
    dense_metrics: Mapping[str, float | None] | None = None,
    also: Sequence[dict[str, Any]] = (),
) -> Run:
    """`also`: further lines of the journal."""
    config = config_file.load(None, (*SMALL, *settings))
    lines = events(phases, dense, config.retrain.epochs, is_done, dense_metrics)
    return collected(folder or f"runs/{'_'.join(settings)}", config, [*lines, *also])


def collected(
    folder: str,
    config: Config,
    lines: Sequence[dict[str, Any]],
    summary: Mapping[str, Any] | None = None,
) -> Run:
    """The run of a journal, and of a summary of which only a part matters."""
    whole = None
    if summary is not None:
        head = {"method": "sms", "seed": 0, "score": "accuracy", "goal_sparsity": 0.9}
        whole = Summary.model_validate({**head, "dense": {}, "phases": [], "final": {}, **summary})
    events = [parsed(event_type(line), line, folder) for line in lines]
    return collect(folder, config, events, whole)


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
