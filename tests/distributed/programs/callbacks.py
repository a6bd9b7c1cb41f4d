"""Trains tiny nets on 2 ranks in the Trainers of Hugging Face and Lightning, under masks.

The argument is a folder; found.json in it gets what each rank found, as test_callbacks.py reads it.
"""

from __future__ import annotations

import copy
import gc
import json
import logging
import sys
import warnings
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import sms_dist as sms
from sms_dist.callbacks import lightning as for_lightning
from sms_dist.callbacks import transformers as for_transformers

# isort: split
import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from transformers import Trainer, TrainerCallback, TrainingArguments

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled
warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
gc.freeze()  # a Trainer collects garbage, again and again through all that was imported
folder = Path(sys.argv[1])
generator = torch.Generator().manual_seed(0)
IMAGES, LABELS = torch.randn(64, 8, generator=generator), torch.arange(64) % 3
SAMPLES = [{"x": x, "labels": y} for x, y in zip(IMAGES, LABELS, strict=True)]
ZERO = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 1},
}


class Net(nn.Module):
    """It returns what the Trainer of Hugging Face wants."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": cross_entropy(logits.float(), labels), "logits": logits}


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return cross_entropy(self(batch[0]).float(), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def mask_of(kind: type[nn.Module], sparsity: float) -> sms.Mask:
    return sms.prune(kind(), sparsity)


def not_zero(mask: sms.Mask, tensors: dict[str, Tensor]) -> int:
    """Return how many pruned weights are not zero."""
    return sum(int(tensors[name].detach()[~kept].count_nonzero()) for name, kept in mask.items())


def bits(model: nn.Module) -> list[list[float]]:
    return [p.detach().double().flatten().tolist() for p in model.parameters()]


def refusal(function, *arguments, **keywords) -> str:
    try:
        function(*arguments, **keywords)
    except ValueError as error:
        return str(error)
    return "nothing was refused"


class Watch(TrainerCallback):
    """Counts pruned weights that are not zero after a step."""

    def __init__(self, mask: sms.Mask) -> None:
        self.mask, self.count, self.steps = mask, 0, 0

    def on_step_end(self, args, state, control, model=None, **_) -> None:
        self.count += not_zero(self.mask, dict(model.named_parameters()))
        self.steps += 1


class WatchModule(pl.Callback):
    def __init__(self, mask: sms.Mask) -> None:
        self.mask, self.count, self.steps = mask, 0, 0

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.count += not_zero(self.mask, dict(pl_module.named_parameters()))
        self.steps += 1


def facts(model: nn.Module, mask: sms.Mask, watch) -> dict[str, object]:
    sms.hold(model, mask).release()  # it is free again
    return {
        "steps": watch.steps,
        "not zero": [watch.count, not_zero(mask, dict(model.named_parameters()))],
        "kept": [
            int(mask.num_kept),
            sum(int(model.get_parameter(n).count_nonzero()) for n in mask),
        ],
        "bits": bits(model),
    }


def arguments(name: str, **more) -> TrainingArguments:
    given = {
        "max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 0.01,
        "weight_decay": 0.1, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5,
        "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True,
        "logging_steps": 100,
    }  # fmt: skip
    return TrainingArguments(str(folder / name), **given | more)


SAVED = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2,
         "load_best_model_at_end": True}  # fmt: skip


def trained(name: str, sparsity=0.5, resume=None, make=None, **more) -> dict[str, object]:
    mask = mask_of(Net, sparsity)
    watch = Watch(mask)
    trainer = Trainer(
        None if make else Net(),
        arguments(name, **more),
        train_dataset=SAMPLES,
        eval_dataset=SAMPLES[:8],
        model_init=make,
        callbacks=[for_transformers.HoldMask(mask), watch],
    )
    checkpoint = folder / resume if resume else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    found = facts(trainer.model, mask, watch)
    dist.barrier()  # the first rank writes
    for place in sorted((folder / name).glob("checkpoint-*")):
        found.setdefault("saved", []).append(
            [
                not_zero(mask, load_file(place / "model.safetensors")),
                sms.Mask.load(place / "mask.safetensors") == mask,
            ]
        )
    return found


def with_trainer() -> dict[str, object]:
    found = {
        "ddp": trained("ddp", **SAVED),
        "resumed": trained("ddp", resume="ddp/checkpoint-4", **SAVED),
        "bf16": trained("bf16", bf16=True),
        "model_init": trained("init", make=Net),
    }
    for name, place in {"another mask": "ddp", "a tighter mask": "elsewhere"}.items():
        sparsity = 0.3 if place == "ddp" else 0.8
        found[name] = refusal(trained, place, sparsity, "ddp/checkpoint-4", **SAVED)
    return found


def with_zero() -> dict[str, object]:
    zero = {**SAVED, "deepspeed": ZERO}
    return {
        "zero": trained("zero", **zero),
        "zero resumed": trained("zero", resume="zero/checkpoint-4", **zero),
        "zero bf16": trained("zero_bf16", bf16=True, deepspeed=ZERO),
        "zero, a tighter mask": refusal(trained, "other", 0.8, "zero/checkpoint-4", **zero),
        "zero, model_init": refusal(trained, "zero_init", make=Net, deepspeed=ZERO),
    }


def by_hand(states: list[sms.State], mask: sms.Mask, soup: sms.State) -> dict[str, object]:
    """Return how far a soup is from the mean of its candidates, and how sparse it is."""
    gaps = {
        name: float((sum(s[name].double() for s in states) / len(states) - tensor).abs().max())
        for name, tensor in soup.items()
        if tensor.is_floating_point()
    }
    return {
        "gap": max(gap for name, gap in gaps.items() if "running" not in name),
        "not zero": not_zero(mask, soup),
        "types": sorted({str(tensor.dtype) for tensor in soup.values()}),
        "sparsity": mask.sparsity,
    }


def phases(model: nn.Module, train, candidates=2, measure=None, **more) -> list[dict[str, object]]:
    """`train` returns what wraps the model that it has trained."""
    found, states, seeds = [], [], []

    def training(copied: nn.Module, candidate):
        assert copied.training
        assert copied is not model
        wrapper = train(copied, candidate)
        states.append(sms.weights(copied if wrapper is None else wrapper))
        seeds.append(candidate.seed)
        return wrapper

    for phase in sms.soup_phases(model, training, [0.5, 0.7], candidates, **more):
        mixed = [states[i] for i in phase.soup.coefficients]
        found.append(by_hand(mixed, phase.mask, dict(model.state_dict())))
        found[-1] |= {"coefficients": [*phase.soup.coefficients], "diverged": phase.diverged}
        found[-1] |= {"number": phase.number, "seeds": seeds[:]}
        states.clear()
        (measure or nn.Module.eval)(model)
    return found


def with_trainers_phases(**more) -> dict[str, object]:
    def train(model, candidate):
        given = arguments("phases", max_steps=2, seed=candidate.seed, **more)
        trainer = Trainer(model, given, train_dataset=SAMPLES)
        trainer.train()
        return trainer.model_wrapped

    def measure(model):
        Trainer(model, arguments("phases"), eval_dataset=SAMPLES[:8]).evaluate()

    def with_one_seed(model, candidate):
        trainer = Trainer(model, arguments("phases", max_steps=2), train_dataset=SAMPLES)
        trainer.train()

    def with_callback(model, candidate):
        callbacks = [for_transformers.HoldMask(candidate.mask)]
        Trainer(model, arguments("phases"), train_dataset=SAMPLES, callbacks=callbacks).train()

    if more:
        return {
            "zero phases": phases(Net(), train),
            "zero, no engine": refusal(phases, Net(), lambda *both: print(train(*both))),
        }
    return {
        "phases": phases(Net(), train, measure=measure),
        "one seed": refusal(phases, Net(), with_one_seed),
        "callback": refusal(phases, Net(), with_callback),
    }


def fit(model: Module, callbacks, resume=None, **more) -> None:
    given = {
        "max_epochs": 3, "accelerator": "cpu", "devices": 2, "strategy": "ddp", "logger": False,
        "accumulate_grad_batches": 2, "gradient_clip_val": 0.5, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False,
    }  # fmt: skip
    trainer = pl.Trainer(callbacks=callbacks, **given | more)
    trainer.fit(model, DataLoader(TensorDataset(IMAGES, LABELS), 4), ckpt_path=resume)


def fitted(sparsity=0.5, before=(), after=(), **more) -> dict[str, object]:
    model, mask = Module(), mask_of(Module, sparsity)
    watch = WatchModule(mask)
    fit(model, [*before, for_lightning.HoldMask(mask), *after, watch], **more)
    return facts(model, mask, watch)


class Stop(pl.Callback):
    def on_train_batch_end(self, *_) -> None:
        raise ValueError("stopped")


def with_lightning() -> dict[str, object]:
    checkpoint = ModelCheckpoint(folder / "lightning", save_top_k=-1, filename="{epoch}")
    resume = str(folder / "lightning" / "epoch=1.ckpt")
    swa = [StochasticWeightAveraging(0.05, swa_epoch_start=1)]
    found = {
        "fit": fitted(after=[checkpoint], enable_checkpointing=True),
        "fit resumed": fitted(resume=resume),
        "fit bf16": fitted(precision="bf16-mixed"),
        "fit swa": fitted(after=swa),
        "fit swa first": fitted(before=[StochasticWeightAveraging(0.05, swa_epoch_start=1)]),
        "fit, another mask": refusal(fitted, 0.3, resume=resume),
        "fit, sharded": refusal(fitted, strategy=pl.strategies.ModelParallelStrategy()),
    }
    saved = torch.load(resume, weights_only=True)["state_dict"]
    found["fit saved"] = not_zero(mask_of(Module, 0.5), saved)
    model, mask = Module(), mask_of(Module, 0.5)
    found["stopped"] = refusal(fit, model, [for_lightning.HoldMask(mask), Stop()])
    sms.hold(model, mask).release()

    def train(model, candidate) -> None:
        pl.seed_everything(candidate.seed, verbose=False)
        loader = DataLoader(TensorDataset(IMAGES, LABELS), 4, shuffle=True)
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(model, loader)
        if candidate.index == 1:  # it diverges
            model.net[0].weight.data[candidate.mask["net.0.weight"]] = torch.nan

    share = IMAGES[dist.get_rank() :: 2]
    model = Module()
    found["fit phases"] = phases(model, train, 3, batches=DataLoader(TensorDataset(share), 8))
    one = copy.deepcopy(model)  # statistics of one process, with all batches
    batches = [IMAGES[rank::2][i : i + 8] for rank in range(2) for i in range(0, 32, 8)]
    torch.optim.swa_utils.update_bn(batches, one)
    gaps = [a - b for a, b in zip(one.net[1].buffers(), model.net[1].buffers(), strict=True)]
    found["norms"] = max(float(gap.abs().max()) for gap in gaps[:2])
    found["no batches"] = refusal(phases, Module(), train)
    return found


def refusals() -> dict[str, object]:
    def nothing(model, candidate) -> None: ...

    return {
        "left": refusal(phases, Net(), nothing),
        "another": refusal(phases, Net(), lambda *_: Net()),
        "falling": refusal(sms.soup_phases, Net(), nothing, [0.7, 0.5], 2),
        "none": refusal(sms.soup_phases, Net(), nothing, [], 2),
        "no candidate": refusal(sms.soup_phases, Net(), nothing, [0.5], 0),
    }


found = with_trainer() | with_trainers_phases() | with_lightning() | refusals()
found |= with_zero() | with_trainers_phases(deepspeed=ZERO, bf16=True)
everyone = [None] * dist.get_world_size()
dist.all_gather_object(everyone, found)
if dist.get_rank() == 0:
    (folder / "found.json").write_text(json.dumps(everyone))
dist.destroy_process_group()
