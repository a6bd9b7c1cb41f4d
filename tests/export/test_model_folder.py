"""An exported folder builds the same model again, and damage is told."""

import json
import sys

import pytest
import torch

from sms_dist.base.lookup import search_beside
from sms_dist.config import ModelConfig
from sms_dist.export.folder import Description, built, load, write
from sms_dist.models import build
from sms_dist.models.hugging_face import library

SHAPE = (1, 8, 8)
DESCRIPTION = Description(
    model=ModelConfig(options={"width": 4}),
    data="digits",
    input_shape=SHAPE,
    classes=[str(i) for i in range(10)],
    sparsity=0.9,
    score="accuracy",
    test_score=0.5,
    is_shrunk=False,
)
IMAGES = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    return build(DESCRIPTION.model, SHAPE, 10, seed=3, data_name="digits").eval()


@pytest.fixture
def folder(tmp_path, model):
    write(tmp_path / "model", DESCRIPTION, model.state_dict(), model)
    return tmp_path / "model"


def narrower(state):
    """Without the first filter of the second convolution."""
    cut = {name: t[1:] if name.split(".")[0] in ("conv2", "norm2") and t.ndim else t
           for name, t in state.items()}  # fmt: skip
    return cut | {"conv3.weight": state["conv3.weight"][:, 1:]}


def test_a_model_comes_back(folder, model):
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]
    again = load(folder)
    assert not again.training
    assert all(p.requires_grad for p in again.parameters())
    assert torch.equal(again(IMAGES), model(IMAGES))


def test_a_shrunk_model_comes_back(tmp_path, model):
    state = narrower(model.state_dict())
    write(tmp_path / "small", DESCRIPTION, state, built(DESCRIPTION, state))
    again = load(tmp_path / "small")
    assert again.conv2.out_channels == again.norm2.num_features == again.conv3.in_channels == 7
    assert torch.equal(again(IMAGES), built(DESCRIPTION, state)(IMAGES))


def test_the_description_says_what_is_in_the_weights(folder, model):
    said = json.loads((folder / "model.json").read_text())
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert said["shapes"] == shapes
    assert (said["model"]["name"], said["model"]["options"]) == ("digits_cnn", {"width": 4})
    assert (said["sparsity"], said["test_score"], said["is_shrunk"]) == (0.9, 0.5, False)


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path, model):
    (tmp_path / "new").mkdir()
    write(tmp_path / "new", DESCRIPTION, model.state_dict(), model)
    with pytest.raises(ValueError, match="new is there already; name a new folder"):
        write(tmp_path / "new", DESCRIPTION, {}, model)
    with pytest.raises(ValueError, match="complex128"):
        write(
            tmp_path / "x" / "y", DESCRIPTION, {"a": torch.zeros(1, dtype=torch.complex128)}, model
        )
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.json", None, "is no exported model: it has no model.json"),
        ("model.json", "{", "model.json: the file: Invalid JSON"),
        ("model.json", "{}", "model.json: model: Field required; export it again"),
        ("weights.safetensors", None, "weights.safetensors is missing"),
        ("weights.safetensors", "x", "differs from its checksum in model.json"),
    ],
)
def test_damage_is_named(folder, file, content, message):
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv9.weight": torch.ones(1)}, "model.name=digits_cnn: conv9.weight does not belong"),
        ({"conv1.weight": torch.ones(9, 1, 3, 3)}, r"shape \(9, 1, 3, 3\), of \(4, 1, 3, 3\) at"),
        ({"conv1.weight": torch.ones(4)}, r"conv1.weight has the shape \(4,\)"),
    ],
)
def test_weights_of_another_model_are_refused(model, change, message):
    with pytest.raises(ValueError, match=message):
        built(DESCRIPTION, model.state_dict() | change)


def test_missing_weights_are_refused(model):
    state = model.state_dict()
    del state["norm1.bias"]
    with pytest.raises(ValueError, match=r"norm1\.bias is missing"):
        built(DESCRIPTION, state)


HIDDEN = """
import itertools
import torch
from torch import nn

COUNT = itertools.count(1)

class Hidden(nn.Module):
    \"\"\"Values that no file of weights holds: a buffer, and a tensor that is not even that.\"\"\"

    def __init__(self, scale):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.register_buffer("mask", torch.rand(64) + scale, persistent=False)
        self.shift = torch.rand(10)

    def forward(self, x):
        return {"logits": self.layer(x.flatten(1) * self.mask) + self.shift}

def steady(input_shape, num_classes):
    return Hidden(0.0)

def unsteady(input_shape, num_classes):
    return Hidden(next(COUNT))

class Words(nn.Embedding):
    def forward(self, x):
        return super().forward(x)  # takes whole numbers

def words(input_shape, num_classes):
    return Words(4, 10)
"""


@pytest.fixture
def described(tmp_path):
    (tmp_path / "hidden.py").write_text(HIDDEN)
    search_beside(tmp_path / "x.yaml")
    yield lambda name: DESCRIPTION.model_copy(
        update={"model": ModelConfig(name=f"hidden:{name}"), "seed": 7}
    )
    sys.modules.pop("hidden", None)


def test_what_no_file_of_weights_holds_comes_back_as_well(tmp_path, described):
    description = described("steady")
    model = build(description.model, SHAPE, 10, seed=7, data_name="digits").eval()
    with torch.no_grad():
        model.layer.weight += 1
    assert "mask" not in model.state_dict()
    assert write(tmp_path / "new", description, model.state_dict(), model) == ""
    assert torch.equal(load(tmp_path / "new")(IMAGES), model(IMAGES))


def test_a_model_that_is_built_another_way_each_time_is_not_written(tmp_path, described):
    description = described("unsteady")
    model = build(description.model, SHAPE, 10, seed=7, data_name="digits").eval()
    with pytest.raises(ValueError, match="its outputs differ") as error:
        write(tmp_path / "a" / "b", description, model.state_dict(), model)
    assert len(str(error.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["hidden.py"]


def test_weights_that_are_not_those_of_the_model_are_not_written(tmp_path, model):
    other = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="its outputs differ"):
        write(tmp_path / "new", DESCRIPTION, other, model)
    assert not [*tmp_path.iterdir()]


def test_a_model_that_takes_no_made_up_batch_is_compared_by_its_tensors(tmp_path, described):
    description = described("words")
    model = build(description.model, SHAPE, 10, seed=7, data_name="digits").eval()
    assert "RuntimeError" in write(tmp_path / "new", description, model.state_dict(), model)
    assert torch.equal(load(tmp_path / "new").weight, model.weight)


def test_a_transformer_with_buffers_that_are_not_stored_comes_back(tmp_path):
    library("timm", "timm", "this test")
    options = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "window_size": 4}
    config = ModelConfig(name="timm:swin_tiny_patch4_window7_224", options=options)
    facts = {"model": config, "input_shape": (3, 32, 32), "data": "mine"}
    description = DESCRIPTION.model_copy(update=facts)
    model = build(config, (3, 32, 32), 10, seed=0, data_name="mine").eval()
    assert {n for n, _ in model.named_buffers()} - model.state_dict().keys()
    assert write(tmp_path / "new", description, model.state_dict(), model) == ""
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load(tmp_path / "new")(images), model(images))
