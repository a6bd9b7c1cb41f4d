"""Every file name below a run folder."""

from __future__ import annotations

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
