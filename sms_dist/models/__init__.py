"""Models by name: checks that the model fits the data, then builds it from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from sms_dist.base.lookup import guarded, lookup_open, nearest
from sms_dist.base.randomness import stream
from sms_dist.config import ModelConfig
from sms_dist.models import weights
from sms_dist.models.convnets import digits_cnn, maxvit_t, vgg16_bn
from sms_dist.models.family import ModelFamily, check_options, inputs_text
from sms_dist.models.hugging_face import PREFIX, t5, timm_family
from sms_dist.models.pspnet import pspnet
from sms_dist.models.resnets import resnet18, resnet20, resnet50, wrn20
from sms_dist.pruning.wrappers import bare

CIFAR_SHAPE, IMAGES = (3, 32, 32), (3, None, None)
MODELS: dict[str, ModelFamily] = {
    "digits_cnn": ModelFamily(digits_cnn, (1, None, None)),
    "resnet20": ModelFamily(resnet20, CIFAR_SHAPE),
    "resnet18": ModelFamily(resnet18, IMAGES),
    "resnet50": ModelFamily(resnet50, IMAGES),
    "wrn20": ModelFamily(wrn20, CIFAR_SHAPE),
    "vgg16_bn": ModelFamily(vgg16_bn, IMAGES),
    "maxvit_t": ModelFamily(maxvit_t, IMAGES),
    "pspnet": ModelFamily(pspnet, IMAGES, task="segmentation"),
    "t5": ModelFamily(t5, (None,), task="translation"),
}


def build(
    config: ModelConfig,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    seed: int,
    data_name: str,
    task: str = "classification",
) -> nn.Module:
    """Return the model on the CPU with its initial weights, from a file or by the seed.

    Global randomness is untouched.
    """
    family = _checked(config, input_shape, data_name, task)
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed: that would reseed the CUDA generators too
        torch.default_generator.manual_seed(stream(seed, "init").key)
        model = _built(family, config, input_shape, num_classes)
    if config.weights is not None:
        given = weights.read(config.weights, model, except_=config.weights_except, name=config.name)
        model.load_state_dict(given.state, strict=False)
    return model


def build_on_meta(
    config: ModelConfig,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    data_name: str,
    task: str = "classification",
) -> nn.Module:
    """Return the model on the meta device: shapes and names without memory for weights."""
    family = _checked(config, input_shape, data_name, task)
    try:
        with torch.device("meta"):
            return _built(family, config, input_shape, num_classes)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        if "meta" not in str(error):
            raise
    with torch.random.fork_rng(devices=[]):  # it asks for values while it is made
        return _built(family, config, input_shape, num_classes).to("meta")


def _built(
    family: ModelFamily, config: ModelConfig, input_shape: tuple[int, ...], num_classes: int
) -> nn.Module:
    model = family.build(input_shape, num_classes, **config.options)
    if not isinstance(model, nn.Module):  # a function of the user's may return anything
        raise ValueError(
            f"model.name={config.name} returned a {type(model).__name__}, not a torch.nn.Module"
        )
    if isinstance(model, torch.jit.ScriptModule) or bare(model) is not model:
        raise ValueError(
            f"model.name={config.name} returned a {type(model).__name__}, which wraps or replaces "
            "the module to be trained; return that module (engine.compile compiles it)"
        )
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise ValueError(
                f"model.name={config.name}: {name} has no shape before the model is called; call "
                f"it once in its build function, with torch.zeros(1, *input_shape)"
            )
    _freeze(model, config.freeze)
    if ":" in config.name:
        model.register_forward_hook(_logits)
    return model


def _freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters of these names, modules or patterns; ValueError for unknown ones."""
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        chosen = [n for n in parameters if fnmatchcase(n, pattern) or n.startswith(f"{pattern}.")]
        if not chosen:
            near = nearest(pattern, [*parameters, *(n for n, _ in model.named_modules() if n)])
            raise ValueError(f"model.freeze={pattern} is no parameter or module{near}")
        for name in chosen:
            parameters[name].requires_grad_(False)
    if patterns and not any(p.requires_grad for p in parameters.values()):
        raise ValueError(f"model.freeze={list(patterns)} freezes all parameters; leave some out")


def _logits(model: nn.Module, inputs: object, outputs: Any) -> Any:
    """Take the logits out of a mapping, such as the outputs of transformers' models."""
    return outputs["logits"] if isinstance(outputs, Mapping) and "logits" in outputs else outputs


def _checked(
    config: ModelConfig, input_shape: tuple[int, ...], data_name: str, task: str
) -> ModelFamily:
    """Return the family; ValueError unless it is for the task and takes inputs and options."""
    name = config.name
    if name.startswith(PREFIX):
        family = timm_family(name)
    else:
        family = lookup_open(MODELS, name, "model.name", partial(_own_family, name))
    problem = None
    if not family.does(task):
        problem = f"is for {family.task}, data.name={data_name} is for {task}"
    elif not family.takes(input_shape):
        taken = inputs_text(family.input_shape or ())
        problem = f"takes {taken}, data.name={data_name} gives {'x'.join(map(str, input_shape))}"
    if problem is not None:
        fitting = [
            n for n, other in MODELS.items() if other.does(task) and other.takes(input_shape)
        ]
        raise ValueError(
            f"model.name={config.name} {problem}; models for these: {', '.join(fitting) or 'none'}"
        )
    check_options(family.build, config.options, input_shape, config.name)
    return family


def _own_family(name: str, function: Callable[..., Any]) -> ModelFamily:
    """Return the family of a user's own model: for any inputs, and the task that it may name."""
    build = guarded(function, name, "model.name")
    return ModelFamily(build, input_shape=None, task=getattr(function, "task", None))
