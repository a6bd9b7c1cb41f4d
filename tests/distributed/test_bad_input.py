"""What is wrong with the input is said in one line, before anything is written."""

from __future__ import annotations

import io
import shutil
import tarfile

import numpy as np
import pytest
import safetensors.torch
import torch
from forking import Runs
from launching import main_arguments, sha256, start, torchrun, weights

from sms_dist import data
from sms_dist.config import DataConfig
from sms_dist.data.prepare.writer import labelled, write

CIFAR = ("data.name=cifar10", "model.name=resnet20", "model.options={}")
WORDS = {  # case -> what its line has to say
    "no_config": ["nowhere.yaml", "no such file"],
    "unknown_key": ["pruning.goal_sparsty", "did you mean goal_sparsity?"],
    "phases_0": ["pruning.phases=0"],
    "batch": ["data.batch_size=50", "engine.accumulation=3", "try 51"],
    "pretrain_ranks": ["pretrain.ranks=3", "ranks (1)"],
    "other_run": ["seed: 0 -> 7", "retrain.epochs: 1 -> 2", "--run-dir"],
    "file_in_the_way": ["blocked", "--run-dir"],
    "no_run": ["no config.yaml", "--run-dir"],
    "no_shards": ["data.path=", "nowhere"],
    "shard_missing": ["cifar10-train-000001.tar", "no such file"],
    "shard_cut": ["cifar10-train-000000.tar", "is damaged"],
    "shard_no_tar": ["cifar10-test-000000.tar", "is damaged"],
    "label": ["cifar10-train-000000.tar", "sample", "'10'", "0 to 9"],
    "shapes": ["3x32x32", "1x8x8"],
    "no_history": ["retrain.schedule=allr", "history.json"],
    "from_nowhere": ["pretrain.from=", "nowhere"],
    "from_other_model": ["conv1.weight", "(8, 1, 3, 3)", "(4, 1, 3, 3)"],
    "from_garbage": ["pretrain.from=", "garbage.safetensors", "no safetensors file"],
    "weights_of_other_model": ["model.weights=", "conv1.weight", "(8, 1, 3, 3)", "(4, 1, 3, 3)"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bad_input")


@pytest.fixture(scope="module")
def shards(folder):
    """name -> a folder with six training images in shards of four and two test images."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    samples = [(f"sample{i}", pixels[i], i % 10) for i in range(8)]

    def make(name):
        classes = data.described(DataConfig(name="cifar10")).classes
        splits = {"train": labelled(samples[:6]), "test": labelled(samples[6:])}
        target = folder / f"shards_{name}"
        write(target, "cifar10", classes, splits, 4, lambda line: None)
        return target

    return make


def cut(shards):
    path = shards / "cifar10-train-000000.tar"
    path.write_bytes(path.read_bytes()[:3000])
    return shards


def without(shards):
    (shards / "cifar10-train-000001.tar").unlink()
    return shards


def no_tar(shards):
    (shards / "cifar10-test-000000.tar").write_bytes(b"no tar at all" * 100)
    return shards


def wrong_label(shards):
    """The class of every training sample of the first shard becomes 10."""
    path = shards / "cifar10-train-000000.tar"
    with tarfile.open(path) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            content = b"10" if name.endswith(".cls") else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return shards


@pytest.fixture(scope="module")
def other_run(folder, dense_run):
    """A finished run, to be started with another configuration."""
    return shutil.copytree(dense_run, folder / "other_run")


@pytest.fixture(scope="module")
def content(other_run):
    return contents(other_run)


def contents(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (sha256(path), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def refused(folder, shards, dense_run, other_run, content):
    """case -> how its start ended."""
    bare, garbage = folder / "bare.safetensors", folder / "garbage.safetensors"
    safetensors.torch.save_file(weights(dense_run / "dense"), bare)
    garbage.write_bytes(b"garbage" * 100)
    (folder / "blocked").write_text("a file")
    (folder / "no_run").mkdir()
    (folder / "no_run" / "thesis.tex").write_text("my own")
    settings = {
        "unknown_key": ["pruning.goal_sparsty=0.5"],
        "phases_0": ["pruning.phases=0"],
        "batch": ["data.batch_size=50", "engine.accumulation=3"],
        "pretrain_ranks": ["pretrain.ranks=3"],
        "other_run": ["method.name=dense", "seed=7", "retrain.epochs=2"],
        "file_in_the_way": [],
        "no_run": [],
        "no_shards": [*CIFAR, f"data.path={folder / 'nowhere'}"],
        "shard_missing": [*CIFAR, f"data.path={without(shards('missing'))}"],
        "shard_cut": [*CIFAR, f"data.path={cut(shards('cut'))}"],
        "shard_no_tar": [*CIFAR, f"data.path={no_tar(shards('no_tar'))}"],
        "label": [*CIFAR, f"data.path={wrong_label(shards('label'))}"],
        "shapes": ["model.name=resnet20", "model.options={}"],
        "no_history": [f"pretrain.from={bare}"],
        "from_nowhere": [f"pretrain.from={folder / 'nowhere'}"],
        "from_other_model": [f"pretrain.from={dense_run}", "model.options.width=4"],
        "from_garbage": [f"pretrain.from={garbage}"],
        "weights_of_other_model": [f"model.weights={bare}", "model.options.width=4"],
    }
    places = {"file_in_the_way": folder / "blocked" / "run"}
    arguments = {
        case: main_arguments(places.get(case, folder / case), *words)
        for case, words in settings.items()
    }
    arguments["no_config"] = ["--config", "nowhere.yaml", "--run-dir", folder / "no_config"]
    runs = Runs(folder / "logs")
    return {case: runs.main(words, folder / case) for case, words in arguments.items()}


@pytest.mark.parametrize("case", WORDS)
def test_bad_input_is_refused_in_one_line(case, refused):
    finished = refused[case]
    lines = finished.err.splitlines()
    assert finished.status == 2, finished
    assert len(lines) == 1, finished
    assert lines[0].startswith("error: ")
    assert [word for word in WORDS[case] if word not in lines[0]] == [], lines[0]
    assert finished.out == ""


@pytest.mark.parametrize("case", sorted(WORDS.keys() - {"other_run", "no_run"}))
def test_bad_input_leaves_no_run_folder(case, refused, folder):
    assert not (folder / case).exists()


def test_nothing_is_written_over(refused, folder, other_run, content):
    assert contents(other_run) == content
    assert (folder / "blocked").read_text() == "a file"
    assert [path.name for path in (folder / "no_run").iterdir()] == ["thesis.tex"]


def test_ranks_that_do_not_fill_the_mesh_are_refused_once(folder):
    finished = torchrun(folder / "square", "engine.ranks_per_candidate=4", ranks=2, timeout=60)
    line = "error: engine.ranks_per_candidate=4 must divide the 2 ranks; try 1, 2"
    assert finished.status == 1  # torchrun's
    assert finished.err.splitlines().count(line) == 1
    assert finished.err.count("error: ") == 1
    assert "Traceback (most recent call last)" not in finished.err.partition("elastic")[0]
    assert not (folder / "square").exists()


def test_the_run_folder_of_another_configuration_is_refused_once(folder, other_run, content):
    finished = start(other_run, "method.name=dense", "seed=7", ranks=2, timeout=60)
    lines = [line for line in finished.err.splitlines() if line.startswith("error: ")]
    assert finished.status == 1
    assert len(lines) == 1
    assert "seed: 0 -> 7" in lines[0]
    assert finished.out == ""
    assert contents(other_run) == content


def test_a_damaged_file_of_the_run_is_named_and_kept(folder, dense_run):
    run = shutil.copytree(dense_run, folder / "damaged")
    file = run / "dense" / "weights.safetensors"
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    finished = start(run, "method.name=dense")
    assert finished.status != 0
    assert str(file) in finished.err
    assert "differs from its checksum" in finished.err
    assert file.read_bytes() == changed


def test_a_bare_file_with_a_described_pretraining_is_enough(folder, dense_run):
    """The way out that the refusal names."""
    bare = folder / "described.safetensors"
    safetensors.torch.save_file(weights(dense_run / "dense"), bare)
    run = folder / "described"
    settings = ("pretrain.history=config", "method.name=imp", "pruning.phases=1")
    finished = start(run, f"pretrain.from={bare}", *settings)
    assert finished.status == 0, finished
    one, other = (weights(place / "dense") for place in (run, dense_run))
    assert all(torch.equal(one[name], other[name]) for name in other)
