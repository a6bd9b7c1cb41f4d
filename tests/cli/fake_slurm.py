"""Stand-ins for Slurm's commands where only what they are told matters."""

from __future__ import annotations

from pathlib import Path

import pytest

# Numbers jobs from 7 on, and writes down what it was told.
SBATCH = """
echo "$*" >> {folder}/told
echo $((6 + $(wc -l < {folder}/told)))
"""


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str = SBATCH) -> None:
    """The only sbatch and squeue on the PATH from here on; `queue` lists the jobs in the queue."""
    folder.mkdir()
    (folder / "queue").touch()
    commands = {"sbatch": sbatch.format(folder=folder), "squeue": f"cat {folder}/queue"}
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def told(folder: Path) -> list[str]:
    """The command lines of sbatch."""
    return (folder / "told").read_text().splitlines()
