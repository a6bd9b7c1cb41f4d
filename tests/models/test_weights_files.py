"""Files and folders of weights are read without their model."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import prune

from sms_dist.base import weights_file
from sms_dist.base.weights_file import fitted, load


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)


def sharded(folder, state, suffix):
    """The state in three files with an index, as Hugging Face writes it."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    places = {name: f"{stem}-0000{i % 3}{suffix}" for i, name in enumerate(state)}
    for file in {*places.values()}:
        save(folder / file, {n: t for n, t in state.items() if places[n] == file})
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def is_same(found, wanted):
    return found.keys() == wanted.keys() and all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
        for name, tensor in wanted.items()
    )


@pytest.mark.parametrize(
    "file",
    [
        *("a.safetensors", "b.pt", "c.ckpt", "run/dense/weights.safetensors"),
        *("phase_2/soup/weights.safetensors", "soup/weights.safetensors"),
        *("hf/model.safetensors", "hf/pytorch_model.bin"),
    ],
)
def test_a_file_or_its_folder_is_read(file, net, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / file, net.state_dict())
    above = tmp_path / Path(file).parts[0]
    for path in (tmp_path / file, str(above), f"~/{file}"):
        assert is_same(load(path), net.state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_several_files_with_an_index_are_one(suffix, net, tmp_path):
    index = sharded(tmp_path / "hf", net.state_dict(), suffix)
    for path in (index, tmp_path / "hf"):
        assert is_same(load(path), net.state_dict())
    (shard,) = tmp_path.glob(f"hf/*1{suffix}")
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(ValueError, match=rf"names 3 files, and {shard.name} is missing; copy"):
        load(tmp_path / "hf")
    (other,) = tmp_path.glob(f"hf/*0{suffix}")
    shard.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=rf"{shard.name} has no 0.bias, which .* places there"):
        load(tmp_path / "hf")
    shard.write_bytes(content[:50])
    with pytest.raises(ValueError, match=rf"{shard.name} is no"):
        load(tmp_path / "hf")


@pytest.mark.parametrize(
    "content", [{}, {"weight_map": {}}, {"weight_map": ["a"]}, {"weight_map": {"a": "../x.bin"}}]
)
def test_an_index_that_is_none_is_refused(content, tmp_path):
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no weight_map from names of tensors to files"):
        load(tmp_path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_types_stay_as_they_are(kind, net, tmp_path):
    state = net.to(kind).state_dict()
    save(tmp_path / "w.safetensors", state)
    assert is_same(load(tmp_path / "w.safetensors"), state)


def test_names_are_those_of_the_bare_model(net, tmp_path):
    state = net.state_dict()
    compiled = torch.compile(net).state_dict()
    averaged = torch.optim.swa_utils.AveragedModel(net).state_dict()
    both = {f"module.{name}": tensor for name, tensor in compiled.items()}
    for content in (compiled, averaged, both, {"state_dict": both, "epoch": 1}):
        save(tmp_path / "w.pt", content)
        assert is_same(load(tmp_path / "w.pt"), state)


def test_a_network_that_torch_has_pruned_is_read_with_its_masks(net, tmp_path):
    prune.l1_unstructured(net[0], "weight", 0.5)
    prune.random_unstructured(net[3], "bias", 1)
    save(tmp_path / "w.pt", net.state_dict())
    file = weights_file.read(tmp_path / "w.pt", "x")
    assert torch.equal(file.tensors["0.weight"], net[0].weight)
    assert torch.equal(file.tensors["3.bias"], net[3].bias)
    assert is_same(file.masks, {"0.weight": net[0].weight_mask > 0, "3.bias": net[3].bias_mask > 0})
    assert file.tensors.keys() == {
        *("0.weight", "0.bias", "3.weight", "3.bias"),
        *(f"1.{name}" for name in net[1].state_dict()),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8), "a is quantised; save the"),
        ([1], "holds a dict, not a state dict of tensors"),
    ],
)
def test_what_are_no_weights_is_refused_in_one_line(content, message, tmp_path):
    save(tmp_path / "w.pt", {"a": content})
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder without weights"):
        load(tmp_path)
    with pytest.raises(ValueError, match="is no file or folder of weights"):
        load(tmp_path / "none")


def test_a_prefix_is_where_most_of_the_names_are():
    wanted = ["conv.weight", "fc.weight", "module.fc.weight"]
    assert fitted(["a.conv.weight", "a.fc.weight", "b.fc.weight"], wanted[:2], "x").names == {
        "a.conv.weight": "conv.weight",
        "a.fc.weight": "fc.weight",
        "b.fc.weight": "b.fc.weight",
    }
    # a model may have a module of a wrapper's name
    assert fitted(["e.fc.weight", "e.module.fc.weight"], wanted, "x").names == {
        "e.fc.weight": "fc.weight",
        "e.module.fc.weight": "module.fc.weight",
    }
    # names as they are come before a copy of them
    assert fitted(["ema.fc.weight", "fc.weight"], wanted[1:2], "x").names == {
        "ema.fc.weight": "ema.fc.weight",
        "fc.weight": "fc.weight",
    }
