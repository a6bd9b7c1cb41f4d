"""Every mistake that needs neither data nor ranks to be seen is seen, and told with a way out."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch

import data
from sms_dist.checks import check
from sms_dist.config import Config
from sms_dist.config_file import load
from sms_dist.methods import METHODS, phases
from sms_dist.models import MODELS
from sms_dist.sizes import FAMILIAR, count_parameters, num_parameters, sizes


@pytest.mark.parametrize("method", METHODS)
def test_a_good_configuration_gives_the_phases_of_its_method(method: str) -> None:
    config = load(settings=[f"method.name={method}"])
    assert check(config) == phases(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("method.name=imq", "method.name=imq is not known, did you mean imp"),
        ("model.name=resnet21", "model.name=resnet21 is not known, did you mean resnet20"),
        ("data.name=cifar11", "data.name=cifar11 is not known, did you mean cifar10"),
        ("soup.rule=gready", "soup.rule=gready is not known, did you mean greedy"),
        ("retrain.schedule=alr", "retrain.schedule=alr is not known, did you mean allr"),
        ("pretrain.schedule=linea", "pretrain.schedule=linea is not known, did you mean linear"),
        ("pruning.allocation=globl", "pruning.allocation=globl is not known, did you mean global"),
        ("engine.name=deepsped", "engine.name=deepsped is not known, did you mean deepspeed"),
        ("candidates.vary={schedule: [llr, clr, x]}", "retrain.schedule=x is not known"),
        ("candidates.vary={epochs: [1, 2, 0]}", "candidates.vary.epochs: 0 should be greater"),
        ("pretrain.warmup_epochs=31", "pretrain.warmup_epochs=31 is more than pretrain.epochs=30"),
        ("pretrain.epochs=0", "retrain.schedule=llr needs the learning rates of pretraining"),
        ("soup.rule=greedy data.validation=0.0", "soup.rule=greedy measures soups on validation"),
        ("soup.loss_barrier=true data.validation=0.0", "soup.loss_barrier=true measures soups"),
        ("model.name=resnet20", "takes 3x32x32 images, data.name=digits_distorted gives 1x12x12"),
        ("model.options.widht=3", "model.options=widht is not known, did you mean width"),
        ("pruning.goal_sparsity=0.99999", "leaves none of the 23824 prunable weights"),
    ],
)
def test_a_mistake_is_named(settings: str, message: str) -> None:
    words = [settings] if "vary" in settings else settings.split()
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
    assert check(config) == phases(config)


def test_familiar_sizes_are_those_of_the_models() -> None:
    """Of all models on all data sets whose images they take."""
    seen = set()
    for model, (name, source) in product(MODELS, data.DATASETS.items()):
        config = load(settings=[f"model.name={model}", f"data.name={name}"])
        key = (model, source.info.input_shape, source.info.num_classes)
        if key in FAMILIAR:
            seen.add(key)
            assert num_parameters(config, source.info) == count_parameters(config, source.info)
        else:
            with pytest.raises(ValueError, match="takes"):
                sizes(config, source.info)
    assert seen == set(FAMILIAR)


@pytest.mark.parametrize("samples", [2874, 1000, 998])
def test_sizes_count_steps_as_training_does(samples: int) -> None:
    settings = [f"data.train_samples={samples}", "data.validation=0.25", "data.batch_size=7"]
    config = load(settings=settings)
    loaders = data.loaders(data.load(config.data), config.data.batch_size, torch.device("cpu"))
    planned = sizes(config, data.info(config.data))
    assert planned.steps_per_epoch == loaders.train.num_steps


def test_options_change_the_sizes() -> None:
    config = load(settings=["model.options.width=8"])
    info = data.info(config.data)
    assert num_parameters(config, info) == count_parameters(config, info)
    assert num_parameters(config, info) != num_parameters(Config(), info)
