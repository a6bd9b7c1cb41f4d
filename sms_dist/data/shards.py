"""Reads WebDataset shards: tar files whose members `key.ext` make up the samples."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from webdataset.tariterators import group_by_keys

from sms_dist.data.decode import AGAIN
from sms_dist.data.index import Shard
from sms_dist.data.members import MAX_BYTES, MemberError, PlainInfo, check_member

Sample: TypeAlias = tuple[str, dict[str, bytes]]  # key; extension in lower case -> contents
BLOCK = 512  # of a tar file; the last two are empty
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError)


def read_all(shards: Iterable[Shard]) -> Iterator[tuple[Path, Sample]]:
    """(shard, sample) in stored order; each shard has as many as its index says, or ValueError."""
    for path, expected in shards:
        found = 0
        for sample in read(path):
            found += 1
            yield path, sample
        if expected is not None and found != expected:
            raise ValueError(f"{path} has {found} samples, index.json says {expected}; {AGAIN}")


def read(path: Path) -> Iterator[Sample]:
    """The samples of one shard in stored order; ValueError names the file and its fault.

    The file is opened here, not by webdataset: its URLs may name a shell command or a host.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; {AGAIN}")
    try:
        with _opened(path) as file:
            for sample in group_by_keys(_files(file, path)):
                fields = {name: data for name, data in sample.items() if not name.startswith("__")}
                yield sample["__key__"], fields
    except MemberError:
        raise
    except RecursionError:
        fault = "notes about notes, without an end"
        raise ValueError(f"{path} is no complete tar file ({fault}); {AGAIN}") from None
    except _DAMAGE as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise ValueError(f"{path} is no complete tar file ({reason}); {AGAIN}") from None


def _opened(path: Path) -> IO[bytes]:
    """tarfile's own gzip ignores a cut end."""
    opened = gzip.open if path.suffix == ".gz" else open
    return cast(IO[bytes], opened(path, "rb"))


def _files(file: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """What webdataset groups into samples."""
    end, key, size = 0, "", 0
    with tarfile.open(fileobj=file, mode="r|", tarinfo=PlainInfo) as tar:
        for member in tar:
            check_member(member, str(path))
            tar.members = []  # type: ignore[attr-defined]  # or they pile up
            end = member.offset_data + -(-member.size // BLOCK) * BLOCK
            key, size = _key(member.name), size * (_key(member.name) == key) + member.size
            if size > MAX_BYTES:
                raise MemberError(f"{path}: sample {key} has more than {MAX_BYTES} bytes; {AGAIN}")
            content = tar.extractfile(member)
            if content is not None:
                yield {"fname": member.name, "data": content.read(), "__url__": str(path)}
    while file.read(1 << 20):  # gzip's checksum is at the end
        pass
    if file.tell() < end + BLOCK:  # tarfile takes a cut between two members for the end
        raise EOFError("its end is missing")


def _key(name: str) -> str:
    """Of the sample that a file belongs to: up to the first dot behind its folders."""
    folders, slash, file = name.rpartition("/")
    return f"{folders}{slash}{file.partition('.')[0]}"
