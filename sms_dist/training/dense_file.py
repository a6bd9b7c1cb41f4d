"""Dense weights from a file, checked against the model, with the learning rates they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sms_dist.base import plain
from sms_dist.base.plain import is_file
from sms_dist.models.weights import bare_state, check_fits, read_safetensors
from sms_dist.run.paths import HISTORY, KEPT, WEIGHTS
from sms_dist.schedules.learning_rate import History, pretraining_rates
from sms_dist.training.context import Context, State, full_precision
from sms_dist.training.pretrain import Dense

MAX_HISTORY = 1 << 25  # bytes: a rate for each of millions of steps


def load_dense(context: Context) -> Dense:
    """The weights that `pretrain.from` names; ValueError where they are not this model's."""
    source = context.config.pretrain.from_
    assert source is not None
    file = _weights_file(source)
    loaded = read_safetensors(file, f"pretrain.from={file}", str(context.mesh.device))
    state = bare_state(context.new_model())
    check_fits(f"pretrain.from={file}", loaded, state, context.config.model.name)
    history = _history(context, file.parent / HISTORY)
    return Dense(full_precision(state | loaded), history, [], _kept(context, file.parent))


def _weights_file(source: str) -> Path:
    path = Path(source)
    for candidate in (path, path / WEIGHTS, path / "dense" / WEIGHTS):
        if is_file(candidate):
            return candidate
    raise ValueError(
        f"pretrain.from={source}: there are no dense weights; give a run folder, its dense/ folder "
        "or a .safetensors file"
    )


def _kept(context: Context, folder: Path) -> State | None:
    """The weights of the epoch that the recipe rewinds to; ValueError where they were not kept."""
    wanted = context.recipe.kept_epoch
    if wanted is None:
        return None
    document = _document(folder / HISTORY)
    if (found := (document or {}).get("kept_epoch")) != wanted:
        has = "none" if found is None else f"those of epoch {found}"
        raise ValueError(
            f"pretrain.from={folder}: method.name={context.config.method.name} rewinds to the "
            f"weights of epoch {wanted}, and it kept {has}; pretrain it with pretrain.keep_epoch="
            f"{wanted}"
        )
    place = f"pretrain.from={folder / KEPT}"
    kept = read_safetensors(folder / KEPT, place, str(context.mesh.device))
    check_fits(place, kept, bare_state(context.new_model()), context.config.model.name)
    return full_precision(kept)


def _history(context: Context, file: Path) -> History | None:
    config = context.config.pretrain
    document = _document(file)
    if document is not None:
        return History(tuple(document["rates"]), document["epochs"])
    if config.history == "recorded":
        return None
    rates = pretraining_rates(config.curve, context.loaders.train.num_steps)
    if not rates:
        raise ValueError("pretrain.history=config needs pretrain.epochs above 0")
    return History(tuple(rates), config.epochs)


def _document(file: Path) -> dict[str, Any] | None:
    """How the weights beside it were pretrained; None where nothing says so."""
    if not file.is_file():
        return None
    found = plain.read_object(file, MAX_HISTORY)
    rates, epochs = found.get("rates"), found.get("epochs")
    is_sound = isinstance(rates, list) and all(type(rate) in (int, float) for rate in rates)
    if not is_sound or type(epochs) is not int or not 0 <= epochs <= len(rates or ()):
        raise ValueError(
            f"{file} is damaged; copy it again, or remove it and set pretrain.history=config"
        )
    return found
