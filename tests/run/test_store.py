"""Facts about saved folders: complete or absent, and checked when read."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sms_dist.base import files
from sms_dist.run import store

TENSORS = {"weights.safetensors": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2) > 0}}
DOCUMENTS = {"metrics.json": {"loss": 0.5, "history": [1, 2]}}


def make(folder: Path) -> Path:
    store.save(folder, TENSORS, DOCUMENTS)
    return folder


def disk_full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    folder = make(tmp_path / "phase_1" / "soup")
    assert store.is_complete(folder)
    loaded = store.load_tensors(folder, "weights.safetensors")
    assert loaded.keys() == {"a", "b"}
    assert all(torch.equal(loaded[name], TENSORS["weights.safetensors"][name]) for name in loaded)
    assert store.load_document(folder, "metrics.json") == DOCUMENTS["metrics.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["soup"]


def test_other_safetensors_readers_open_the_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "dense")
    assert safetensors.torch.load_file(folder / "weights.safetensors").keys() == {"a", "b"}


def test_the_manifest_tells_checksum_and_size_of_each_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "dense")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest.keys() == {"weights.safetensors", "metrics.json"}
    for name, entry in manifest.items():
        assert entry["sha256"] == files.sha256_of(folder / name)
        assert entry["bytes"] == (folder / name).stat().st_size


def test_tied_and_transposed_weights_can_be_saved(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    store.save(tmp_path / "x", {"w.safetensors": {"a": weight, "b": weight, "t": weight.T}}, {})
    loaded = store.load_tensors(tmp_path / "x", "w.safetensors")
    assert torch.equal(loaded["b"], weight)
    assert torch.equal(loaded["t"], weight.T)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_crash_while_saving_leaves_no_folder_and_the_next_save_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = tmp_path / "candidate_1"
    with monkeypatch.context() as outside:
        outside.setattr(os, call, disk_full)
        with pytest.raises(ValueError, match="no space left"):
            make(folder)
    assert not folder.exists()
    assert not store.is_complete(folder)
    # The remains of another process, and a neighbour's that must stay.
    (tmp_path / ".candidate_1.999.tmp").mkdir()
    (tmp_path / ".candidate_10.999.tmp").mkdir()
    make(folder)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".candidate_10.999.tmp", "candidate_1"]


def test_an_incomplete_folder_is_made_again(tmp_path: Path) -> None:
    folder = make(tmp_path / "dense")
    (folder / "manifest.json").unlink()
    assert not store.is_complete(folder)
    assert store.is_complete(make(folder))


def test_what_is_discarded_is_gone_and_can_be_made_again(tmp_path: Path) -> None:
    folder = make(tmp_path / "candidate_0")
    remains = tmp_path / f".candidate_0.{os.getpid()}.tmp"  # of a process with the same number
    (remains / "piece").mkdir(parents=True)
    store.discard(folder)
    assert list(tmp_path.iterdir()) == []
    assert store.is_complete(make(folder))


def test_saving_over_a_complete_folder_is_a_mistake_of_ours(tmp_path: Path) -> None:
    folder = make(tmp_path / "dense")
    with pytest.raises(AssertionError):
        make(folder)


@pytest.mark.parametrize("place", [-3, 12, 0])  # 0, 12: where a tensor file's header stands
@pytest.mark.parametrize("file", ["weights.safetensors", "metrics.json"])
def test_one_changed_bit_is_noticed(tmp_path: Path, file: str, place: int) -> None:
    folder = make(tmp_path / "dense")
    content = bytearray((folder / file).read_bytes())
    content[place] ^= 1
    (folder / file).write_bytes(content)
    load = store.load_tensors if file.endswith("safetensors") else store.load_document
    with pytest.raises(ValueError, match=rf"{file} differs.*remove the folder .*dense"):
        load(folder, file)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing"), ("{", "is not JSON"), ("[]", "is not a mapping")],
)
def test_a_damaged_manifest_is_one_clear_error(
    tmp_path: Path, content: str | None, message: str
) -> None:
    folder = make(tmp_path / "dense")
    manifest = folder / "manifest.json"
    manifest.unlink() if content is None else manifest.write_text(content)
    with pytest.raises(ValueError, match=message):
        store.load_document(folder, "metrics.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "dense")
    with pytest.raises(ValueError, match=r"has no x.json; it has metrics.json"):
        store.load_document(folder, "x.json")
    (folder / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"metrics.json is missing; remove the folder"):
        store.load_document(folder, "metrics.json")


def test_numbers_json_does_not_know_become_null() -> None:
    value = {"a": math.nan, "b": [1.5, -math.inf, (2, math.inf)], "c": {"d": "nan", "e": True}}
    assert files.finite(value) == {
        "a": None,
        "b": [1.5, None, [2, None]],
        "c": {"d": "nan", "e": True},
    }
    assert json.loads(files.json_text(value))["b"] == [1.5, None, [2, None]]


def test_a_text_file_is_replaced_whole_or_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    files.write_text(path, "old")
    files.write_text(path, "older\n")
    with monkeypatch.context() as outside:
        outside.setattr(os, "fsync", disk_full)
        with pytest.raises(ValueError, match="no space left"):
            files.write_text(path, "new")
    assert path.read_text() == "older\n"


def test_a_tensor_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^a is of torch.complex128"):
        store.save(tmp_path / "x", {"w": {"a": torch.zeros(1, dtype=torch.complex128)}}, {})
    assert list(tmp_path.iterdir()) == []
