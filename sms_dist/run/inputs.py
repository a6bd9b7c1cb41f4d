"""The inputs of a run besides its configuration: files of people's own, which nobody may exchange.

They are recorded when a run begins, and compared at each later start: own code, weights,
vocabularies, and what describes the data. A file that only moved is the same input.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sms_dist import data
from sms_dist.base.files import sha256_of
from sms_dist.base.lookup import own_files
from sms_dist.config import Config
from sms_dist.data import card, index
from sms_dist.run.paths import HISTORY, KEPT, MASK, WEIGHTS
from sms_dist.run.schema import Input

CODE = "own code "
# Folders that hold no input, or whose content is an input as a whole.
PLACES = ("name", "records.root", "data.cache", "data.path", "data.corruptions")
OF_DENSE = (KEPT, HISTORY, MASK)  # read beside the weights
OF_MODELS = (".safetensors", ".bin", ".pt", ".pth", ".json", ".model")  # in anybody's folder
PIECE = 1 << 16  # bytes


def inputs_of(config: Config, known: Mapping[str, Input]) -> dict[str, Input]:
    """Return the inputs of a run by name: the key that names them, or `own code FILE`.

    Of files their SHA-256; `known` has that of files which nobody has touched since. Of data with
    an index, the SHA-256 of index and card; without one, of the names and sizes of its files and of
    the beginning, middle and end of each. Call it when own code has been imported. ValueError where
    a file cannot be read.
    """
    values = config.model_dump(mode="json", by_alias=True)
    own = own_files([values, data.described(config.data).task])
    files = {f"{CODE}{name}": path for name, path in own.items()}
    for key, value in _texts(values):
        if key not in PLACES:
            files |= _files(key, os.path.expanduser(value))
    inputs = {}
    for name, file in files.items():
        try:
            inputs[name] = _input(file, known.get(name))
        except OSError as error:
            raise ValueError(f"{name}: {file} cannot be read: {error.strerror or error}") from None
    folders = {"data.path": config.data.path}
    # Other corruptions may be asked for later.
    folders[f"data.corruptions={config.data.corruptions}"] = config.data.corruptions
    for name, place in folders.items():
        if place is not None and os.path.isdir(place):
            inputs[name] = Input(sha256=_described(Path(place)))
    return inputs


def changes(known: Mapping[str, Input], now: Mapping[str, Input]) -> list[str]:
    """Return in words which inputs are not what they were.

    Inputs that came later are not compared, and weights that are gone are not missed: the run
    folder has its own copy, or whoever needs them says so.
    """
    lines = [f"{n} has changed" for n in known if n in now and now[n].sha256 != known[n].sha256]
    return lines + [f"{n} is gone" for n in known if n.startswith(CODE) and n not in now]


def moved(
    lines: Sequence[str], known: Mapping[str, Input], now: Mapping[str, Input]
) -> Iterator[str]:
    """Yield those of the lines `key: old -> new` whose files have the same content as before."""
    for line in lines:
        key = line.partition(":")[0]
        names = [name for name in known if name == key or name.startswith(f"{key} ")]
        if names and all(n in now and now[n].sha256 == known[n].sha256 for n in names):
            yield line


def _texts(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in nested values, each with its key.path."""
    if isinstance(values, str):
        yield key, values
    pairs = values.items() if isinstance(values, Mapping) else []
    for name, value in enumerate(values) if isinstance(values, list) else pairs:
        yield from _texts(value, f"{key}.{name}" if key else str(name))


def _files(key: str, value: str) -> dict[str, Path]:
    """Return the files that a value of the configuration names, none where it is no path."""
    path, is_dense = Path(value), key == "pretrain.from"
    if is_dense:
        inside = [path / part / WEIGHTS for part in ("", "dense", "soup")]
        path = next((each for each in inside if os.path.isfile(each)), path)
    files = {}
    if os.path.isfile(path) and not (key.endswith("name") and {".", "/"}.isdisjoint(value)):
        beside = [path.parent / name for name in OF_DENSE if name != path.name]
        files = {key: path, **{f"{key} {p.name}": p for p in beside if is_dense}}
    elif os.path.isdir(path) and key.startswith(("model.", "pretrain.")):
        files = {f"{key} {p.name}": p for p in sorted(path.iterdir()) if p.suffix in OF_MODELS}
    return {name: file for name, file in files.items() if file.is_file()}


def _input(file: Path, known: Input | None) -> Input:
    facts = file.stat()
    stamp = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"
    if known is not None and known.stamp == stamp:  # weights may have gigabytes
        return known
    return Input(sha256=sha256_of(file), stamp=stamp)


def _described(folder: Path) -> str:
    """Return a hash of what describes the samples in a folder, or of the files themselves."""
    named = [folder / name for name in (card.FILE, index.FILE) if (folder / name).is_file()]
    if folder / index.FILE in named:
        parts = [f"{path.name} {sha256_of(path)}" for path in named]
    else:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        entries += [p for e in entries if e.is_dir() for p in e.iterdir() if p.name[0] != "."]
        parts = [f"{path.relative_to(folder)} {_sample(path)}" for path in sorted(entries)]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


def _sample(path: Path) -> str:
    """Return the size of a file and a hash of three pieces of it; nothing for a folder."""
    if not path.is_file():
        return ""
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        for start in (0, max(PIECE, size // 2), max(2 * PIECE, size - PIECE)):
            file.seek(start)
            digest.update(file.read(PIECE))
    return f"{size} {digest.hexdigest()}"
