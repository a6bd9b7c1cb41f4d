"""What must hold of a run folder: at any moment, and when the run is over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launching import all_weights, read_json, sha256

from sms_dist.base.files import entries
from sms_dist.reports.runs import read_run
from sms_dist.run.paths import MANIFEST, MASK, WEIGHTS, RunPaths

MODELS = ("dense", "phase_*/candidate_*", "phase_*/soup")
VARYING = ("seconds", "resumed_at")  # from run to run


def damages(folder: Path) -> list[str]:
    """What is unreadable in a run folder in which nobody works at this moment."""
    paths = RunPaths(folder)
    found = [*_broken_json(folder), *_broken_models(folder), *_lost_points(folder)]
    if paths.config.is_file() and paths.journal.is_file():
        try:
            read_run(folder)
        except ValueError as error:
            found.append(str(error))
    return found


def newest_point(folder: Path, training: str) -> tuple[int, float] | None:
    """The steps of the last recovery point that is whole, and when it was written."""
    points = [_whole(slot) for slot in entries(folder / "recovery" / training)]
    return max((point for point in points if point is not None), default=None)


def fingerprint(folder: Path) -> dict[str, str]:
    """Everything that must have the same bits in every run: weights, masks, what was measured."""
    paths = RunPaths(folder)
    found = all_weights(folder) | {f"dense/{WEIGHTS}": sha256(paths.dense / WEIGHTS)}
    masks = sorted(folder.glob(f"phase_*/*/{MASK}"))
    found |= {str(path.relative_to(folder)): sha256(path) for path in masks}
    text = json.dumps(_without_times(read_json(paths.summary)), sort_keys=True)
    return found | {"summary.json": hashlib.sha256(text.encode()).hexdigest()}


def differences(folder: Path, reference: dict[str, str]) -> list[str]:
    """The files of a finished run that are not those of the reference."""
    found = fingerprint(folder)
    names = sorted(found.keys() | reference.keys())
    differing = [name for name in names if found.get(name) != reference.get(name)]
    return [f"{name} differs from the undisturbed run" for name in differing]


def remains(folder: Path) -> list[str]:
    """What should have been tidied up when a run is over."""
    found = list(folder.rglob(".*.tmp"))
    found += [path for path in (folder / "recovery").rglob("*") if path.is_file()]
    return [f"{path.relative_to(folder)} is left over" for path in sorted(found)]


def _broken_json(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.json")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # half of what was being written: nobody reads it, the next start removes it
        try:
            json.loads(path.read_text())
        except ValueError:
            yield f"{path} is not JSON"
        except FileNotFoundError:  # only progress and recovery points go away again
            continue


def _broken_models(folder: Path) -> Iterator[str]:
    for model in sorted(path for pattern in MODELS for path in folder.glob(pattern)):
        manifest = model / MANIFEST
        if not manifest.is_file():
            yield f"{model} has no {MANIFEST}"
            continue
        for name, expected in read_json(manifest).items():
            path = model / name
            if not path.is_file() or sha256(path) != expected["sha256"]:
                yield f"{path} is not what {MANIFEST} says"


def _lost_points(folder: Path) -> Iterator[str]:
    """Once two points were begun, the one before the last is whole."""
    for training in sorted((folder / "recovery").glob("*")):
        slots = sorted(training.glob("*"))
        begun = [slot for slot in slots if list(slot.glob("rank_0.json"))]
        if len(begun) == 2 and not any(_whole(slot) for slot in slots):
            yield f"{training} has two recovery points, of which none is whole"


def _whole(slot: Path) -> tuple[int, float] | None:
    """Steps and time of a point whose files are those of all its ranks; else None."""
    first = _rank_steps(slot, 0)
    if first is None:
        return None
    steps, ranks, written = first
    for rank in range(1, ranks):
        other = _rank_steps(slot, rank)
        if other is None or other[0] != steps:
            return None
        written = max(written, other[2])
    return steps, written


def _rank_steps(slot: Path, rank: int) -> tuple[int, int, float] | None:
    """Steps, number of ranks, time of a rank's file, if it is what its document says."""
    document, tensors = slot / f"rank_{rank}.json", slot / f"rank_{rank}.safetensors"
    try:
        told, written = read_json(document), document.stat().st_mtime
        if sha256(tensors) != told["sha256"]:
            return None
        return told["document"]["steps"], told["document"]["ranks"], written
    except (OSError, ValueError, KeyError):
        return None


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in VARYING}
    return [_without_times(v) for v in value] if isinstance(value, list) else value
