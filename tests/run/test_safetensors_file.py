"""Tensor files are the library's, byte for byte, and are read in pieces."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sms_dist.base import files, safetensors_file
from sms_dist.base.safetensors_file import DTYPES, LONGEST_NAME, PIECE, read, write

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(
    lambda name: name != "__metadata__"
)
SHAPES = st.lists(st.integers(0, 5), max_size=3)


def made(facts: dict[str, tuple[str, list[int]]]) -> dict[str, Tensor]:
    tensors = {}
    for seed, (name, (dtype, shape)) in enumerate(facts.items()):
        drawn = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed))
        tensors[name] = drawn.to(DTYPES[dtype])
    return tensors


def content(tensors: dict[str, Tensor]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "x", tensors)
        return (Path(folder) / "x").read_bytes()


@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(list(DTYPES)), SHAPES), max_size=8))
def test_the_bytes_are_those_of_the_library(facts) -> None:
    tensors = made(facts)
    assert content(tensors) == safetensors.torch.save(tensors, metadata={"format": "pt"})


@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(list(DTYPES)), SHAPES), max_size=8))
def test_what_the_library_writes_is_read(tmp_path_factory, facts) -> None:
    tensors = made(facts)
    path = tmp_path_factory.getbasetemp() / "one.safetensors"
    path.write_bytes(safetensors.torch.save(tensors))
    loaded, sha256 = read(path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
    assert content(loaded) == content(tensors)


def test_a_tensor_of_many_pieces_comes_back(tmp_path) -> None:
    """Also one that others share memory with, and one whose columns are its rows."""
    drawn = torch.randn(3, PIECE // 4 + 7, generator=torch.Generator().manual_seed(0))
    tensors = {"whole": drawn, "row": drawn[1], "turned": drawn.T}
    write(tmp_path / "x", tensors)
    loaded, sha256 = read(tmp_path / "x")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert sha256 == files.sha256_of(tmp_path / "x")


def test_who_may_read_the_folder_may_read_the_file(tmp_path) -> None:
    """The library makes files that nobody but their owner reads."""
    for mode, wanted in ((0o755, 0o644), (0o770, 0o660), (0o700, 0o600)):
        tmp_path.chmod(mode)
        write(tmp_path / "x", {"a": torch.zeros(3)})
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == wanted


def test_a_type_that_has_no_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a is of torch.complex128; valid types: U64, "):
        content({"a": torch.zeros(1, dtype=torch.complex128)})


def test_more_tensors_than_are_read_again_are_refused() -> None:
    with pytest.raises(ValueError, match=r"could not be read again: its header .* 2097152 are"):
        content({f"layers.{i}.weight": torch.empty(0) for i in range(30_000)})


def test_a_name_that_is_not_read_again_is_refused() -> None:
    with pytest.raises(ValueError, match=r"could not be read again: the name .* 1001 characters"):
        content({"x" * (LONGEST_NAME + 1): torch.empty(0)})


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(tmp_path) -> None:
    path = tmp_path / "x"
    write(path, {"a": torch.zeros(PIECE)})
    places = safetensors_file.check(path)
    os.truncate(path, 2 * PIECE)
    with path.open("rb", buffering=0) as file, pytest.raises(ValueError, match="became shorter"):
        safetensors_file._tensor(places[0], file, hashlib.sha256())
