"""BIMP: IMP within the budget of one training (Zimmer et al., 2023); +SMS merges per phase.

`pretrain.epochs` is the whole budget T. The network is trained for T_0 epochs with a learning rate
that falls to 0; the other epochs are shared equally by the phases.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sms_dist.config import Config, PretrainConfig
from sms_dist.config_section import Count, Section
from sms_dist.methods.candidates import Candidates, several, single
from sms_dist.methods.continued import check_fixed_epochs
from sms_dist.methods.cycles import cycles
from sms_dist.phases import Recipe


class BimpKeys(Section):
    dense_epochs: Count | None = None
    """T_0, the epochs of dense training (null: two thirds of pretrain.epochs)"""


def bimp(config: Config, *, dense_epochs: int | None) -> Recipe:
    return _recipe(config, dense_epochs, lambda k, epochs: single(config, epochs=epochs), "uniform")


def bimp_sms(config: Config, *, dense_epochs: int | None) -> Recipe:
    check_fixed_epochs(config)
    candidates = partial(_several, config)
    return _recipe(config, dense_epochs, candidates, config.soup.rule)


def _several(config: Config, phase: int, epochs: int) -> Candidates:
    return several(config, phase, epochs=epochs)


def _recipe(
    config: Config,
    dense_epochs: int | None,
    candidates: Callable[[int, int], Candidates],
    rule: str,
) -> Recipe:
    budget, num = config.pretrain.epochs, config.pruning.phases
    dense = round(budget * 2 / 3) if dense_epochs is None else dense_epochs
    if dense < 1 or budget - dense < num:
        raise ValueError(
            f"pretrain.epochs={budget} is the whole budget of method.name={config.method.name}: "
            f"after {dense} dense epochs {budget - dense} are left for pruning.phases={num}; raise "
            "it, or set method.dense_epochs"
        )
    each, more = divmod(budget - dense, num)  # the first phases take what is left over
    phases = cycles(config, lambda k: candidates(k, each + (k <= more)), rule)
    return Recipe(_falling_to_0(config.pretrain, dense), dense, phases)


def _falling_to_0(pretrain: PretrainConfig, epochs: int) -> PretrainConfig:
    changes = {"epochs": epochs, "schedule": "linear", "final_learning_rate": 0.0, "milestones": ()}
    return pretrain.model_copy(update=changes)
