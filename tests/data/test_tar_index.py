"""Tar files read by position: what is in them, and every damage has its message."""

import io
import os
import tarfile

import numpy as np
import pytest

from sms_dist.data.shards import positions_of, read_at
from sms_dist.data.tar_index import KEY, Place, check_member, scan, table

FILES = {
    "a/one.png": b"first image",
    "a/one.cls": b"3",
    "two.seg.png": b"",
    "two.JPG": b"x" * 700,
    "d" * 120 + "/" + "k" * 120 + ".cls": b"long name",
    "grüße.cls": b"4",
}


def tar_of(path, files, form=tarfile.PAX_FORMAT, change=None):
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if change:
                change(member)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_every_file_is_found_and_read_at_its_place(tmp_path, form):
    path = tar_of(tmp_path / "x.tar", FILES, form)
    entries = scan(path)
    assert [entry.key.split("/")[-1] for entry in entries] == ["one", "two", "k" * 120, "grüße"]
    assert [list(entry.files) for entry in entries[:2]] == [["png", "cls"], ["seg.png", "jpg"]]
    with path.open("rb") as file:
        contents = [read_at(file.fileno(), p) for entry in entries for p in entry.files.values()]
    assert contents == list(FILES.values())


def test_notes_folders_and_hidden_files_are_no_samples(tmp_path):
    path = tar_of(tmp_path / "x.tar", {"__info__/a.json": b"", "__x__": b"", ".h": b"", "a.b": b""})
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("f.cls")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert [(entry.key, list(entry.files)) for entry in scan(path)] == [("a", ["b"])]


@pytest.mark.parametrize(
    "name",
    [
        *("photos/._000.png", "._000.png", "photos/.000.cls", ".ipynb_checkpoints/000.png"),
        *("a/.ipynb_checkpoints/b/000.png", "__MACOSX/photos/000.png", "photos/@eaDir/000.png"),
        *("photos/Thumbs.db", "DESKTOP.INI", "PaxHeaders.12/000.png", "a/PaxHeader/000.png"),
        *("README", "photos/LICENSE"),
    ],
)
def test_what_systems_and_tools_leave_is_no_sample_at_any_depth(tmp_path, name):
    good = {"./photos/000.png": b"1", "./photos/000.cls": b"2"}
    for files in ({name: b"x", **good}, {**good, name: b"x"}):
        (entry,) = scan(tar_of(tmp_path / "x.tar", files))
        assert (entry.key, list(entry.files)) == ("./photos/000", ["png", "cls"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.png", "b.png", "a.cls", "b.cls"), "files of sample 'a' are not side by side.*--sort"),
        (("a.png", "a.cls", "b.png", "b.cls", "a.seg.png"), "sample 'a' are not side by side"),
        ((f"{i}.{i}.png" for i in range(9000)), "9000 samples with 9000 different fields.*'8999"),
        (("README", "photos/000"), "0 samples with 0 different fields.*such as 'photos/000'"),
    ],
)
def test_names_that_give_other_samples_than_are_meant_are_refused(tmp_path, names, message):
    path = tar_of(tmp_path / "x.tar", dict.fromkeys(names, b""))
    with pytest.raises(ValueError, match=rf"x\.tar.*{message}") as caught:
        scan(path)
    assert "\n" not in str(caught.value)


def test_samples_of_one_name_that_are_apart_stay_apart(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a.png", "a.cls", "b.png", "b.cls", "a.png", "a.cls"):
            tar.addfile(tarfile.TarInfo(name))
    assert [entry.key for entry in scan(path)] == ["a", "b", "a"]


def test_only_headers_are_read(tmp_path):
    """200 megabytes that are not there (a hole in the file) cost nothing."""
    path = tmp_path / "x.tar"
    member = tarfile.TarInfo("big.png")
    member.size = 200 << 20
    with path.open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.seek(member.size, os.SEEK_CUR)
        small = tarfile.TarInfo("small.png")
        file.write(small.tobuf() + bytes(1024))
    assert [entry.key for entry in scan(path)] == ["big", "small"]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, form):
    path = tar_of(tmp_path / "x.tar", FILES, form)
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
        end = last.offset_data + 512  # of the contents; then come two empty blocks
    whole = path.read_bytes()
    for length in [*range(0, end + 1, 128), end + 511]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"x\.tar is damaged"):
            scan(path)
    path.write_bytes(whole[: end + 512])
    assert len(scan(path)) == 4


def test_damage_between_samples_does_not_shorten_the_shard(tmp_path):
    path = tar_of(tmp_path / "x.tar", {"a.cls": b"1", "b.cls": b"2"})
    for damage in (b"\xff" * 8, bytes(512)):
        data = bytearray(tar_of(path, {"a.cls": b"1", "b.cls": b"2"}).read_bytes())
        data[1024 : 1024 + len(damage)] = damage
        path.write_bytes(data)
        with pytest.raises(ValueError, match="no header at byte 1024"):
            scan(path)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("/etc/passwd.cls", tarfile.REGTYPE, "absolute path"),
        ("a/../../b.cls", tarfile.REGTYPE, r"\.\. in its path"),
        ("a.cls", tarfile.SYMTYPE, "is a link"),
        ("a.cls", tarfile.LNKTYPE, "is a link"),
        ("a.cls", tarfile.CHRTYPE, "is no plain file"),
        ("a.cls", tarfile.FIFOTYPE, "is no plain file"),
    ],
)
def test_members_that_are_no_plain_files_are_refused(tmp_path, name, kind, message):
    def change(member):
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    path = tar_of(tmp_path / "x.tar", {name: b""}, change=change)
    with pytest.raises(ValueError, match=message) as caught:
        scan(path)
    assert str(path) in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_that_make_no_sense_are_refused(tmp_path):
    path = tmp_path / "x.tar"
    member = tarfile.TarInfo("a.cls")
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        for size in (1 << 60, (1 << 63) - 1, 1 << 80, -5, -2048):
            member.type, member.size = kind, size
            path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1536))
            with pytest.raises(ValueError, match=r"x\.tar is damaged|has \d+ bytes"):
                scan(path)


def test_a_name_that_occurs_twice_and_a_missing_file_are_refused(tmp_path):
    path = tar_of(tmp_path / "x.tar", {"a.png": b"", "a.PNG": b""})
    with pytest.raises(ValueError, match=r"'a\.PNG' is in it twice"):
        scan(path)
    with pytest.raises(ValueError, match="no such file"):
        scan(tmp_path / "y.tar")


def test_what_is_no_tar_file_is_refused(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"not a tar file at all " * 100)
    with pytest.raises(ValueError, match="is damaged"):
        scan(tmp_path / "x.tar")


def test_a_read_past_the_end_is_an_error_not_a_shorter_file(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    with (tmp_path / "x").open("rb") as file:
        assert read_at(file.fileno(), Place(1, 3)) == b"234"
        with pytest.raises(OSError, match="it ends at byte 5"):
            read_at(file.fileno(), Place(3, 3))


def test_positions_are_kept_until_the_shard_changes(tmp_path):
    shard, kept = tar_of(tmp_path / "x.tar", FILES), tmp_path / "kept"
    kept.mkdir()
    found = positions_of(shard, kept)
    assert found.dtype.names == (KEY, "cls", "jpg", "png", "seg.png")
    assert np.array_equal(found, table(scan(shard)))
    assert found["jpg"][0].tolist() == [0, -1]  # the first sample has none

    (file,) = kept.iterdir()
    shard_bytes, times = shard.read_bytes(), shard.stat()
    shard.write_bytes(bytes(len(shard_bytes)))
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert np.array_equal(positions_of(shard, kept), found)  # the shard was not read

    tar_of(shard, {"new.cls": b"1"})
    os.utime(shard, ns=(0, 0))
    assert positions_of(shard, kept)[KEY].tolist() == [b"new"]
    assert len(list(kept.iterdir())) == 2
    file.write_bytes(b"\x93NUMPY damaged")
    shard.write_bytes(shard_bytes)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ValueError, match="is damaged; remove it"):
        positions_of(shard, kept)


def member(name, kind=tarfile.REGTYPE, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


@pytest.mark.parametrize("name", ["a.png", "train/a.png", "./a..b.png", "..a/b.cls"])
def test_plain_files_in_folders_are_allowed(name):
    check_member(member(name), "x.tar")
    check_member(member("train", tarfile.DIRTYPE), "x.tar")


@pytest.mark.parametrize(
    ("info", "fault"),
    [
        (member("/etc/passwd"), "absolute"),
        (member("C:\\a.png"), "absolute"),
        (member("\\\\host\\share\\a.png"), "absolute"),
        (member("../a.png"), r"\.\."),
        (member("a/../../b.png"), r"\.\."),
        (member("a\\..\\b.png"), r"\.\."),
        (member("a.png", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (member("a.png", tarfile.LNKTYPE, "b.png"), "link"),
        (member("a.png", tarfile.CHRTYPE), "no plain file"),
        (member("a.png", tarfile.BLKTYPE), "no plain file"),
        (member("a.png", tarfile.FIFOTYPE), "no plain file"),
        (member("a.png", tarfile.GNUTYPE_SPARSE), "no plain file"),
    ],
)
def test_what_points_elsewhere_is_refused_in_one_line_that_names_it(info, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        check_member(info, "x.tar")
    text = str(caught.value)
    assert text.startswith("x.tar: member")
    assert repr(info.name) in text
    assert "\n" not in text
