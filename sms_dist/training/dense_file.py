"""Dense weights from a file, checked against the model, with the learning rates they came from."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch

from sms_dist.models.state import bare_state
from sms_dist.models.weights import check_fits
from sms_dist.paths import HISTORY, KEPT, WEIGHTS
from sms_dist.schedules.pretraining import pretraining_rates
from sms_dist.schedules.retraining import History
from sms_dist.training.pretrain import Dense
from sms_dist.training.workbench import State, Workbench, full_precision


def load_dense(bench: Workbench) -> Dense:
    """The weights that `pretrain.from` names; ValueError where they are not this model's."""
    source = bench.config.pretrain.from_
    assert source is not None
    file = _weights_file(source)
    try:
        loaded = safetensors.torch.load_file(file, device=str(bench.at.device))
    except safetensors.SafetensorError as error:
        raise ValueError(f"pretrain.from={file} is no safetensors file: {error}") from None
    state = bare_state(bench.new_model())
    check_fits(f"pretrain.from={file}", loaded, state, bench.config.model.name)
    history = _history(bench, file.parent / HISTORY)
    return Dense(full_precision(state | loaded), history, [], _kept(bench, file.parent))


def _weights_file(source: str) -> Path:
    path = Path(source)
    for candidate in (path, path / WEIGHTS, path / "dense" / WEIGHTS):
        if candidate.is_file():
            return candidate
    raise ValueError(
        f"pretrain.from={source}: there are no dense weights; give a run folder, its dense/ folder "
        "or a .safetensors file"
    )


def _kept(bench: Workbench, folder: Path) -> State | None:
    """The weights of the epoch that the recipe rewinds to; ValueError where they were not kept."""
    wanted = bench.recipe.kept_epoch
    if wanted is None:
        return None
    document = json.loads((folder / HISTORY).read_text()) if (folder / HISTORY).is_file() else {}
    if (found := document.get("kept_epoch")) != wanted:
        has = "none" if found is None else f"those of epoch {found}"
        raise ValueError(
            f"pretrain.from={folder}: method.name={bench.config.method.name} rewinds to the "
            f"weights of epoch {wanted}, and it kept {has}; pretrain it with pretrain.keep_epoch="
            f"{wanted}"
        )
    return full_precision(safetensors.torch.load_file(folder / KEPT, device=str(bench.at.device)))


def _history(bench: Workbench, file: Path) -> History | None:
    config = bench.config.pretrain
    if file.is_file():
        document = json.loads(file.read_text())
        return History(tuple(document["rates"]), document["epochs"])
    if config.history == "recorded":
        return None
    rates = pretraining_rates(config, bench.loaders.train.num_steps)
    if not rates:
        raise ValueError("pretrain.history=config needs pretrain.epochs above 0")
    return History(tuple(rates), config.epochs)
