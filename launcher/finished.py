"""The finished models of a run folder, by phase."""

from __future__ import annotations

from pathlib import Path

from sms_dist.paths import RunPaths
from sms_dist.records.store import is_complete

DENSE = 0  # the dense model's place among the phases


def check_run(paths: RunPaths) -> None:
    """ValueError where there is no run folder."""
    if not paths.config.is_file():
        raise ValueError(f"{paths.root} is no run folder: it has no {paths.config.name}")


def finished(paths: RunPaths) -> dict[int, Path]:
    """Phase -> the folder of its soup, in order, after the dense model; ValueError without any."""
    found = {DENSE: paths.dense} if is_complete(paths.dense) else {}
    for folder in paths.root.glob("phase_*"):
        number = folder.name.removeprefix("phase_")
        if number.isdecimal() and is_complete(paths.soup(int(number))):
            found[int(number)] = paths.soup(int(number))
    if not found:
        raise ValueError(f"{paths.root} has no finished phase yet; run it first")
    return dict(sorted(found.items()))


def chosen(paths: RunPaths, phase: int | None) -> Path:
    """The folder of a phase, the last one where it is not named."""
    found = finished(paths)
    wanted = max(found) if phase is None else phase
    if wanted not in found:
        legal = ", ".join(map(str, found))
        raise ValueError(f"--phase {wanted} is not finished in {paths.root}; finished: {legal}")
    return found[wanted]
