"""What is wrong with a configuration, as far as it can be known without data and without ranks."""

from __future__ import annotations

from data import DATASETS
from sms_dist.config import Config, lookup
from sms_dist.distributed.engines import ENGINES
from sms_dist.methods import phases
from sms_dist.phases import Phase
from sms_dist.pruning.allocation import ALLOCATIONS
from sms_dist.schedules.pretraining import pretraining_rates
from sms_dist.schedules.retraining import RETRAINING
from sms_dist.schedules.sparsity import num_kept
from sms_dist.sizes import num_parameters
from sms_dist.soups.rules import rule


def check(config: Config) -> tuple[Phase, ...]:
    """The phases of the method; ValueError for the first thing that could not work.

    Reads no file and asks no machine: every rank comes to the same conclusion.
    """
    requested = phases(config)
    _check_names(config, requested)
    _check_history(config, requested)
    _check_validation(config, requested)
    _check_surviving(config, requested)
    return requested


def _check_names(config: Config, requested: tuple[Phase, ...]) -> None:
    """Every name is in its table."""
    rule(config.soup.rule)
    for schedule in (config.retrain.schedule, *_schedules(requested)):
        lookup(RETRAINING, schedule, "retrain.schedule")
    pretraining_rates(config.pretrain, steps_per_epoch=1)  # also: no warm-up longer than the rest
    lookup(ENGINES, config.engine.name, "engine.name")
    lookup(ALLOCATIONS, config.pruning.allocation, "pruning.allocation")


def _check_history(config: Config, requested: tuple[Phase, ...]) -> None:
    """All schedules of retraining are made from the rates of pretraining."""
    if requested and config.pretrain.from_ is None and config.pretrain.epochs == 0:
        raise ValueError(
            f"retrain.schedule={_schedules(requested)[0]} needs the learning rates of pretraining, "
            "and pretrain.epochs=0 has none; raise it, or start from a run folder with "
            "pretrain.from"
        )


def _check_validation(config: Config, requested: tuple[Phase, ...]) -> None:
    """Validation samples are there where something is measured on them."""
    if config.data.validation > 0:
        return
    wanting = {
        "soup.rule=greedy": any(phase.rule == "greedy" for phase in requested),
        "soup.loss_barrier=true": bool(requested) and config.soup.loss_barrier,
    }
    for field, is_wanting in wanting.items():
        if is_wanting:
            raise ValueError(
                f"{field} measures soups on validation samples, and data.validation=0.0 keeps "
                "none; set it to 0.1, for example"
            )


def _check_surviving(config: Config, requested: tuple[Phase, ...]) -> None:
    """The model takes the data's images, and no phase prunes all of its weights."""
    info = lookup(DATASETS, config.data.name, "data.name").info
    num_prunable, _ = num_parameters(config, info)
    for phase in requested:
        if num_kept(num_prunable, phase.sparsity) < 1:
            raise ValueError(
                f"pruning.goal_sparsity={config.pruning.goal_sparsity} leaves none of the "
                f"{num_prunable} prunable weights of model.name={config.model.name} in phase "
                f"{phase.index}; lower it"
            )


def _schedules(requested: tuple[Phase, ...]) -> list[str]:
    return [candidate.retrain.schedule for phase in requested for candidate in phase.candidates]
