"""Tar files that are made to hurt: bombs, endless notes, sizes that lie. Nothing is unpacked."""

import gzip
import io
import resource
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sms_dist.data import shards, tar_index
from sms_dist.data.shards import TABLE, cached_name, file_identity, positions_of, read_shard
from sms_dist.data.tar_index import MAX_BYTES, MAX_NOTE, scan

BLOCK = 512


def header(name="a.cls", kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content):
    return content + bytes(-len(content) % BLOCK)


def pax(**fields):
    records = b""
    for key, value in fields.items():
        rest = f" {key}={value}\n".encode()
        length = len(rest) + 2
        records += (b"%d" % (length if len(b"%d" % length) == 2 else length + 1)) + rest
    return header("x", tarfile.XHDTYPE, len(records)) + padded(records)


END = bytes(2 * BLOCK)
GOOD = header(size=1) + padded(b"1")
LONG_NAME = header("x", tarfile.GNUTYPE_LONGNAME, 5) + padded(b"name\0")
BAD = {
    "note of a gigabyte": header("x", tarfile.XHDTYPE, 1 << 30) + bytes(1 << 16) + END,
    "long name of a gigabyte": header("x", tarfile.GNUTYPE_LONGNAME, 1 << 30) + END,
    "note above the limit": header("x", tarfile.XGLTYPE, MAX_NOTE + 1) + bytes(8192) + END,
    "two thousand notes": LONG_NAME * 2000 + GOOD + END,
    "size of the note": pax(size=1 << 50) + GOOD + END,
    "negative size of the note": pax(size=-1024) + GOOD + END,
    "sparse by a note": pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}) + GOOD + END,
    "sparse": header("a.cls", tarfile.GNUTYPE_SPARSE, 512) + bytes(512) + END,
    "path of the note": pax(path="/etc/passwd") + GOOD + END,
    "path of the note, upwards": pax(path="../../a.cls") + GOOD + END,
    "link of the note": header("a.cls", tarfile.SYMTYPE) + END,
    "larger than any sample": header(size=MAX_BYTES + 1) + bytes(1 << 16) + END,
    "the same file twice": GOOD + GOOD + END,
    "cut": GOOD[:700],
    "no tar": b"\x89PNG" * 500,
    "empty": b"",
}


@pytest.fixture(autouse=True)
def _little_memory():
    """No test here may need a gigabyte."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (3 << 28), old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, old)


@pytest.mark.parametrize("name", BAD)
def test_each_is_refused_in_one_line_by_both_readers(name, tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(BAD[name])
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(BAD[name], 1))
    for read in (
        lambda: scan(path),
        lambda: list(read_shard(path)),
        lambda: list(read_shard(packed)),
    ):
        with pytest.raises(ValueError, match=r"x\.tar") as error:
            read()
        assert str(error.value).isprintable()


def test_a_sample_of_more_bytes_than_any_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_index, "MAX_BYTES", 1 << 20)  # or the test would take a while
    parts = [header(f"a.{x}", size=1 << 19) + bytes(1 << 19) for x in "xyz"]
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(b"".join(parts) + END, 9))
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="sample a has more than"):
        list(read_shard(path))


def test_a_bomb_of_zeros_is_not_unpacked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_UNPACKED", 1 << 21)
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(header(size=1 << 25) + bytes(1 << 25) + END, 9))
    with pytest.raises(ValueError, match=r"x\.tar\.gz is damaged .*more than 100 times its size"):
        list(read_shard(path))
    with pytest.raises(ValueError, match=r"x\.tar\.gz is damaged"):
        shards.local("x.tar.gz", tmp_path, tmp_path / "cache", is_remote_allowed=False)
    assert not list((tmp_path / "cache").glob("*.tar"))


def test_a_table_of_positions_that_somebody_else_made_is_not_believed(tmp_path):
    shard = tmp_path / "x.tar"
    shard.write_bytes(GOOD + END)
    good = positions_of(shard, tmp_path)
    kept = tmp_path / cached_name("x.npy", f"{file_identity(shard)}|{TABLE}")
    assert np.array_equal(positions_of(shard, tmp_path), good)
    beyond = good.copy()
    beyond["cls"] = (0, 1 << 60)
    before = good.copy()
    before["cls"] = (-512, 1)
    for bad in (beyond, before, good["cls"], np.zeros(3), np.zeros(2, [("cls", "<i8", (2,))])):
        np.save(kept, bad)
        with pytest.raises(ValueError, match="is damaged; remove it"):
            positions_of(shard, tmp_path)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        huge, {"descr": "<i8", "fortran_order": False, "shape": (1 << 50,)}
    )
    kept.write_bytes(huge.getvalue())
    with pytest.raises(ValueError, match="is damaged; remove it"):
        positions_of(shard, tmp_path)
