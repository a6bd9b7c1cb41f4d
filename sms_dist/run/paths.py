"""Every file name below a run folder, and how run folders are found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = "weights.safetensors"
MASK = "mask.safetensors"
LATENT = "latent.safetensors"  # the dense weights behind, where they go on to the next phase
KEPT = "kept.safetensors"  # the weights of an earlier epoch of pretraining, to rewind to
METRICS = "metrics.json"
HISTORY = "history.json"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RunPaths:
    """The run folder; phases count from 1 and candidates from 0."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def packing(self) -> Path:
        """How candidates are packed; it decides bits."""
        return self.root / "packing.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def progress(self) -> Path:
        return self.root / "progress"

    @property
    def dense(self) -> Path:
        return self.root / "dense"

    @property
    def stop(self) -> Path:
        """A file that asks the ranks to stop: whoever wants it makes it."""
        return self.root / "stop"

    @property
    def lock(self) -> Path:
        """Says who works in the folder."""
        return self.root / "lock.json"

    @property
    def snapshot(self) -> Path:
        """The code and configuration that were submitted as a job."""
        return self.root / "snapshot"

    @property
    def recoveries(self) -> Path:
        """The recovery points of all trainings."""
        return self.root / "recovery"

    def recovery(self, training: str) -> Path:
        """Those of "dense" or "phase_1_candidate_0"."""
        return self.recoveries / training

    def corruption(self, name: str) -> Path:
        """What was measured under one corruption."""
        return self.root / "corruptions" / f"{name}.json"

    def candidate(self, phase: int, index: int) -> Path:
        return self.root / f"phase_{phase}" / f"candidate_{index}"

    def rejected(self, phase: int) -> Path:
        """What was measured of candidates that diverged and were retrained with other seeds."""
        return self.root / f"phase_{phase}" / "rejected"

    def soup(self, phase: int) -> Path:
        return self.root / f"phase_{phase}" / "soup"


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
