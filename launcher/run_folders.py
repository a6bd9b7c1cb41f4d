"""The runs below some folders, read for a report; the damaged ones are named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sms_dist import config_file, plain
from sms_dist.paths import RunPaths
from sms_dist.records import journal
from sms_dist.reports.collect import Run, collect, distinct

OF_A_RUN = (
    "dense",
    "logs",
    "progress",
    "recovery",
    "snapshot",
    "tensorboard",
)  # its own folders: no runs in there


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """The runs that can be read, each experiment once, and what has to be said of the others.

    ValueError if a folder is not there, or there is no run that can be read.
    """
    found = list(dict.fromkeys(run for folder in folders for run in find_runs(folder)))
    runs, notes = [], []
    for folder in found:
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            notes.append(f"left out, damaged: {error}")
    if not runs:
        raise ValueError("; ".join(notes))
    kept, repeated = distinct(runs)
    return kept, [*notes, *repeated]


def find_runs(folder: Path) -> list[Path]:
    """The run folders in a folder, or the folder itself, by name."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    found = [paths.root for paths in _walk(folder)]
    if not found:
        raise ValueError(
            f"{folder}: there is no run in it; a run folder has config.yaml and journal.jsonl"
        )
    return sorted(found)


def read_run(folder: Path) -> Run:
    """ValueError in one line where the run is damaged."""
    paths = RunPaths(folder)
    if not paths.journal.is_file():
        raise ValueError(f"{folder} has no journal.jsonl")
    try:
        config = config_file.load(paths.config)
        events = journal.read(paths.journal)
        return collect(str(folder), config, events, _summary(paths))
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{folder}: {str(error).removeprefix(f'{folder}: ')}") from None


def _walk(folder: Path) -> Iterator[RunPaths]:
    for root, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        paths = RunPaths(Path(root))
        if paths.config.is_file() and (paths.journal.is_file() or paths.environment.is_file()):
            names[:] = [n for n in names if n not in OF_A_RUN and not n.startswith("phase_")]
            yield paths


def _summary(paths: RunPaths) -> dict[str, Any] | None:
    if not paths.summary.is_file():
        return None
    try:
        summary = plain.parse_object(paths.summary.read_bytes(), "summary.json")
    except ValueError as error:
        raise ValueError(f"{error}; repair or remove it") from None
    kinds = {"phases": list, "dense": dict, "ood": dict}
    for name, kind in kinds.items():
        if not isinstance(summary.get(name), kind | None):
            raise ValueError(f"summary.json: {name} is no {kind.__name__}; repair or remove it")
    return summary
