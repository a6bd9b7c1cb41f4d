"""Local copies of shards: made once, whole, and only from where the configuration allows."""

import gzip
import hashlib
import http.server
import multiprocessing
import shutil
import threading
from functools import partial

import pytest

from sms_dist.data.shards import cache_folder, file_identity, local

FORK = multiprocessing.get_context("fork")
CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.tar").write_bytes(CONTENT)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(CONTENT))
    return tmp_path


def copies(folder):
    return sorted(path.name for path in (folder / ".cache").iterdir() if path.suffix != ".lock")


def local_copy(folder, shard, sha256=None, remote=True):
    return local(shard, folder, cache_folder(folder, None), remote, sha256)


def test_a_plain_file_is_its_own_copy(folder):
    assert local_copy(folder, "a.tar") == folder / "a.tar"
    assert copies(folder) == []


def test_a_compressed_file_is_unpacked_once_until_it_changes(folder):
    path = local_copy(folder, "b.tar.gz")
    assert path.parent == folder / ".cache"
    assert path.read_bytes() == CONTENT
    made = file_identity(path)
    assert local_copy(folder, "b.tar.gz") == path
    assert file_identity(path) == made

    (folder / "b.tar.gz").write_bytes(gzip.compress(b"new"))
    assert local_copy(folder, "b.tar.gz").read_bytes() == b"new"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_of_a_truncated_file_nothing_is_kept(folder, share):
    whole = (folder / "b.tar.gz").read_bytes()
    (folder / "b.tar.gz").write_bytes(whole[: int(share * len(whole))] or b"\x1f\x8b")
    with pytest.raises(ValueError, match=r"b\.tar\.gz is damaged .*copy it again"):
        local_copy(folder, "b.tar.gz")
    assert copies(folder) == []


def test_the_checksum_is_that_of_the_file_as_it_was_sent(folder):
    right = hashlib.sha256((folder / "b.tar.gz").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"b\.tar\.gz differs from what was written \(sha256\)"):
        local_copy(folder, "b.tar.gz", "0" * 64)
    assert copies(folder) == []
    assert local_copy(folder, "b.tar.gz", right).read_bytes() == CONTENT


def test_what_a_killed_process_left_is_removed(folder):
    path = local_copy(folder, "b.tar.gz")
    path.unlink()
    (path.parent / f".{path.name}.0a1b2c3d.1.tmp").write_bytes(b"half")
    assert local_copy(folder, "b.tar.gz").read_bytes() == CONTENT
    assert copies(folder) == [path.name]


def test_a_cache_that_cannot_be_written_to_is_named(folder):
    (folder / ".cache").write_bytes(b"in the way")
    assert cache_folder(folder, None) is None
    assert local_copy(folder, "a.tar") == folder / "a.tar"
    with pytest.raises(ValueError, match=r"set data\.cache to a folder"):
        local_copy(folder, "b.tar.gz")
    with pytest.raises(ValueError, match=r"data\.cache=.*a\.tar cannot be written to"):
        cache_folder(folder, str(folder / "a.tar"))
    assert cache_folder(folder, str(folder / "new" / "one")) == folder / "new" / "one"


def test_missing_files_are_named(folder):
    for name in ("c.tar", "c.tar.gz"):
        with pytest.raises(ValueError, match=f"{name}: there is no such file"):
            local_copy(folder, name)


@pytest.mark.parametrize(
    "shard", ["pipe:touch {0}/stolen", "http://127.0.0.1:9/a.tar", "s3://bucket/a.tar"]
)
def test_nothing_remote_is_opened_unless_it_is_switched_on(folder, shard):
    with pytest.raises(ValueError, match=r"set data\.remote=true"):
        local_copy(folder, shard.format(folder), remote=False)
    assert not (folder / "stolen").exists()


def test_unknown_schemes_are_refused(folder):
    with pytest.raises(ValueError, match=r"s3://bucket/a\.tar begins with s3:.*pipe:aws s3 cp"):
        local_copy(folder, "s3://user:secret@bucket/a.tar?signature=secret")


def ask(folder, shard, answers):
    answers.put(local_copy(folder, shard))


def test_of_many_that_ask_at_once_one_makes_the_copy(folder):
    shard = f"pipe:echo x >> {folder}/log; sleep 0.3; cat {folder}/b.tar.gz"
    answers = FORK.Queue()
    processes = [FORK.Process(target=ask, args=(folder, shard, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    (path,) = {answers.get() for _ in processes}
    for process in processes:
        process.join()
    assert path.read_bytes() == CONTENT
    assert (folder / "log").read_text() == "x\n"


@pytest.mark.parametrize("command", ["false", "cat {0}/b.tar.gz; exit 3"])
def test_a_command_that_fails_leaves_nothing(folder, command):
    with pytest.raises(
        ValueError, match=r"pipe:\w+ \.\.\. cannot be copied \(the transfer failed\)"
    ):
        local_copy(folder, f"pipe:{command.format(folder)}")
    assert copies(folder) == []


@pytest.fixture
def server(folder):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=folder)
    ) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_shards_are_fetched_by_url(folder, server):
    for name in ("a.tar", "b.tar.gz"):
        path = local_copy(folder, f"{server}/{name}")
        assert path.read_bytes() == CONTENT
        assert path.suffix == ".tar"
    (folder / "a.tar").unlink()
    assert local_copy(folder, f"{server}/a.tar").read_bytes() == CONTENT  # it is not asked again
    with pytest.raises(ValueError, match=r"127\.0\.0\.1/c\.tar cannot be copied"):
        local_copy(folder, f"{server}/c.tar")
