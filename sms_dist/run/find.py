"""Run folders below a folder, and the finished models in one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sms_dist.run.paths import MANIFEST, RunPaths

DENSE = 0  # the dense model's place among the phases
INSIDE = {"dense", "logs", "progress", "recovery", "snapshot", "tensorboard"}  # folders of a run


def find_runs(folder: Path) -> list[Path]:
    """Return the run folders in a folder, or the folder itself, by name; ValueError without any."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    found = [paths.root for paths in _walk(folder)]
    if not found:
        raise ValueError(
            f"{folder}: there is no run in it; a run folder has config.yaml and journal.jsonl"
        )
    return sorted(found)


def check_run(paths: RunPaths) -> None:
    """ValueError where there is no run folder."""
    if not paths.config.is_file():
        raise ValueError(f"{paths.root} is no run folder: it has no {paths.config.name}")


def finished(paths: RunPaths) -> dict[int, Path]:
    """Phase -> the folder of its soup, in order, after the dense model; ValueError without any."""
    folders = {DENSE: paths.dense}
    for folder in paths.root.glob("phase_*"):
        number = folder.name.removeprefix("phase_")
        if number.isdecimal():
            folders[int(number)] = paths.soup(int(number))
    found = {number: folders[number] for number in sorted(folders)}
    found = {number: each for number, each in found.items() if (each / MANIFEST).is_file()}
    if not found:
        raise ValueError(f"{paths.root} has no finished phase yet; run it first")
    return found


def chosen(paths: RunPaths, phase: int | None) -> Path:
    """Return the folder of a phase, the last one where it is not named."""
    found = finished(paths)
    wanted = max(found) if phase is None else phase
    if wanted not in found:
        valid = ", ".join(map(str, found))
        raise ValueError(f"--phase {wanted} is not finished in {paths.root}; finished: {valid}")
    return found[wanted]


def _walk(folder: Path) -> Iterator[RunPaths]:
    for root, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        paths = RunPaths(Path(root))
        if paths.config.is_file() and (paths.journal.is_file() or paths.environment.is_file()):
            names[:] = [n for n in names if n not in INSIDE and not n.startswith("phase_")]
            yield paths
