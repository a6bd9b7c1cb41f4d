"""Where the samples of a shard lie, as one array, found once and kept in the cache folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sms_dist.data import cache
from sms_dist.data.archive import Entry, scan

KEY = "__key__"
# One row for each sample: its key, and for each extension offset and size; size -1: not there.
Positions: TypeAlias = NDArray[Any]


def positions(shard: Path, folder: Path | None) -> Positions:
    """Of the samples of a plain tar file; kept in the folder, if there is one, until it changes."""
    if folder is None or not shard.is_file():
        return table(scan(shard))  # which says so if it is missing
    name = cache.cached_name(f"{shard.stem}.npy", cache.file_identity(shard))
    if not (folder / name).exists():
        found = table(scan(shard))
        cache.write(folder / name, partial(np.save, arr=found, allow_pickle=False))
        return found
    return _kept(folder / name, shard)


def table(entries: list[Entry]) -> Positions:
    """The entries as an array: a set of a million samples takes 50 MB, which workers share."""
    keys = [entry.key.encode("utf-8", "surrogateescape") for entry in entries]
    extensions = sorted({extension for entry in entries for extension in entry.files})
    width = max(map(len, keys), default=1)
    fields = [(KEY, f"S{width}"), *((extension, "<i8", (2,)) for extension in extensions)]
    rows = np.zeros(len(entries), fields)
    rows[KEY] = keys
    for extension in extensions:
        missing = (0, -1)
        rows[extension] = [entry.files.get(extension, missing) for entry in entries]
    return rows


def _kept(file: Path, shard: Path) -> Positions:
    """What was kept is not believed: whoever gave us the folder may have given us this as well."""
    try:
        # mapped first: a header that promises more than the file holds takes no memory
        found: Positions = np.array(np.load(file, mmap_mode="r", allow_pickle=False))
        is_table = _is_table(found, shard.stat().st_size)
    except (ValueError, EOFError, OSError, MemoryError, OverflowError, TypeError):
        is_table = False
    if not is_table:
        raise ValueError(f"{file} is damaged; remove it, it is made anew") from None
    return found


def _is_table(rows: Positions, num_bytes: int) -> bool:
    """One row a sample, every place inside the shard."""
    if rows.ndim != 1 or rows.dtype.names is None or rows.dtype.fields is None:
        return False
    kinds = {name: kind for name, (kind, *_) in rows.dtype.fields.items()}
    if KEY not in kinds or kinds.pop(KEY).kind != "S":
        return False
    if any(kind.shape != (2,) or kind.base != np.dtype("<i8") for kind in kinds.values()):
        return False
    places = [rows[name] for name in kinds]
    return all(
        bool(((at[:, 0] >= 0) & (at[:, 1] >= -1) & (at[:, 1] <= num_bytes - at[:, 0])).all())
        for at in places
    )
