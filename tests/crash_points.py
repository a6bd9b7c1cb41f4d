"""A trial: a whole tiny run dies, or the power fails, at every operation on the disk.

python tests/crash_points.py [--every N] [--folder DIR]

One run is recorded. Then for each of its operations (making, opening, writing, syncing, renaming,
removing a file or folder; writes also cut in the middle) the run folder is laid down as it would be
found afterwards: as a process leaves it that dies, and in three ways that a power cut may leave it.
Each must be readable, and starting the same command again in it must end with the same soup.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parent / name) for name in ("distributed", "run"))
sys.path.append(str(Path(__file__).resolve().parents[1]))
from disk_trap import Operation
from forking import Runs
from launching import last_soup
from power_cut import STATES, Disk

from sms_dist.reports.runs import read_run
from sms_dist.run.paths import RunPaths

SETTINGS = ("candidates.count=2", "records.every_seconds=null", "records.every_steps=20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only every N-th state")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary one)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="crash_points_"))
    bad = trial(Runs(folder / "logs"), folder, options.every)
    if bad:
        sys.exit(f"{bad} of the states above are lost; they are kept in {folder}")
    if options.folder is None:
        shutil.rmtree(folder)


def trial(runs: Runs, folder: Path, every: int) -> int:
    """How many states did not end well."""
    root, start = folder / "recorded", time.monotonic()
    root.mkdir(parents=True)
    disk = Disk(root)
    recorded = runs.run(root, *SETTINGS)
    assert recorded.status == 0, recorded.err
    operations = [
        Operation(**entry | {"data": b64decode(entry["data"])}) for entry in recorded.operations
    ]
    wanted, seen = last_soup(root / "run"), set[str]()
    num_states = num_tried = num_bad = 0
    for label, found in states(disk, root, operations, folder / "found"):
        num_states += 1
        digest = digest_of(found)
        if digest not in seen:
            seen.add(digest)
            if len(seen) % every == 0:
                num_tried += 1
                num_bad += not ends_well(runs, found, wanted, label, folder / f"bad_{num_states}")
        shutil.rmtree(found)
    print(
        f"{len(operations)} operations, {num_states} states, {len(seen)} of them different, "
        f"{num_tried} tried: {num_bad} unreadable or with another soup than {wanted[:12]}; "
        f"{time.monotonic() - start:.0f} s"
    )
    return num_bad


def states(
    disk: Disk, root: Path, operations: list[Operation], found: Path
) -> Iterator[tuple[str, Path]]:
    """What may be found after each operation, and in the middle of each write."""
    for number, operation in enumerate(operations):
        path = Path(operation.path).relative_to(root.resolve())
        label = f"{number} {operation.kind} {path}"
        if operation.kind == "write":
            disk.apply(replace(operation, data=operation.data[: len(operation.data) // 2]))
            disk.write_all(found)
            yield f"{label}, in the middle", found
        disk.apply(operation)
        disk.write_all(found)
        yield f"{label}, process died", found
        for state in STATES:
            disk.write(found, state)
            yield f"{label}, power cut: {state}", found


def ends_well(runs: Runs, found: Path, wanted: str, label: str, kept: Path) -> bool:
    before = shutil.copytree(found, kept)
    paths, problem = RunPaths(found / "run"), ""
    try:
        if paths.config.is_file() and paths.journal.is_file():
            read_run(paths.root)
        ended = runs.run(found, *SETTINGS)
        if ended.status:
            problem = f"status {ended.status}: {ended.err}"
        elif last_soup(paths.root) != wanted:
            problem = "another soup"
    except ValueError as error:
        problem = f"cannot be read: {error}"
    if problem:
        print(f"{label}: {problem}", flush=True)
        return False
    shutil.rmtree(before)
    return True


def digest_of(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        content = b"" if path.is_dir() else path.read_bytes()
        digest.update(f"{path.relative_to(root)} {path.is_dir()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
