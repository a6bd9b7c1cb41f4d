"""One process trains a small network on the digits with a rule, the way an engine does."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from sms_dist.config import ModelConfig
from sms_dist.models import build
from sms_dist.pruning.mask import Mask, prunable_names
from sms_dist.sparse_rules import make_rule, rule_class
from sms_dist.sparse_rules.base import Rule, Setup

BATCH, TRAIN = 64, 1408  # of 1797 images; the others are the test


@dataclass
class Result:
    rule: Rule
    latent: dict[str, torch.Tensor]
    tensors: dict[str, torch.Tensor]
    mask: Mask
    accuracy: float

    @property
    def sparsity(self) -> float:
        kept = sum(int(kept.sum()) for kept in self.mask.values())
        return 1 - kept / sum(kept.numel() for kept in self.mask.values())


class Digits:
    def __init__(self) -> None:
        digits = load_digits()
        order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
        self.images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 8 - 1
        self.targets = torch.tensor(digits.target)[order]

    def batches(self, epoch: int):
        generator = torch.Generator().manual_seed(epoch)
        for chosen in torch.randperm(TRAIN, generator=generator).split(BATCH):
            yield self.images[chosen], self.targets[chosen]

    @torch.no_grad()
    def accuracy(self, model) -> float:
        answers = model.eval()(self.images[TRAIN:]).argmax(1)
        return float((answers == self.targets[TRAIN:]).float().mean())


def train(
    name,
    options=None,
    *,
    epochs=6,
    sparsity=0.95,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    width=16,
    seed=0,
    watch=lambda rule, weights: None,
) -> Result:
    """Linear decay of the learning rate; `watch(rule, weights)` is called after each step."""
    config = ModelConfig(options={"width": width})
    digits, model = Digits(), build(config, (1, 8, 8), 10, seed=seed, data_name="digits")
    weights = {n: model.get_parameter(n).detach() for n in prunable_names(model)}
    num_weights = sum(weight.numel() for weight in weights.values())
    controls = rule_class(name).controls_sparsity
    num_kept = num_weights - round(sparsity * num_weights) if controls else None
    steps = -(-TRAIN // BATCH)
    rule = make_rule(name, options or {}, weights, Setup(num_kept, epochs * steps, steps))
    optimizer = torch.optim.SGD(
        [*model.parameters(), *rule.parameters],
        lr=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=rule.allows_nesterov,
    )
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * steps)
    for epoch in range(epochs):
        for images, labels in digits.batches(epoch):
            step(model, rule, weights, optimizer, images, labels)
            decay.step()
            watch(rule, weights)
    latent = {name: weight.clone() for name, weight in weights.items()}
    tensors, mask = rule.finish(weights)
    copy_(weights, tensors)
    recompute_statistics_(model, digits)
    return Result(rule, latent, tensors, mask, digits.accuracy(model))


def step(model, rule, weights, optimizer, images, labels) -> None:
    latent = {name: weight.clone() for name, weight in weights.items()}
    copy_(weights, rule.view(weights))
    optimizer.zero_grad()
    F.cross_entropy(model.train()(images), labels).backward()
    copy_(weights, latent)
    gradients = {name: model.get_parameter(name).grad for name in weights}
    rule.gradients_(weights, gradients)
    optimizer.step()
    rule.after_step_(weights)


def copy_(weights, tensors) -> None:
    for name, weight in weights.items():
        weight.copy_(tensors[name])


@torch.no_grad()
def recompute_statistics_(model, digits) -> None:
    """Batch norm over the training images with the weights as they are now."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()(digits.images[:TRAIN])
