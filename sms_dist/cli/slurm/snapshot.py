"""A copy of code and configuration for a job that waits, whatever happens to the clone."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path

import sms_dist
from sms_dist.base.files import json_text, replacing
from sms_dist.base.lookup import own_files
from sms_dist.base.shipped import PACKAGE, package_files
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.config.compare import all_differences, differences
from sms_dist.run.paths import RunPaths
from sms_dist.run.run_folder import SNAPSHOT_ORIGIN, commit_of

CONFIG = "config.yaml"


def check_settings(paths: RunPaths, config: Config, is_fresh: bool) -> None:
    """ValueError if a job could not go on in this run folder, or only with other settings."""
    if paths.config.is_file():
        changed = differences(config_file.load(paths.config), config)
        if changed:
            raise ValueError(
                f"the run folder {paths.root} holds a run with another configuration "
                f"({'; '.join(changed)}); name another with --run-dir, or remove it"
            )
    kept = paths.snapshot / CONFIG
    if kept.is_file() and not is_fresh:
        changed = all_differences(config_file.load(kept), config)
        if changed:
            raise ValueError(
                f"{paths.snapshot} was submitted with other settings ({'; '.join(changed)}); "
                "--fresh-code takes those of now, and the code of now"
            )


def take(folder: Path, config: Config | None, *, has_code: bool, is_fresh: bool) -> bool:
    """Make a snapshot, all of it or nothing; one that is there is kept (False), unless `is_fresh`.

    Where a job of the run is at work, what it has imported stays, and the rest is of the new one.
    """
    if folder.is_dir() and not is_fresh:
        return False
    try:
        if not folder.parent.exists():  # a file there is an error that names it better
            folder.parent.mkdir(parents=True)
        with replacing(folder, swaps=True) as new:
            _write(new, config, has_code)
    except OSError as error:
        raise ValueError(
            f"the run folder {folder.parent} cannot be used: {error.strerror or error}; name "
            "another with --run-dir"
        ) from None
    return True


def _write(folder: Path, config: Config | None, has_code: bool) -> None:
    folder.mkdir()
    if config is not None:
        (folder / CONFIG).write_text(config_file.dump(config), encoding="utf-8")
    if has_code:
        own = {} if config is None else own_files(config.model_dump(mode="json", by_alias=True))
        for name, path in {**package_files(), **own}.items():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        (folder / SNAPSHOT_ORIGIN).write_text(json_text(_origin()))


def _origin() -> dict[str, str | None]:
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "from": str(PACKAGE.parent),
        "commit": commit_of(),
        "version": sms_dist.__version__,
    }
