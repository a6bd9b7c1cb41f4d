"""Sparse Model Soups in a loop with accelerate: the digits and the network of mine.py.

    python examples/accelerate_loop.py                               # three candidates, in turn
    torchrun --nproc-per-node=2 examples/accelerate_loop.py          # two ranks train each of them

`accelerate launch` starts it, too. It writes the soups of two phases into accelerate_loop/.
"""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from mine import BATCH, TRAIN, accuracy, build
from safetensors.torch import save_file
from torch.utils.data import DataLoader, TensorDataset

import sms_dist as sms

FOLDER = Path(sys.argv[1] if sys.argv[1:] else "accelerate_loop")
ACCUMULATE, CANDIDATES = 2, 3
accelerator = Accelerator(gradient_accumulation_steps=ACCUMULATE, cpu=not torch.cuda.is_available())
mesh = sms.Mesh(accelerator.num_processes)  # all ranks train a candidate together


def batches() -> DataLoader[tuple[torch.Tensor, ...]]:
    size = BATCH // ACCUMULATE // mesh.data_size
    return DataLoader(TensorDataset(*TRAIN), size, shuffle=True, drop_last=True)


def train(model: torch.nn.Module, seed: int, epochs: int, mask: sms.Mask | None) -> sms.State:
    """Train a model in place, and return its weights."""
    set_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    held = sms.hold(model, mask or {}, optimizer)
    wrapped, prepared, loader = accelerator.prepare(model, optimizer, batches())
    steps = epochs * math.ceil(len(loader) / ACCUMULATE)
    rate = sms.schedule("llr", optimizer, steps, largest=3e-3)
    wrapped.train()
    for _ in range(epochs):
        for images, labels in loader:
            with accelerator.accumulate(wrapped):
                accelerator.backward(F.cross_entropy(wrapped(images), labels))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
                prepared.step()
                prepared.zero_grad()
            if accelerator.sync_gradients:
                rate.step()
    held.check()
    held.release()
    return sms.weights(wrapped)


def main() -> None:
    set_seed(0)
    model = build().to(accelerator.device)
    sms.load_(model, train(model, 0, 6, None))
    accelerator.print(f"dense: {accuracy(model):.4f}")
    mask = None
    for phase, sparsity in enumerate(sms.sparsities(0.9, phases=2), 1):
        mask = sms.prune(model, sparsity, mask=mask)
        states = {}
        for i in mesh.mine(CANDIDATES):
            seed = sms.seed(0, "candidate", phase, i) % 2**32
            states[i] = train(copy.deepcopy(model), seed, 3, mask)
        soup = sms.soup(states, mask, mesh)
        sms.load_(model, soup.state)
        share = accelerator.prepare(batches())
        sms.recompute_norms(model, share, mesh)
        accelerator.print(f"soup, {mask.sparsity:.2%} sparse: {accuracy(model):.4f}")
        if accelerator.is_main_process:
            FOLDER.mkdir(exist_ok=True)
            save_file(sms.weights(model), FOLDER / f"soup_{phase}.safetensors")
            mask.save(FOLDER / f"mask_{phase}.safetensors")
    accelerator.end_training()


if __name__ == "__main__":
    main()
