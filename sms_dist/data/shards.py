"""The shards of a split: copied here where they have to be, and read by the number of a sample.

Compressed and remote shards get an unpacked copy in data.cache, made once for all ranks and runs;
there lies also, for each shard, the table of where its samples are.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from sms_dist.base.files import replacing, sha256_of
from sms_dist.config import DataConfig
from sms_dist.data import index, tar_index
from sms_dist.data.card import Card, SplitName
from sms_dist.data.tar_index import AGAIN, KEY, Place, Positions, damaged, scan, table

Sample: TypeAlias = tuple[str, dict[str, bytes]]  # key; extension in small letters -> contents
CACHE = ".cache"  # the folder beside the shards, if data.cache names none
TABLE = "2"  # which files are a sample: a table that was made by other rules is made anew
BLOCK = 1 << 20
GZIP = b"\x1f\x8b"
MAX_OPEN = 128  # files
# What a compressed shard may become: so much, or so many times its size. Images hardly shrink.
MAX_UNPACKED, MAX_GROWTH = 1 << 30, 100


class ReadError(ValueError):
    """A shard that was there when it was opened cannot be read any more."""


class Shards:
    """Random access to the samples of some shards; their numbers follow the stored order."""

    def __init__(self, paths: Sequence[Path], positions: Sequence[Positions]) -> None:
        self._paths, self._positions = tuple(paths), tuple(positions)
        self._starts = np.array([0, *accumulate(map(len, positions))])
        self._open: OrderedDict[int, int] = OrderedDict()  # shard -> descriptor, the oldest first

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def starts(self) -> NDArray[np.int64]:
        """Return the number of each shard's first sample, then of all samples."""
        return self._starts

    def name(self, number: int) -> str:
        """Return shard and key of a sample, for messages."""
        shard, row = self._find(number)
        key = bytes(self._positions[shard][row][KEY]).decode("utf-8", "replace")
        return f"{self._paths[shard]}: sample {key}"

    def fields(self, number: int, extensions: Sequence[str]) -> dict[str, bytes]:
        """Return the contents of a sample's files by extension; b"" for those that are not wanted.

        ReadError if the shard cannot be read any more.
        """
        shard, row = self._find(number)
        entry = self._positions[shard][row]
        named = [(name, Place(*entry[name].tolist())) for name in entry.dtype.names if name != KEY]
        places = {name: place for name, place in named if place.size >= 0}
        try:
            file = self._descriptor(shard)
            return {
                name: read_at(file, place) if name in extensions else b""
                for name, place in places.items()
            }
        except OSError as error:
            reason = error.strerror or error
            raise ReadError(f"{self._paths[shard]} cannot be read any more ({reason})") from None

    def _find(self, number: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return shard, number - int(self._starts[shard])

    def _descriptor(self, shard: int) -> int:
        """Return that of the open file, which worker processes share: reads name an offset."""
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) == MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[shard] = os.open(self._paths[shard], os.O_RDONLY)
        return self._open[shard]

    def __del__(self) -> None:
        for file in self._open.values():
            os.close(file)


def open_shards(card: Card, config: DataConfig, split: SplitName, num_samples: int) -> Shards:
    """Return the shards of data.path that hold the first `num_samples` of a split.

    ValueError if there are fewer, or, without data.train_samples, more of them.
    """
    folder = index.folder_of(card, config)
    cache = cache_folder(folder, config.cache)
    is_shortened = split == "train" and config.train_samples is not None
    paths: list[Path] = []
    positions: list[Positions] = []
    total = 0
    for name, facts in index.shards(card, folder, split):
        path = local(name, folder, cache, config.remote, facts.sha256 if facts else None)
        rows = positions_of(path, cache)
        if facts is not None and len(rows) != facts.samples:
            raise ValueError(
                f"{path} has {len(rows)} samples, index.json says {facts.samples}; {AGAIN}"
            )
        paths.append(path)
        positions.append(rows)
        total += len(rows)
        if is_shortened and total >= num_samples:
            break  # later shards are not opened
    if total < num_samples or (total > num_samples and not is_shortened):
        raise wrong_count(f"data.path={config.path}: {split}", total, num_samples)
    return Shards(paths, positions)


def wrong_count(place: str, count: int, expected: int) -> ValueError:
    """Return the error for a split that has more or fewer samples than its index or card says."""
    return ValueError(
        f"{place} has {count} samples instead of {expected}; copy the missing shards,"
        " or if this is the whole set, write its index.json with `sms-dist data index`"
    )


def read_shard(path: Path) -> Iterator[Sample]:
    """Yield all samples of a shard in stored order; a compressed one through a temporary copy.

    ValueError names the file and its fault.
    """
    with tempfile.TemporaryDirectory() as temporary:
        plain = local(path.name, path.parent, Path(temporary), is_remote_allowed=False)
        entries = scan(plain, path)
        with plain.open("rb") as file:
            for key, places in entries:
                yield key, {name: read_at(file.fileno(), place) for name, place in places.items()}


def read_at(file: int, place: Place) -> bytes:
    """Return the bytes at a place of an open file (a descriptor, whose position does not move)."""
    data = os.pread(file, place.size, place.offset)
    if len(data) != place.size:
        raise OSError(f"it ends at byte {place.offset + len(data)}")
    return data


def cache_folder(beside: Path, configured: str | None) -> Path | None:
    """Return the folder of local copies; None if none is configured and there can be none here."""
    folder = Path(configured) if configured else beside / CACHE
    try:  # permissions say little on network file systems, and to root
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        if configured:
            raise ValueError(
                f"data.cache={configured} cannot be written to; name another folder"
            ) from None
        return None


def positions_of(shard: Path, cache: Path | None) -> Positions:
    """Return where the samples of a plain tar file lie; the cache has it until the file changes.

    ValueError if the file in the cache is damaged.
    """
    if cache is None or not shard.is_file():
        return table(scan(shard))  # which says so if it is missing
    cached = cache / cached_name(f"{shard.stem}.npy", f"{file_identity(shard)}|{TABLE}")
    if not cached.exists():
        rows = table(scan(shard))
        with replacing(cached) as new, new.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        return rows
    try:
        # mapped first: a header that promises more than the file holds takes no memory
        rows = np.array(np.load(cached, mmap_mode="r", allow_pickle=False))
        # whoever gave us the folder may have given us this file as well
        is_good = tar_index.is_table(rows, shard.stat().st_size)
    except (ValueError, EOFError, OSError, MemoryError, OverflowError, TypeError):
        is_good = False
    if not is_good:
        raise ValueError(f"{cached} is damaged; remove it, it is made anew") from None
    return rows


def local(
    shard: str, folder: Path, cache: Path | None, is_remote_allowed: bool, sha256: str | None = None
) -> Path:
    """Return a plain tar file with the contents of a shard: itself, or a copy, made if needed.

    `shard` is a file in `folder`, a URL or a `pipe:` command. Any number of processes and hosts may
    call at once: one of them makes the copy. What is copied is compared with `sha256`, if given.
    """
    path = folder / shard
    if index.is_remote(shard):
        index.check_remote(shard, is_remote_allowed)
        place, name, identity = index.shown(shard), "shard.tar", shard
    elif not path.is_file():
        raise ValueError(f"{path}: there is no such file; {AGAIN}")
    elif path.suffix != ".gz":
        return path
    else:
        place, name, identity = str(path), path.name, file_identity(path)
    if cache is None:
        raise ValueError(
            f"{place} needs an unpacked copy, but {folder} cannot be written to;"
            " set data.cache to a folder for it"
        )
    copy = cache / cached_name(name.removesuffix(".gz"), f"{identity}|{sha256}")
    if copy.exists():
        return copy
    with FileLock(copy.parent / f".{copy.name}.lock"):
        if copy.exists():  # another process made it meanwhile
            return copy
        for leftover in copy.parent.glob(f".{copy.name}.*.tmp"):
            leftover.unlink()  # of a process that died: whoever writes holds the lock
        with replacing(copy) as new:
            _copy(shard if index.is_remote(shard) else path, place, sha256, new)
    return copy


def file_identity(path: Path) -> str:
    """Return a text that changes when the file does."""
    facts = path.stat()
    return f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"


def cached_name(name: str, identity: str) -> str:
    """Return `train-0-0123456789abcdef.tar` for `train-0.tar`."""
    stem, dot, ending = name.rpartition(".")
    digest = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    return f"{(stem if dot else ending)[:100]}-{digest}{dot}{ending if dot else ''}"


def _copy(source: str | Path, place: str, sha256: str | None, target: Path) -> None:
    """Copy a shard, unpacked if it is a gzip file, whatever its name.

    ValueError if it is cut off, grows without an end, or differs from its sha256.
    """
    packed = source if isinstance(source, Path) else target.with_suffix(".packed.tmp")
    try:
        if isinstance(source, str):
            from webdataset.gopen import gopen

            with gopen(source) as stream, packed.open("wb") as file:
                shutil.copyfileobj(stream, file, BLOCK)
        if sha256 is not None and sha256_of(packed) != sha256:
            raise ValueError(f"{place} differs from what was written (sha256); {AGAIN}")
        with packed.open("rb") as file:
            is_packed = file.read(2) == GZIP
        if is_packed:
            _unpack(packed, place, target)
        else:
            shutil.copyfile(packed, target)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(place, error) from None
    except OSError as error:
        parts = [str(part) for part in (error.strerror, error.filename) if part]
        reason = ": ".join(parts) or "the transfer failed"
        raise ValueError(f"{place} cannot be copied ({reason})") from None
    finally:
        if packed != source:
            packed.unlink(missing_ok=True)


def _unpack(packed: Path, place: str, target: Path) -> None:
    most = max(MAX_UNPACKED, MAX_GROWTH * packed.stat().st_size)
    num_bytes = 0
    with gzip.open(packed) as unpacked, target.open("wb") as file:
        while data := unpacked.read(BLOCK):
            num_bytes += file.write(data)
            if num_bytes > most:
                raise damaged(place, f"unpacked it is more than {MAX_GROWTH} times its size")
