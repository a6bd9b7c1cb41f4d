"""Models by name: checks that the model fits the data, then builds it from a seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sms_dist.config import ModelConfig
from sms_dist.lookup import lookup
from sms_dist.models.digits_cnn import digits_cnn
from sms_dist.models.resnet18 import resnet18
from sms_dist.models.resnet_cifar import resnet20
from sms_dist.models.wrn20 import wrn20
from sms_dist.randomness import stream


@dataclass(frozen=True)
class ModelFamily:
    """`build(input_shape, num_classes, **options)`; the options are its keyword-only arguments."""

    build: Callable[..., nn.Module]
    input_shape: tuple[int | None, ...]  # C, H, W; None: any


CIFAR_SHAPE = (3, 32, 32)
MODELS: dict[str, ModelFamily] = {
    "digits_cnn": ModelFamily(digits_cnn, (1, None, None)),
    "resnet20": ModelFamily(resnet20, CIFAR_SHAPE),
    "resnet18": ModelFamily(resnet18, CIFAR_SHAPE),
    "wrn20": ModelFamily(wrn20, CIFAR_SHAPE),
}


def build(
    config: ModelConfig,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    seed: int,
    data_name: str,
) -> nn.Module:
    """The model on the CPU, its weights a function of the seed; global randomness is untouched."""
    family = _checked(config, input_shape, data_name)
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed: that would reseed the CUDA generators too
        torch.default_generator.manual_seed(stream(seed, "init").key)
        model = family.build(input_shape, num_classes, **config.options)
        _initialise_(model)
    return model


def build_on_meta(
    config: ModelConfig, input_shape: tuple[int, ...], num_classes: int, *, data_name: str
) -> nn.Module:
    """The model's shapes and names without memory for its weights."""
    family = _checked(config, input_shape, data_name)
    with torch.device("meta"):
        return family.build(input_shape, num_classes, **config.options)


def _checked(config: ModelConfig, input_shape: tuple[int, ...], data_name: str) -> ModelFamily:
    """The family, once it is known to take these images and options."""
    family = lookup(MODELS, config.name, "model.name")
    if not _fits(family, input_shape):
        fitting = [name for name, other in MODELS.items() if _fits(other, input_shape)]
        raise ValueError(
            f"model.name={config.name} takes {_text(family.input_shape)} images,"
            f" data.name={data_name} gives {_text(input_shape)};"
            f" models for these: {', '.join(fitting) or 'none'}"
        )
    _check_options(config, family)
    return family


def _check_options(config: ModelConfig, family: ModelFamily) -> None:
    parameters = inspect.signature(family.build).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    for name, value in config.options.items():
        default = lookup(defaults, name, "model.options")
        legal = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, legal) or isinstance(value, bool) != isinstance(default, bool):
            raise ValueError(
                f"model.options.{name}={value!r} is no {type(default).__name__};"
                f" the default is {default}"
            )


def _fits(family: ModelFamily, input_shape: tuple[int, ...]) -> bool:
    pairs = zip(family.input_shape, input_shape, strict=True)
    return all(wanted is None or wanted == given for wanted, given in pairs)


def _text(shape: tuple[int | None, ...]) -> str:
    letters = zip("CHW", shape, strict=True)
    return "x".join(letter if size is None else str(size) for letter, size in letters)


def _initialise_(model: nn.Module) -> None:
    """He initialisation of the convolutions; linear layers keep torch's."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
