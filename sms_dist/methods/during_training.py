"""Methods that prune while they train: pretrain.epochs is the whole budget."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sms_dist.config import Config, PretrainConfig
from sms_dist.config.section import Count, Natural, Section
from sms_dist.methods.phases import (
    ORIGINAL,
    Candidates,
    Phase,
    Recipe,
    SparseTraining,
    check_fixed_epochs,
    cycles,
    goal_sparsity,
    several,
    single,
)
from sms_dist.schedules.sparsity import cubic, fraction_pruned


class BimpKeys(Section):
    dense_epochs: Count | None = None
    """T_0, the epochs of dense training (null: two thirds of pretrain.epochs)"""


def bimp(config: Config, *, dense_epochs: int | None) -> Recipe:
    """BIMP: IMP within the budget of one training (Zimmer et al., 2023); +SMS merges per phase.

    `pretrain.epochs` is the whole budget T. The network is trained for T_0 epochs with a learning
    rate that falls to 0; the other epochs are shared equally by the phases.
    """
    return _shared_budget(
        config, dense_epochs, lambda k, epochs: single(config, epochs=epochs), "uniform"
    )


def bimp_sms(config: Config, *, dense_epochs: int | None) -> Recipe:
    check_fixed_epochs(config)
    candidates = partial(_bimp_copies, config)
    return _shared_budget(config, dense_epochs, candidates, config.soup.rule)


def _bimp_copies(config: Config, phase: int, epochs: int) -> Candidates:
    return several(config, phase, epochs=epochs)


def _shared_budget(
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


class CopiesKeys(Section):
    copies_from: Natural | None = None
    """the first epoch, counted from 0, at whose pruning step copies are made (null: from the middle
    of pretrain.epochs on)"""


def gmp(config: Config) -> Recipe:
    """GMP: gradual magnitude pruning; what is pruned stays pruned (Zhu & Gupta, 2017)."""
    return gradual(config, SparseTraining())


def gmp_sms(config: Config, *, copies_from: int | None) -> Recipe:
    return gradual_sms(config, SparseTraining(), copies_from)


def dpf(config: Config, *, refresh: int) -> Recipe:
    """DPF: gradual pruning with feedback; pruned weights go on learning (Lin et al., 2020).

    The network computes with masked weights, the gradient updates the dense ones, and the mask is
    taken from them anew every few steps. Copies average the dense weights, then mask.
    """
    return gradual(config, SparseTraining("dpf", {"refresh": refresh}))


def dpf_sms(config: Config, *, refresh: int, copies_from: int | None) -> Recipe:
    return gradual_sms(config, SparseTraining("dpf", {"refresh": refresh}), copies_from)


def gradual(config: Config, training: SparseTraining) -> Recipe:
    """One candidate between pruning steps."""
    return _intervals(config, training, lambda k, start, epochs: _one(config, epochs))


def gradual_sms(config: Config, training: SparseTraining, copies_from: int | None) -> Recipe:
    """The m copies of a soup between pruning steps, from epoch `copies_from` on."""
    check_fixed_epochs(config)
    first = round(config.pretrain.epochs / 2) if copies_from is None else copies_from

    def candidates(phase: int, start: int, epochs: int) -> Candidates:
        if start < first:
            return _one(config, epochs)
        return several(config, phase, epochs=epochs, schedule=ORIGINAL)

    if (last := _cuts(config)[-2]) < first:
        raise ValueError(
            f"method.copies_from={first} is after the last pruning step, at epoch {last}; lower it"
        )
    return _intervals(config, training, candidates)


def _one(config: Config, epochs: int) -> Candidates:
    return single(config, epochs=epochs, schedule=ORIGINAL)


def _intervals(
    config: Config, training: SparseTraining, candidates: Callable[[int, int, int], Candidates]
) -> Recipe:
    cuts = _cuts(config)
    sparsities = [0.0, *cubic(goal_sparsity(config), config.pruning.phases)]
    phases = []
    for k in range(1, len(sparsities)):
        copies = candidates(k, cuts[k], cuts[k + 1] - cuts[k])
        phase = Phase(
            index=k,
            sparsity=sparsities[k],
            fraction=fraction_pruned(sparsities[k - 1], sparsities[k]),
            candidates=copies,
            rule=config.soup.rule if len(copies) > 1 else "uniform",
            first_epoch=cuts[k],
            training=training,
        )
        phases.append(phase)
    return Recipe(config.pretrain, cuts[1], tuple(phases))


def _cuts(config: Config) -> list[int]:
    """Where the intervals begin and end, in epochs from 0."""
    epochs, num = config.pretrain.epochs, config.pruning.phases + 1
    if epochs < num:
        raise ValueError(
            f"pretrain.epochs={epochs} is the whole training of method.name={config.method.name}, "
            f"too short for pruning.phases={config.pruning.phases}; make it at least {num}"
        )
    return [round(epochs * k / num) for k in range(num + 1)]
