"""Runs as jobs on a virtual Slurm: submitted through the command, disturbed, compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from launching import ROOT, TINY, last_soup, wait_for
from slurm_cluster import Job, Slurm

ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")

# Rank 0 alone pretrains: so the bits are the same on any number of ranks. Long enough to be
# disturbed in the middle; a recovery point a second.
SETTINGS = (
    *TINY,
    "pretrain.ranks=1",
    "retrain.epochs=10",
    "candidates.count=4",
    "data.validation=0.0",
    "records.every_seconds=1",
)
CLUSTER = "{nodes: 2, ranks_per_node: 1, time_limit: '00:20:00', environment: {LANG: C}}"


@dataclass(frozen=True)
class SubmittedRun:
    """A run folder with the job that works on it."""

    slurm: Slurm
    folder: Path
    job: str

    def soup(self) -> str:
        """SHA-256 of the last soup."""
        return last_soup(self.folder)

    def events(self, name: str) -> list[dict]:
        lines = (self.folder / "journal.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def end(self, seconds: float = 500) -> Job:
        """Until the job has ended for good."""
        try:
            return self.slurm.wait(self.job, *ENDS, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self}") from None

    def wait_for(self, *parts: str, seconds: float = 120) -> None:
        """Until this is there below the run folder."""
        wait_for((self.folder.joinpath(*parts)).exists, seconds)

    def log(self) -> str:
        """What the job's script has said."""
        texts = sorted((self.folder / "logs").glob(f"*-{self.job}.log"))
        return "".join(path.read_text() for path in texts)

    def __str__(self) -> str:
        """All that helps where a job did not do what it should."""
        logs = sorted((self.folder / "logs").glob("*.log"))
        texts = (f"--- {path.name}\n{path.read_text()[-3000:]}" for path in logs)
        return "\n".join([str(self.slurm.job(self.job)), *texts])


def command(slurm: Slurm, *words: str | Path, settings=SETTINGS) -> str:
    """What `sms-dist` says, with this cluster's commands on its PATH."""
    given = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "sms_dist.cli.main", *map(str, words), *given],
        env=slurm.environment | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        cwd=slurm.folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cluster_file(slurm: Slurm, text: str = CLUSTER) -> Path:
    path = slurm.folder / f"cluster_{abs(hash(text))}.yaml"
    path.write_text(text)
    return path


def submitted(
    slurm: Slurm, folder: Path, *words: str, cluster: str = CLUSTER, settings=SETTINGS
) -> SubmittedRun:
    """A run whose job was submitted (of a chain the first one)."""
    file = cluster_file(slurm, cluster)
    said = command(
        slurm, "submit", "--cluster", file, "--run-dir", folder, *words, settings=settings
    )
    return SubmittedRun(slurm, folder, said.splitlines()[0].split()[-1])


def arguments(folder: Path, settings=SETTINGS) -> list[str | Path]:
    """The words after launcher/main.py of the run that a job makes."""
    return ["--run-dir", folder, *(word for setting in settings for word in ("--set", setting))]


def plain(folder: Path, settings=SETTINGS) -> str:
    """SHA-256 of the last soup of an undisturbed run in one process."""
    main = ROOT / "launcher" / "main.py"
    subprocess.run(
        [sys.executable, main, *arguments(folder, settings)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        capture_output=True,
        timeout=900,
    )
    return last_soup(folder)
