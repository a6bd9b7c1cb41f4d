"""Bare states hold each tensor once, and give all of them back."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from sms_dist.config import ModelConfig
from sms_dist.models import build, build_on_meta
from sms_dist.models.weights import assign_
from sms_dist.soups.states import aliases, bare_state

SIZES = {"d_model": 8, "d_ff": 16, "d_kv": 4, "num_heads": 2, "num_layers": 1}
NEEDS_TEXT = pytest.mark.skipif(find_spec("transformers") is None, reason="no transformers")
EMBEDDINGS = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.norm = nn.BatchNorm1d(3)
        self.again = self.norm
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def t5(make=build, **options):
    config = ModelConfig(name="t5", options=SIZES | options)
    seed = {"seed": options.pop("seed", 0)} if make is build else {}
    return make(config, (8,), 20, **seed, data_name="x", task="translation")


def test_tied_parameters_and_buffers_have_one_name():
    model = Tied()
    assert list(bare_state(model)) == [
        "first.weight",
        *(f"norm.{n}" for n in model.norm.state_dict()),
    ]
    assert aliases(model)["second.weight"] == "first.weight"
    assert aliases(model)["again.running_mean"] == "norm.running_mean"


def test_a_bare_state_restores_everything():
    model, other = Tied(), Tied()
    report = other.load_state_dict(bare_state(model), strict=False)
    assert not report.unexpected_keys
    assert torch.equal(other.second.weight, model.first.weight)


def test_assigned_tensors_stay_tied():
    with torch.device("meta"):
        model = Tied()
    state = bare_state(Tied())
    assign_(model, state)
    assert model.second.weight is model.first.weight
    assert model.again.running_mean is model.norm.running_mean
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    assert torch.equal(model.second.weight, state["first.weight"])


@NEEDS_TEXT
@pytest.mark.parametrize(
    ("tied", "others"), [(False, EMBEDDINGS), (True, EMBEDDINGS | {"lm_head.weight"})]
)
def test_t5_shares_its_embedding(tied, others):
    model = t5(tied=tied)
    state = bare_state(model)
    assert set(aliases(model)) == others
    assert set(state) == {name for name, _ in model.named_parameters()}
    other = build(
        ModelConfig(name="t5", options=SIZES | {"tied": tied}),
        (8,),
        20,
        seed=1,
        data_name="x",
        task="translation",
    )
    other.load_state_dict(state, strict=False)
    full = model.state_dict()
    assert all(torch.equal(tensor, full[name]) for name, tensor in other.state_dict().items())


@NEEDS_TEXT
@pytest.mark.parametrize("tied", [False, True])
def test_a_t5_from_the_meta_device_works_with_assigned_tensors(tied):
    model, meta = t5(tied=tied).eval(), t5(build_on_meta, tied=tied).eval()
    assign_(meta, bare_state(model))
    source, target = torch.tensor([[5, 6, 1]]), torch.tensor([[0, 4]])
    assert torch.equal(meta(source, target), model(source, target))
    assert torch.equal(meta.translate(source, 4), model.translate(source, 4))
