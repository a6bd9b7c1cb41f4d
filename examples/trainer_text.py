"""Sparse Model Soups with the Trainer of Hugging Face: a small language model of made-up text.

    python examples/trainer_text.py                                  # two candidates, in turn
    torchrun --nproc-per-node=2 examples/trainer_text.py             # two ranks train each of them

It writes the soups of two phases into trainer_text/, as from_pretrained reads them.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch

import sms_dist as sms
from sms_dist.callbacks.phases import Candidate
from sms_dist.callbacks.transformers import HoldMask

# isort: split
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

FOLDER = Path(sys.argv[1] if sys.argv[1:] else "trainer_text")
WHO, DOES, WHAT = ("anna", "ben", "the cat"), ("likes", "sees", "draws"), ("fish", "trees", "rain")
LETTERS = " abcdefghijklmnopqrstuvwxyz."


def texts(seed: int, number: int) -> list[dict[str, torch.Tensor]]:
    """Return sentences such as "anna sees rain." as numbers of letters, 32 each."""
    draw = random.Random(seed)
    samples = []
    for _ in range(number):
        text = " ".join(
            f"{draw.choice(WHO)} {draw.choice(DOES)} {draw.choice(WHAT)}." for _ in "ab"
        )
        ids = torch.tensor([LETTERS.index(letter) for letter in f"{text:32}"[:32]])
        samples.append({"input_ids": ids, "labels": ids})
    return samples


TRAIN, TEST = texts(0, 512), texts(1, 128)


def trainer(
    model: GPT2LMHeadModel, seed: int, callbacks: list[HoldMask] | None = None, steps: int = 30
) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(FOLDER / "trainer"),
        seed=seed,
        max_steps=steps,
        per_device_train_batch_size=32,
        learning_rate=3e-3,
        warmup_steps=10,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    return Trainer(model, arguments, train_dataset=TRAIN, eval_dataset=TEST, callbacks=callbacks)


def train(model: GPT2LMHeadModel, candidate: Candidate) -> torch.nn.Module:
    """Train a candidate in place; its mask is held already."""
    each = trainer(model, candidate.seed)
    each.train()
    return each.model_wrapped  # what wraps the model: DistributedDataParallel, DeepSpeed's engine


def main() -> None:
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_embd": 64, "n_layer": 2, "n_head": 2}
    config = GPT2Config(vocab_size=len(LETTERS), bos_token_id=0, eos_token_id=0, **sizes)
    model = GPT2LMHeadModel(config)
    dense = trainer(model, 0, steps=60)
    dense.train()
    print_ = print if dense.is_world_process_zero() else lambda _: None
    print_(f"dense: loss {dense.evaluate()['eval_loss']:.4f}")

    # One model with a mask: the callback holds it.
    mask = sms.prune(model, 0.5)
    pruned = trainer(model, 0, [HoldMask(mask)])
    pruned.train()
    print_(f"{mask.sparsity:.2%} sparse: loss {pruned.evaluate()['eval_loss']:.4f}")

    # Phases of several models, and their soup.
    for phase in sms.soup_phases(model, train, [0.7, 0.85], candidates=2, mask=mask):
        soup = trainer(model, 0)
        print_(f"soup, {phase.mask.sparsity:.2%} sparse: loss {soup.evaluate()['eval_loss']:.4f}")
        soup.save_model(str(FOLDER / f"soup_{phase.number}"))
        if soup.is_world_process_zero():
            phase.mask.save(FOLDER / f"soup_{phase.number}" / "mask.safetensors")
    dense.end()


if __name__ == "__main__":
    main()
