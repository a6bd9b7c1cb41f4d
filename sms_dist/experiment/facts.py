"""The facts that must be equal on all ranks: versions, our own code, configuration, data index.

Cheap: a few megabytes of source are read, and of the data only what describes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib import metadata
from pathlib import Path

import numpy
import torch

import sms_dist
from sms_dist.base.lookup import own_files
from sms_dist.base.shipped import package_files
from sms_dist.config import Config, DataConfig
from sms_dist.config.compare import flatten
from sms_dist.data import card, index

DESCRIPTIONS = (card.FILE, index.FILE)
# What a host may set for itself: how fast samples come.
OF_A_HOST = ("data.workers", "data.prefetch", "data.cache")
NUM_DIGITS = 16  # of a hash, enough to see that two differ


def facts(config: Config) -> dict[str, str]:
    """Name -> value, in text. The first word of a name says what kind of fact it is."""
    keys = flatten(config.model_dump(mode="json", by_alias=True))
    return {
        **_versions(config),
        **{f"code {name}": _hash_of(path) for name, path in _code(config).items()},
        **{f"key {k}": json.dumps(value) for k, value in keys.items() if k not in OF_A_HOST},
        **_data(config.data),
    }


def _versions(config: Config) -> dict[str, str]:
    known = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "torch": torch.__version__,
        "torch CUDA": str(torch.version.cuda),
        "numpy": numpy.__version__,
        "sms_dist": sms_dist.__version__,
    }
    if config.engine.name == "deepspeed":
        known["deepspeed"] = _version("deepspeed")
    return known


def _version(package: str) -> str:
    """Without importing it, which takes seconds."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _code(config: Config) -> dict[str, Path]:
    """Return each file that may decide what comes out, so that the one that differs is named."""
    deciding = {n: p for n, p in package_files().items() if n.endswith(".py") or "/data/" in n}
    return {**deciding, **own_files(config.model_dump(mode="json", by_alias=True))}


def _data(config: DataConfig) -> dict[str, str]:
    known = {}
    if config.name.endswith(card.ENDINGS):
        known["data card"] = _hash_of(Path(config.name))
    if config.path is not None:
        known["data index"] = _index(Path(config.path))
    if Path(config.vocabulary).is_file():
        known["data vocabulary"] = _hash_of(Path(config.vocabulary))
    return known


def _index(folder: Path) -> str:
    """A hash of what describes the samples; without an index, of the names in the folder."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"no folder {folder} to read"
    described = {name: folder / name for name in DESCRIPTIONS if (folder / name).is_file()}
    parts = [f"{name} {_hash_of(path)}" for name, path in described.items()]
    if index.FILE not in described and folder.is_dir():
        parts += sorted(os.listdir(folder))
    return _hash("\n".join(parts).encode())


def _hash_of(file: Path) -> str:
    try:
        return _hash(file.read_bytes())
    except OSError as error:  # whoever needs the file says more of it
        return f"{file.name}: {error.strerror}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:NUM_DIGITS]
