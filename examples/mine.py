"""A model, its data and its measure, as `digits_soup.py` imports them: put your own here.

`python mine.py` trains the dense model and writes dense.safetensors into the current folder.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

import sms_dist as sms

BATCH = 64
images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = images.float().view(-1, 1, 8, 8) / 16
is_test = torch.arange(len(labels)) % 5 == 0
TRAIN, TEST = (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])
LENGTH = len(TRAIN[0]) // BATCH  # steps of an epoch


def build() -> nn.Module:
    """Return the model with new weights."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 10)),
    )


def epoch(seed: int, rank: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this rank's share of each batch of an epoch, whose order follows from the seed."""
    order = torch.randperm(len(TRAIN[0]), generator=torch.Generator().manual_seed(seed))
    for batch in order[: LENGTH * BATCH].split(BATCH):
        own = batch[rank::size]
        yield TRAIN[0][own], TRAIN[1][own]


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    """Return the fraction of the test images that a model classifies correctly."""
    model.eval()
    return float((model(TEST[0]).argmax(1) == TEST[1]).float().mean())


def main() -> None:
    torch.manual_seed(0)
    model, epochs = build(), 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    rate = sms.schedule("llr", optimizer, epochs * LENGTH, largest=0.1)
    for e in range(epochs):
        for x, y in epoch(sms.seed(0, "dense", e), 0, 1):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            rate.step()
    save_file(sms.weights(model), "dense.safetensors")
    print(f"dense: {accuracy(model):.4f}")


if __name__ == "__main__":
    main()
