"""Learning rates of pretraining, one for every step."""

from __future__ import annotations

import math
from collections.abc import Callable

from sms_dist.config import PretrainConfig
from sms_dist.lookup import lookup

Body = Callable[[PretrainConfig, int, int], list[float]]  # (config, epochs, steps per epoch)


def constant(config: PretrainConfig, epochs: int, steps: int) -> list[float]:
    return [config.learning_rate] * (epochs * steps)


def linear(config: PretrainConfig, epochs: int, steps: int) -> list[float]:
    num, last = epochs * steps, config.final_learning_rate
    return [last + (config.learning_rate - last) * (1 - i / num) for i in range(num)]


def cosine(config: PretrainConfig, epochs: int, steps: int) -> list[float]:
    num, last = epochs * steps, config.final_learning_rate
    height = (config.learning_rate - last) / 2
    return [last + height * (1 + math.cos(math.pi * i / num)) for i in range(num)]


def steps(config: PretrainConfig, epochs: int, steps: int) -> list[float]:
    """The milestones count epochs of the whole pretraining, warm-up included, from 1."""
    first = config.warmup_epochs + 1
    passed = [sum(m <= epoch for m in config.milestones) for epoch in range(first, first + epochs)]
    return [config.learning_rate * config.decay**n for n in passed for _ in range(steps)]


PRETRAINING: dict[str, Body] = {
    "constant": constant,
    "linear": linear,
    "steps": steps,
    "cosine": cosine,
}


def pretraining_rates(config: PretrainConfig, steps_per_epoch: int) -> list[float]:
    """The rate of every step: a linear warm-up from 0, then the schedule over what is left."""
    body = lookup(PRETRAINING, config.schedule, "pretrain.schedule")
    if config.warmup_epochs > config.epochs:
        raise ValueError(
            f"pretrain.warmup_epochs={config.warmup_epochs} is more than pretrain.epochs="
            f"{config.epochs}; shorten the warm-up"
        )
    num_warmup = config.warmup_epochs * steps_per_epoch
    warmup = [config.learning_rate * i / num_warmup for i in range(num_warmup)]
    return warmup + body(config, config.epochs - config.warmup_epochs, steps_per_epoch)
