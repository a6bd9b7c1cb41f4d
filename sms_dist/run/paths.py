"""Every file name below a run folder, and the search for run folders."""

from __future__ import annotations

import os
from pathlib import Path

WEIGHTS = "weights.safetensors"
MASK = "mask.safetensors"
LATENT = "latent.safetensors"  # the dense weights behind, where they go on to the next phase
KEPT = "kept.safetensors"  # the weights of an earlier epoch of pretraining, to rewind to
METRICS = "metrics.json"
HISTORY = "history.json"
MANIFEST = "manifest.json"


class RunPaths:
    """The run folder; phases count from 1 and candidates from 0."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.environment = root / "environment.json"
        self.plan = root / "plan.json"
        self.packing = root / "packing.json"  # how candidates are stacked: results depend on it
        self.journal = root / "journal.jsonl"
        self.summary = root / "summary.json"
        self.tensorboard = root / "tensorboard"
        self.logs = root / "logs"
        self.progress = root / "progress"
        self.dense = root / "dense"
        self.stop = root / "stop"  # a file that asks the ranks to stop
        self.lock = root / "lock.json"  # names the process that holds the folder
        self.snapshot = root / "snapshot"  # code and configuration that were submitted as a job
        self.recoveries = root / "recovery"  # the checkpoints of all trainings

    def recovery(self, training: str) -> Path:
        """Return the folder of one training's: "dense" or "phase_1_candidate_0"."""
        return self.recoveries / training

    def corruption(self, name: str) -> Path:
        """Return the file of the measurements under one corruption."""
        return self.root / "corruptions" / f"{name}.json"

    def candidate(self, phase: int, index: int) -> Path:
        return self.root / f"phase_{phase}" / f"candidate_{index}"

    def rejected(self, phase: int) -> Path:
        """Return the folder of candidates that diverged and were retrained with other seeds."""
        return self.root / f"phase_{phase}" / "rejected"

    def soup(self, phase: int) -> Path:
        return self.root / f"phase_{phase}" / "soup"


DENSE = 0  # the dense model's place among the phases
INSIDE = {"dense", "logs", "progress", "recovery", "snapshot", "tensorboard"}  # folders of a run


def find_runs(folder: Path) -> list[Path]:
    """Return the run folders in a folder, or the folder itself, by name; ValueError without any."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; name that of a run, or of several")
    runs = []
    for root, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        paths = RunPaths(Path(root))
        if paths.config.is_file() and (paths.journal.is_file() or paths.environment.is_file()):
            names[:] = [n for n in names if n not in INSIDE and not n.startswith("phase_")]
            runs.append(paths.root)
    if not runs:
        raise ValueError(
            f"{folder}: there is no run in it; a run folder has config.yaml and journal.jsonl"
        )
    return sorted(runs)


def check_run(paths: RunPaths) -> None:
    """Raise ValueError where there is no run folder."""
    if not paths.config.is_file():
        raise ValueError(f"{paths.root} is no run folder: it has no {paths.config.name}")


def finished(paths: RunPaths) -> dict[int, Path]:
    """Return the folders of the dense model and of finished soups, by phase.

    ValueError without any.
    """
    folders = {DENSE: paths.dense}
    for folder in paths.root.glob("phase_*"):
        number = folder.name.removeprefix("phase_")
        if number.isdecimal():
            folders[int(number)] = paths.soup(int(number))
    whole = {k: folders[k] for k in sorted(folders) if (folders[k] / MANIFEST).is_file()}
    if not whole:
        raise ValueError(f"{paths.root} has no finished phase yet; run it first")
    return whole


def chosen(paths: RunPaths, phase: int | None) -> Path:
    """Return the folder of a phase, the last one where it is not named."""
    folders = finished(paths)
    wanted = max(folders) if phase is None else phase
    if wanted not in folders:
        valid = ", ".join(map(str, folders))
        raise ValueError(f"--phase {wanted} is not finished in {paths.root}; finished: {valid}")
    return folders[wanted]
