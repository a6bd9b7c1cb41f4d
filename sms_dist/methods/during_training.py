"""Methods that prune while they train: pretrain.epochs is the whole budget."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.config.section import Count, Natural, Section
from sms_dist.methods.phases import (
    FIXED,
    ORIGINAL,
    Candidates,
    Phase,
    Recipe,
    SparseTraining,
    after_training,
    check_fixed_epochs,
    cycles,
    goal_sparsity,
    several,
    single,
)
from sms_dist.schedules.sparsity import cubic, fraction_pruned
from sms_dist.sparse_rules import rule_class


class BimpKeys(Section):
    """The keys of BIMP."""

    dense_epochs: Count | None = None
    """T_0, the epochs of dense training (null: two thirds of pretrain.epochs)"""


def bimp(config: Config, *, dense_epochs: int | None) -> Recipe:
    """Return BIMP: IMP within the budget of one training (Zimmer et al., 2023).

    `pretrain.epochs` is the whole budget T. The network is trained for T_0 epochs with a learning
    rate that falls to 0; the other epochs are shared equally by the phases.
    """
    return _shared_budget(config, dense_epochs, has_soups=False)


def bimp_sms(config: Config, *, dense_epochs: int | None) -> Recipe:
    """Return BIMP with a soup in each phase."""
    check_fixed_epochs(config)
    return _shared_budget(config, dense_epochs, has_soups=True)


def _shared_budget(config: Config, dense_epochs: int | None, has_soups: bool) -> Recipe:
    budget, num = config.pretrain.epochs, config.pruning.phases
    dense = round(budget * 2 / 3) if dense_epochs is None else dense_epochs
    if dense < 1 or budget - dense < num:
        raise ValueError(
            f"pretrain.epochs={budget} is the whole budget of method.name={config.method.name}: "
            f"after {dense} dense epochs {budget - dense} are left for pruning.phases={num}; raise "
            "it, or set method.dense_epochs"
        )
    each, more = divmod(budget - dense, num)  # the first phases take what is left over

    def candidates(phase: int) -> Candidates:
        epochs = each + (phase <= more)
        return several(config, phase, epochs=epochs) if has_soups else single(config, epochs=epochs)

    phases = cycles(config, candidates, config.soup.rule if has_soups else "uniform")
    falls = {"epochs": dense, "schedule": "linear", "final_learning_rate": 0.0, "milestones": ()}
    return Recipe(config.pretrain.model_copy(update=falls), dense, phases)


class CopiesKeys(Section):
    """The keys of gradual pruning with soups."""

    copies_from: Natural | None = None
    """the first epoch, counted from 0, at whose pruning step copies are made (null: from the middle
    of pretrain.epochs on)"""


def gradual(config: Config, training: SparseTraining = FIXED) -> Recipe:
    """Return gradual pruning: one candidate between pruning steps.

    GMP (Zhu & Gupta, 2017): what is pruned stays pruned. DPF (Lin et al., 2020) under its rule: the
    network computes with masked weights, the gradient updates the dense ones, and the mask is taken
    from them anew every few steps.
    """
    return _intervals(config, training, None)


def gradual_sms(
    config: Config, training: SparseTraining = FIXED, *, copies_from: int | None
) -> Recipe:
    """Return gradual pruning with the m copies of a soup between pruning steps.

    Copies are made from epoch `copies_from` on; those of DPF average the dense weights, then mask.
    """
    check_fixed_epochs(config)
    first = round(config.pretrain.epochs / 2) if copies_from is None else copies_from
    if (last := _cuts(config)[-2]) < first:
        raise ValueError(
            f"method.copies_from={first} is after the last pruning step, at epoch {last}; lower it"
        )
    return _intervals(config, training, first)


def _intervals(config: Config, training: SparseTraining, first_copies: int | None) -> Recipe:
    cuts = _cuts(config)
    sparsities = [0.0, *cubic(goal_sparsity(config), config.pruning.phases)]
    phases = []
    for k in range(1, len(sparsities)):
        changes = {"epochs": cuts[k + 1] - cuts[k], "schedule": ORIGINAL}
        has_copies = first_copies is not None and cuts[k] >= first_copies
        copies = several(config, k, **changes) if has_copies else single(config, **changes)
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
    """Return where the intervals begin and end, in epochs from 0."""
    epochs, num = config.pretrain.epochs, config.pruning.phases + 1
    if epochs < num:
        raise ValueError(
            f"pretrain.epochs={epochs} is the whole training of method.name={config.method.name}, "
            f"too short for pruning.phases={config.pruning.phases}; make it at least {num}"
        )
    return [round(epochs * k / num) for k in range(num + 1)]


class StartKeys(Section):
    """The keys of rules that may begin with the dense model."""

    from_scratch: bool = True
    """train from the initial weights for pretrain.epochs (false: from the dense model for
    retrain.epochs)"""


def single_training(
    config: Config, training: SparseTraining, *, from_scratch: bool = True
) -> Recipe:
    """Return one training under a sparse rule, from the initial weights or the dense model.

    It ends with exactly the goal where the rule controls sparsity; otherwise ValueError where a
    goal is given.
    """
    name, epochs = config.method.name, config.pretrain.epochs
    rule, goal = rule_class(training.rule), config.pruning.goal_sparsity
    if rule.controls_sparsity:
        goal = goal_sparsity(config)
        if not from_scratch:
            phase = Phase(1, goal, goal, single(config), "uniform", training=training)
            return after_training(config, (phase,))
    elif goal is not None:
        raise ValueError(
            f"pruning.goal_sparsity={goal}: method.name={name} cannot prune to an exact sparsity, "
            f"it follows from {rule.controlled_by}; set pruning.goal_sparsity=null"
        )
    if epochs == 0:
        raise ValueError(
            f"pretrain.epochs=0, but they are the training of method.name={name}; raise it"
        )
    phase = Phase(
        index=1,
        sparsity=goal,
        fraction=1.0 if goal is None else goal,
        candidates=single(config, epochs=epochs, schedule=ORIGINAL),
        rule="uniform",
        first_epoch=0,
        training=training,
    )
    return Recipe(config.pretrain, 0, (phase,))
