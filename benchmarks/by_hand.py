"""A phase of Sparse Model Soups without this framework: a script for a candidate, and one to merge.

python benchmarks/by_hand.py train IMAGES DENSE --seed 0 --to 0.safetensors
python benchmarks/by_hand.py merge IMAGES 0.safetensors 1.safetensors --to soup.safetensors

The way published code goes about it, as the baseline of benchmarks/phase.py: every job prunes with
torch.nn.utils.prune, trains on a DataLoader of PIL images, and leaves a file for the merge script.
Prints what took how long. Only the model is the framework's, so that both train the same.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from sms_dist.base.vision import torchvision
from sms_dist.models.resnets import resnet20

SPARSITY, BATCH_SIZE, WARMUP = 0.9, 64, 0.1
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
began = time.perf_counter()
seconds: dict[str, float] = {}  # by part, without the start of Python


def lap(name: str) -> None:
    """What was done since the last lap."""
    seconds[name] = time.perf_counter() - began - sum(seconds.values())


class Images(Dataset):
    """As torchvision.datasets.CIFAR10: an array in memory, a PIL image when asked for."""

    def __init__(self, file: str, split: str, augment: bool) -> None:
        stored = load_file(file)
        self.images = stored[f"{split}.images"].permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = stored[f"{split}.targets"].tolist()
        transforms = torchvision().transforms
        moved = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.transform = transforms.Compose((moved if augment else []) + last)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


def loader(file: str, split: str, augment: bool = False) -> DataLoader:
    images = Images(file, split, augment)
    return DataLoader(images, BATCH_SIZE, shuffle=augment, num_workers=2, persistent_workers=True)


def load(width: int, file: str) -> nn.Module:
    model = resnet20((3, 32, 32), 10, width=width)
    model.load_state_dict(load_file(file))
    return model


@torch.no_grad()
def accuracy(model: nn.Module, batches: DataLoader) -> float:
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in batches)
    return right / len(batches.dataset)


def fit(model: nn.Module, batches: DataLoader, epochs: int) -> None:
    """SGD with a linear warm-up and a linear end."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * len(batches)
    rise = WARMUP * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, (steps - step) / (steps - rise))
    )
    model.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()


@click.group()
def main() -> None:
    """The jobs."""


@main.command()
@click.argument("images")
@click.argument("dense")
@click.option("--width", default=16)
@click.option("--epochs", default=3)
@click.option("--seed", default=0)
@click.option("--to", required=True)
def train(images: str, dense: str, width: int, epochs: int, seed: int, to: str) -> None:
    """Prune the dense weights, and retrain them."""
    torch.manual_seed(seed)
    model = load(width, dense)
    batches, test = loader(images, "train", augment=True), loader(images, "test")
    lap("data")
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    pruned = [(layer, "weight") for layer in layers]
    prune.global_unstructured(pruned, prune.L1Unstructured, amount=SPARSITY)
    lap("prune")
    fit(model, batches, epochs)
    lap("train")
    score = accuracy(model, test)
    lap("evaluate")
    for layer, name in pruned:
        prune.remove(layer, name)
    save_file(model.state_dict(), to)
    lap("save")
    print(json.dumps({"seconds": seconds, "accuracy": score}))


@main.command()
@click.argument("images")
@click.argument("candidates", nargs=-1)
@click.option("--width", default=16)
@click.option("--to", required=True)
def merge(images: str, candidates: tuple[str, ...], width: int, to: str) -> None:
    """Average the candidates, and measure the soup."""
    states = [load_file(file) for file in candidates]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0)
        for name, tensor in states[0].items()
        if tensor.is_floating_point()
    }
    model = load(width, candidates[0])
    model.load_state_dict(mean, strict=False)
    lap("average")
    update_bn(loader(images, "train"), model)
    lap("batch norm")
    score = accuracy(model, loader(images, "test"))
    lap("evaluate")
    save_file(model.state_dict(), to)
    print(json.dumps({"seconds": seconds, "accuracy": score}))


if __name__ == "__main__":
    main()
