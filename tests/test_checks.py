"""Every mistake that needs neither data nor ranks to be seen is seen, and told with a way out."""

from __future__ import annotations

import re
import sys
from itertools import product

import pytest
import torch

from sms_dist import data
from sms_dist.base.shipped import shipped
from sms_dist.config import Config, DataConfig
from sms_dist.config.file import load
from sms_dist.data.card import OWN, names
from sms_dist.experiment.checks import check
from sms_dist.experiment.sizes import num_parameters, sizes
from sms_dist.methods import METHODS, recipe
from sms_dist.models import MODELS
from sms_dist.training.trial import trial


@pytest.mark.parametrize("method", METHODS)
def test_a_good_configuration_gives_the_recipe_of_its_method(method: str) -> None:
    goal = "null" if method in ("dst", "str") else "0.9"
    config = load(settings=[f"method.name={method}", f"pruning.goal_sparsity={goal}"])
    assert check(config) == recipe(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("method.name=imq", "method.name=imq is not known, did you mean imp"),
        ("model.name=resnet21", "model.name=resnet21 is not known, did you mean resnet20"),
        ("data.name=cifar11", "data.name=cifar11 is not known, did you mean cifar10"),
        ("soup.rule=gready", "soup.rule=gready is not known, did you mean greedy"),
        ("soup.score=los", "soup.score=los is not known, did you mean loss"),
        (
            "soup.score=bleu",
            "soup.score=bleu is not known; valid values: accuracy, balanced_accuracy",
        ),
        (
            "model.weights=a.pt pretrain.from=runs/b",
            "model.weights=a.pt is where pretraining begins, and pretrain.from=runs/b is where",
        ),
        (
            "data.name=camvid model.name=pspnet data.corruptions=generated",
            "data.corruptions measures classes of images, and data.name=camvid is for segmentation",
        ),
        (
            "pretrain.mask=zeros",
            "pretrain.mask=zeros says what of pretrain.from is pruned, and pre",
        ),
        ("retrain.schedule=alr", "retrain.schedule=alr is not known, did you mean allr"),
        ("pretrain.schedule=linea", "pretrain.schedule=linea is not known, did you mean linear"),
        ("pruning.allocation=globl", "pruning.allocation=globl is not known, did you mean global"),
        ("engine.name=deepsped", "engine.name=deepsped is not known, did you mean deepspeed"),
        ("engine.name=deepspeed engine.precision=fp16", "zero_stage=0 with engine.precision=fp16"),
        ("candidates.vary={schedule: [llr, clr, x]}", "retrain.schedule=x is not known"),
        ("candidates.vary={epochs: [1, 2, 0]}", "candidates.vary.epochs: 0 should be greater"),
        ("pretrain.warmup_epochs=31", "pretrain.warmup_epochs=31 is more than pretrain.epochs=30"),
        ("pretrain.epochs=0", "retrain.schedule=llr needs the learning rates of pretraining"),
        ("soup.rule=greedy data.validation=0.0", "soup.rule=greedy measures soups on validation"),
        ("soup.loss_barrier=true data.validation=0.0", "soup.loss_barrier=true measures soups"),
        ("model.name=resnet20", "takes 3x32x32 images, data.name=digits_distorted gives 1x12x12"),
        ("model.options.widht=3", "model.options=widht is not known, did you mean width"),
        ("pruning.goal_sparsity=0.99999", "leaves none of the 23824 prunable weights"),
        ("soup.rule=greedy candidates.count=1", "soup.rule=greedy chooses among candidates, and"),
        ("soup.rule=learned candidates.count=1", "candidates.count to 2 or more, or soup.rule=uni"),
        ("soup.rule=distilled method.name=gmp_sms", "method.name=gmp_sms trains none; use learned"),
        (
            "engine.name=deepspeed engine.gradients=surviving",
            "engine.gradients=surviving: engine.name=deepspeed exchanges gradients in its own way; "
            "use dense, or engine.name=ddp",
        ),
        (
            "engine.name=deepspeed engine.compile=default",
            "engine.compile=default: engine.name=deepspeed takes its steps in its own way; "
            "use eager, or engine.name=ddp",
        ),
        ("engine.name=packed engine.compile=auto", "engine.name=packed takes its steps in its"),
        ("method.name=dpf engine.name=deepspeed", "which only engine.name=ddp can do"),
        ("engine.name=packed engine.ranks_per_candidate=2", "several candidates on one rank"),
        ("engine.name=packed engine.packing=vmap method.name=dpf", "changes the step of each"),
        ("engine.name=packed engine.packing=vmap engine.precision=fp16", "a scale of the loss"),
        ("candidates.vary={dropout: [1, 2, 3]}", "candidates.vary=dropout is not known"),
        ("candidates.overrides=[{}, {}, {epoch: 3}]", "candidates.overrides[2]=epoch is not known"),
        ("candidates.overrides=[{}, {}]", "candidates.overrides has 2 values for candidates.coun"),
        ("candidates.overrides=[{}, {}, {epochs: 0}]", "candidates.overrides[2].epochs: 0 should"),
        ("candidates.count_per_phase=[3, 2]", "has 2 values for pruning.phases=3"),
        (
            "method.name=gmp method.stepz=3",
            "method.stepz is not a key of method.name=gmp; valid values",
        ),
        ("method.name=swamp method.singl_phases=3", "did you mean single_phases?"),
        ("method.name=lc method.mu=0", "method.mu=0 should be greater than 0"),
        ("method.name=str", "method.name=str cannot prune to an exact sparsity"),
        ("method.name=dst", "set pruning.goal_sparsity=null"),
        ("pruning.goal_sparsity=null", "method.name=sms prunes to a goal; give one"),
        ("method.name=gmp pretrain.from=x", "method.name=gmp prunes while it trains"),
        ("method.name=gmp pretrain.epochs=3", "pretrain.epochs=3 is the whole training of method"),
        ("method.name=bimp pretrain.epochs=4", "1 are left for pruning.phases=3"),
        (
            "method.name=imp_reprune candidates.count_per_phase=[2,3,3]",
            "their number must not rise",
        ),
        ("method.name=swamp retrain.epochs=31", "replays the last of them; lower it"),
        ("method.name=swamp pretrain.keep_epoch=3", "rewinds to epoch 20"),
        ("pretrain.keep_epoch=31", "pretrain.keep_epoch=31 is after the 30 epochs"),
        ("method.name=gmp_sms candidates.vary={epochs: [1, 2, 3]}", "candidates vary in epochs"),
        ("method.name=gmp_sms method.copies_from=29", "after the last pruning step, at epoch 22"),
    ],
)
def test_a_mistake_is_named(settings: str, message: str) -> None:
    words = re.split(r" (?=\w+\.)", settings)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check(load(settings=words))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        ["pretrain.epochs=0", "pretrain.from=runs/dense"],
        ["pretrain.epochs=0", "method.name=dense"],
        ["soup.rule=greedy", "data.validation=0.0", "method.name=imp"],
        ["pruning.goal_sparsity=0.9999"],  # 2 of 23,824 weights
        ["candidates.vary={schedule: [llr, clr, ft]}"],
    ],
)
def test_what_only_looks_like_a_mistake_passes(settings: list[str]) -> None:
    config = load(settings=settings)
    assert check(config) == recipe(config)


def test_models_on_data_that_they_do_not_take_are_refused() -> None:
    for model, name in product(MODELS, [name for name in names() if name != OWN]):
        family, info = MODELS[model], data.described(DataConfig(name=name))
        if not (family.takes(info.input_shape) and family.does(info.task)):
            config = load(settings=[f"model.name={model}", f"data.name={name}"])
            with pytest.raises(ValueError, match=f"model.name={model} (takes|is for)"):
                num_parameters(config, info)


@pytest.mark.parametrize("samples", [2874, 1000, 998])
def test_sizes_count_steps_as_training_does(samples: int) -> None:
    settings = [f"data.train_samples={samples}", "data.validation=0.25", "data.batch_size=7"]
    config = load(settings=settings)
    loaders = data.load(config.data).loaders(config.data.batch_size, torch.device("cpu"))
    planned = sizes(config, data.info(config.data))
    assert planned.steps_per_epoch == loaders.train.num_steps


def test_options_change_the_sizes() -> None:
    config = load(settings=["model.options.width=8"])
    info = data.info(config.data)
    assert num_parameters(config, info) != num_parameters(Config(), info)


@pytest.mark.parametrize("mode", ["default", "auto"])
def test_translation_is_not_compiled(mode: str) -> None:
    file = shipped("configs") / "multi30k_t5_small.yaml"
    with pytest.raises(ValueError, match=rf"^engine.compile={mode}: .*sentences.*; use eager$"):
        check(load(file, [f"engine.compile={mode}"]))
    check(load(file))


NETS = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, classes, key):
        super().__init__()
        self.layer, self.key, self.unused = nn.Linear(64, classes), key, nn.Linear(2, 2)
    def forward(self, x):
        out = self.layer(x.flatten(1))
        if self.key == "value" and out.sum().item() > 1e9:
            return None
        return [out] if self.key == "list" else {self.key: out}

def thousand(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))

def net(shape, classes, *, key: str = "logits"):
    return Net(classes, key)

def normed(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))

def odd(shape, classes, *, kind: str):
    flat = nn.Flatten()
    if kind == "lazy":
        return nn.Sequential(flat, nn.LazyLinear(classes))
    if kind == "late":
        return Late(classes)
    if kind == "compiled":
        return torch.compile(nn.Sequential(flat, nn.Linear(64, classes)))
    if kind == "wrong size":
        return nn.Sequential(flat, nn.Linear(63, classes))
    if kind == "values":  # asked for when it is made
        return nn.Sequential(flat, nn.Linear(64, classes), nn.Dropout(torch.tensor(0.5).item()))
    return Blocks({"standardised": Standard, "normalised": Unit}[kind], classes)

class Late(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.layer, self.classes = nn.Linear(64, 64), None, classes
    def forward(self, x):
        self.layer = self.layer or nn.Linear(64, self.classes)
        return self.layer(self.first(x.flatten(1)))

class Standard(nn.Linear):  # what is stored as zero is none
    def forward(self, x):
        return F.linear(x, self.weight - self.weight.mean(1, keepdim=True))

class Unit(nn.Linear):  # a zero stays a zero
    def forward(self, x):
        return F.linear(x, F.normalize(self.weight))

class Blocks(nn.Module):
    def __init__(self, layer, classes):
        super().__init__()
        self.blocks = nn.Sequential(layer(64, 8), layer(8, 8))
        self.first, self.head = layer(64, 64), nn.Linear(8, classes)
    def forward(self, x):
        return self.head(self.blocks(self.first(x.flatten(1))))

class Experts(nn.Module):  # a sample is for one of them; the mean of what was given is stored
    def __init__(self, classes):
        super().__init__()
        self.gate, self.unused = nn.Linear(64, 3), nn.Linear(2, 2)
        self.experts = nn.ModuleList(nn.Linear(64, classes) for _ in range(3))
        self.register_buffer("mean", torch.zeros(64))
        self.register_buffer("constant", torch.ones(64))
        self.norm = nn.BatchNorm1d(64)
    def forward(self, x):
        x = self.norm(x.flatten(1))
        self.mean.lerp_(x.detach().mean(0), 0.1)
        share, number = self.gate(x + self.mean * self.constant).softmax(1).max(1)
        outputs = torch.stack([self.experts[i](x[j]) for j, i in enumerate(number.tolist())])
        return outputs * share[:, None]

def experts(shape, classes):
    return Experts(classes)
"""
KIND = "theirs_nets:odd model.options.kind="
ALL = "keep_dense=[blocks.*.weight, first.weight]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("theirs_nets:thousand", r"returns (2, 1000) for 2 samples, and data.name=digits has 10"),
        ("theirs_nets:net model.options.key=scores", "returns a dict with scores; return the log"),
        ("theirs_nets:net model.options.key=list", "returns a list; return the logits as a tensor"),
        ("theirs_nets:normed data.batch_size=1", "data.batch_size=1 leaves a rank one sample"),
        ("theirs_nets:normed engine.ranks_per_candidate=8 data.batch_size=16", "one sample of a"),
        ("theirs_nets:net", None),
        (f"{KIND}lazy", "odd: 1.weight has no shape before the model is called; call it once in"),
        (f"{KIND}late", "odd makes layer.weight when it is called; call it once in its build"),
        (f"{KIND}compiled", "odd returned a OptimizedModule, which wraps or replaces the module"),
        (f"{KIND}'wrong size'", "odd raised RuntimeError: mat1 and mat2 shapes cannot be multip"),
        (f"{KIND}values", None),
        (f"{KIND}normalised", None),
        (f"{KIND}standardised", ALL),
        (f"{KIND}standardised pruning.{ALL}", None),
    ],
)
def test_a_training_step_without_values_shows_what_a_model_returns(
    tmp_path, monkeypatch, settings, message
):
    (tmp_path / "theirs_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = re.split(r" (?=[a-z._]+=)", f"model.name={settings}")
    config = load(settings=["data.name=digits", *words])
    if message is None:
        check(config)
    else:
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            check(config)
        assert "\n" not in str(caught.value)


def test_what_some_steps_use_is_not_unused_and_buffers_that_are_written_are_named(
    tmp_path, monkeypatch
):
    (tmp_path / "theirs_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs_nets", raising=False)
    config = load(settings=["data.name=digits", "model.name=theirs_nets:experts"])
    found = trial(config, data.described(config.data))
    assert found.unused == ()
    assert sum(name.startswith("experts.") for name in found.occasional) >= 2
    assert "gate.weight" not in found.occasional
    assert found.updated == ("mean",)
