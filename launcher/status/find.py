"""Which runs are meant by the folders that somebody names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sms_dist.paths import RunPaths


def runs(folders: Sequence[Path]) -> tuple[list[Path], bool]:
    """The run folders, and whether it is one that was named itself.

    ValueError where a folder is not there, or there is no run in it.
    """
    if len(folders) == 1 and is_run(folders[0]):
        return [folders[0]], True
    found = [run for folder in folders for run in _inside(folder)]
    return list(dict.fromkeys(found)), False


def is_run(folder: Path) -> bool:
    """Has anything been made in it, if only a job's script?"""
    paths = RunPaths(folder)
    made = (paths.config, paths.journal, paths.environment, paths.logs / "job.sbatch")
    return any(path.is_file() for path in made)


def _inside(folder: Path) -> list[Path]:
    from launcher.run_folders import find_runs  # with all that reads a run for a report

    if is_run(folder):
        return [folder]
    there = folder.iterdir() if folder.is_dir() else []
    submitted = [path for path in there if is_run(path)]  # may have no more than a job's script
    try:
        started = find_runs(folder)
    except ValueError:
        if not submitted:
            raise
        started = []
    return sorted({*started, *submitted})
