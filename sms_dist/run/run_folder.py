"""A run folder belongs to one configuration; a later start with the same one enters it again."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import sms_dist
from sms_dist.base import plain
from sms_dist.base.files import entering, json_text, make_folder, write_text
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.config.compare import differences
from sms_dist.run.inputs import changes, inputs_of, moved
from sms_dist.run.journal import ChangesEvent, Journal
from sms_dist.run.lock import Lock, acquire
from sms_dist.run.paths import RunPaths
from sms_dist.run.schema import EnvironmentFile, Input, Start, parsed

SNAPSHOT_ORIGIN = "origin.json"  # says where a job's copy of the code was made
ANOTHER = "choose another name, give --run-dir"
WORLD_VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_JOB_ID"),
    *("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"),
)


def enter(
    paths: RunPaths,
    config: Config,
    environment: Start,
    on_lost: Callable[[str], None],
    accepts_changes: bool = False,
) -> tuple[Lock, bool]:
    """Lock the run folder and open it; return the lock, and whether this is a resume.

    `on_lost` is called, in a thread, with the reason why the folder is not ours any more.
    """
    lock = acquire(paths.lock, on_lost)
    try:
        return lock, open_run(paths, config, environment, accepts_changes)
    except ValueError:
        lock.release()
        raise


def open_run(
    paths: RunPaths, config: Config, environment: Start, accepts_changes: bool = False
) -> bool:
    """Make the run folder, or enter one with the same configuration; return whether it is a resume.

    One process calls, before any other writes there. ValueError if the folder is another run's,
    holds something else, or cannot be written; and where inputs of the run have changed, unless it
    `accepts_changes`, which the journal then records.
    """
    with entering(paths.root):
        is_resume = paths.config.is_file()
        starts, known = _recorded(paths.environment)
    if is_resume:
        check_same(paths, config)
    now = inputs_of(config, known)
    changed = changes(known, now)
    if changed and not accepts_changes:
        raise ValueError(
            f"the run in {paths.root} began with other files: {'; '.join(changed)}; put back what "
            "was there, begin another run with --run-dir, or go on with --accept-changes"
        )
    with entering(paths.root):
        if not is_resume:
            _check_empty(paths)
            make_folder(paths.root)
            write_text(paths.config, config_file.dump(config))
        _remove_remains(paths.root)
        # Where the groups of the last start were says nothing about this one.
        if paths.progress.is_dir():
            shutil.rmtree(paths.progress)
        if changed:  # before they become what the run is made of
            Journal(paths.journal).write(ChangesEvent(message="; ".join(changed)))
        file = EnvironmentFile(starts=(*starts, environment), inputs={**known, **now} or None)
        write_text(paths.environment, json_text(file.as_json()))
    return is_resume


def check_same(paths: RunPaths, config: Config, way_out: str = ANOTHER) -> None:
    """Raise ValueError unless the configuration is that of the run; files in it may have moved."""
    try:
        old = config_file.load(paths.config)
    except ValueError as error:
        problem = f"a configuration that cannot be read ({error})"
        raise _occupied(paths.root, problem, way_out) from None
    changed = differences(old, config)
    if changed:
        known = _recorded(paths.environment)[1]
        changed = sorted({*changed} - {*moved(changed, known, inputs_of(config, known))})
    if changed:
        problem = f"a run with another configuration ({'; '.join(changed)})"
        raise _occupied(paths.root, problem, way_out)


def _check_empty(paths: RunPaths) -> None:
    """Raise ValueError for files, except hidden ones and those that belong to a start."""
    entries = paths.root.iterdir() if paths.root.is_dir() else []
    of_a_start = (paths.logs, paths.lock, paths.stop, paths.snapshot)
    if any(not entry.name.startswith(".") and entry not in of_a_start for entry in entries):
        raise _occupied(paths.root, "files but no config.yaml, so it is not a run")


def _remove_remains(root: Path) -> None:
    """Remove the files of starts that died in the middle of a write."""
    for entry in list(root.iterdir()):
        if not re.fullmatch(r"\..+\.\d+\.tmp", entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _occupied(root: Path, content: str, way_out: str = ANOTHER) -> ValueError:
    return ValueError(f"the run folder {root} holds {content}; {way_out}, or remove it")


def _recorded(path: Path) -> tuple[tuple[Start, ...], dict[str, Input]]:
    """Return the earlier starts, and the inputs of the run."""
    if not path.is_file():
        return (), {}
    try:
        file = parsed(EnvironmentFile, plain.read_json(path), str(path))
        return file.starts, file.inputs or {}
    except ValueError:
        raise ValueError(f"{path} is damaged; remove it, it will be made again") from None


def environment() -> Start:
    """Return what this start runs with."""
    return Start(
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=shlex.join(sys.orig_argv),
        host=platform.node(),
        cpus=os.cpu_count(),
        devices=tuple(_devices()),
        versions={
            "python": platform.python_version(),
            "torch": _version("torch"),
            "deepspeed": _version("deepspeed"),
            "sms_dist": sms_dist.__version__,
        },
        commit=commit_of(),
        world={name: os.environ.get(name) for name in WORLD_VARIABLES},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[str]:
    import torch  # seconds to import, and needed here only

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def commit_of() -> str | None:
    """Return the commit of the code, marked "-dirty" if changed; None if git does not track it.

    An installed copy may lie inside some other project's repository, whose commit would mislead. A
    job's copy of the code records the commit that it was made of.
    """
    file = Path(__file__).resolve()
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return _copied_commit(file)
    return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _copied_commit(file: Path) -> str | None:
    origin = file.parents[2] / SNAPSHOT_ORIGIN
    try:
        commit: str | None = plain.read_object(origin)["commit"]
    except (ValueError, KeyError):
        return None
    return commit


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
