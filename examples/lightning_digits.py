"""Sparse Model Soups with Lightning: the digits and the network of mine.py.

    python examples/lightning_digits.py                              # three candidates, in turn
    torchrun --nproc-per-node=2 examples/lightning_digits.py         # two ranks train each of them

It writes the soups of two phases into lightning_digits/.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from mine import BATCH, TRAIN, accuracy, build
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import sms_dist as sms
from sms_dist.callbacks.lightning import HoldMask
from sms_dist.callbacks.phases import Candidate

# isort: split
import lightning.pytorch as pl

FOLDER = Path(sys.argv[1] if sys.argv[1:] else "lightning_digits")
RANKS = int(os.environ.get("WORLD_SIZE", 1))


class Digits(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = build()

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = sms.schedule("llr", optimizer, steps, largest=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batches() -> DataLoader[tuple[Tensor, ...]]:
    """Return the training batches; Lightning divides them among ranks."""
    return DataLoader(TensorDataset(*TRAIN), BATCH // RANKS, shuffle=True, drop_last=True)


def fit(model: Digits, seed: int, epochs: int, callbacks: list[pl.Callback] | None = None) -> None:
    pl.seed_everything(seed, verbose=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        strategy="ddp" if RANKS > 1 else "auto",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model.train()  # Lightning leaves it in evaluation after `accuracy`
    trainer.fit(model, batches())


def train(model: Digits, candidate: Candidate) -> None:
    """Train a candidate in place; its mask is held already."""
    fit(model, candidate.seed, epochs=5)


def main() -> None:
    pl.seed_everything(0, verbose=False)
    model = Digits()
    print_ = print if int(os.environ.get("RANK", 0)) == 0 else lambda _: None
    fit(model, 0, epochs=10)
    print_(f"dense: {accuracy(model):.4f}")

    # One model with a mask: the callback holds it.
    mask = sms.prune(model, 0.7)
    fit(model, 0, 5, [HoldMask(mask)])
    print_(f"{mask.sparsity:.2%} sparse: {accuracy(model):.4f}")

    # Phases of several models, and their soup.
    soups = sms.soup_phases(model, train, [0.85, 0.95], 3, mask=mask, batches=batches())
    for phase in soups:
        angle = phase.soup.distances["angle_mean"]
        print_(f"soup, {phase.mask.sparsity:.2%} sparse: {accuracy(model):.4f}, {angle:.1f} deg")
        FOLDER.mkdir(exist_ok=True)
        if int(os.environ.get("RANK", 0)) == 0:
            save_file(sms.weights(model), FOLDER / f"soup_{phase.number}.safetensors")
            phase.mask.save(FOLDER / f"mask_{phase.number}.safetensors")


if __name__ == "__main__":
    main()
