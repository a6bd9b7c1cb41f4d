"""A configuration on a number of ranks, thought through before anything starts, and its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sms_dist import data
from sms_dist.cli.amounts import bytes_text
from sms_dist.config import Config
from sms_dist.data.dataset import DatasetInfo
from sms_dist.experiment.checks import check
from sms_dist.experiment.sizes import has_batch_norm, layers, on_meta, sizes, survivors
from sms_dist.mesh.division import deal, groups_of
from sms_dist.methods.plan import PhasePlan, Plan, check_pretrain_ranks, make_plan
from sms_dist.models.speedup import macs
from sms_dist.pruning.layers import Weight
from sms_dist.stacks import obstacle, stack_size
from sms_dist.training.trial import Trial, example, trial

UNTRIED = Trial()


@dataclass(frozen=True)
class Planned:
    config: Config
    info: DatasetInfo
    num_ranks: int
    plan: Plan
    has_batch_norm: bool
    start: float = 0.0  # the sparsity at which pruning begins
    notes: tuple[str, ...] = ()  # what to know of the weights that the run is given
    layers: tuple[Weight, ...] = ()  # what may be a weight matrix, pruned or not
    trial: Trial = UNTRIED

    @property
    def totals(self) -> dict[str, int]:
        """Epochs and optimizer steps, of all candidates and of the group that is busy longest."""
        phases, groups = self.plan.phases, self.plan.num_groups
        epochs = 0 if self.config.pretrain.from_ else self.plan.dense_epochs
        candidates = [c for item in phases for c in item.phase.candidates]
        longest = [
            max(sum(deal(item.steps, groups, group)) for group in range(groups)) for item in phases
        ]
        return {
            "pretrain_epochs": epochs,
            "pretrain_steps": epochs * self.plan.sizes.steps_per_epoch,
            "retrain_epochs": sum(candidate.retrain.epochs for candidate in candidates),
            "retrain_steps": sum(sum(item.steps) for item in phases),
            "retrain_steps_in_a_row": sum(longest),
        }

    def as_json(self) -> dict[str, Any]:
        config = self.config
        facts = {
            "name": config.name,
            "method": config.method.name,
            "data": config.data.name,
            "model": config.model.name,
            "num_ranks": self.num_ranks,
            "start_sparsity": self.start,
        }
        return facts | self.plan.as_json() | {"totals": self.totals}


def planned(config: Config, num_ranks: int | None = None) -> Planned:
    """Return the plan on that many ranks (None: one group); ValueError for people's mistakes.

    The data need not be there; where they are, the index beside them has the counts.
    """
    return planner(config)(num_ranks)


def planner(config: Config) -> Callable[[int | None], Planned]:
    """Return a function from the number of ranks (None: one group) to the plan."""
    check(config)
    info = data.info(config.data)
    start: float = 0.0
    notes: tuple[str, ...] = ()
    if config.pretrain.from_ is not None or config.model.weights is not None:
        from sms_dist.experiment.begin import planned_begin  # imports torch

        start, notes = planned_begin(config, info)
    recipe = check(config, start)
    size, count = sizes(config, info), survivors(config, info)
    is_normed, every = has_batch_norm(config, info), tuple(layers(config, info))
    tried = trial(config, info)

    def plan(num_ranks: int | None) -> Planned:
        ranks = config.engine.ranks_per_candidate if num_ranks is None else num_ranks
        groups = groups_of(ranks, config.engine.ranks_per_candidate)
        check_pretrain_ranks(config.pretrain.ranks, ranks)
        made = make_plan(recipe, groups, size, count)
        return Planned(config, info, ranks, made, is_normed, start, notes, every, tried)

    return plan


def show(planned: Planned, console: Console) -> None:
    """Print a header, a row for each phase, and totals."""
    for line in _header(planned):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if planned.plan.phases:
        console.print(_table(planned.plan))
    for line in _totals(planned):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def table(*columns: str, padding: int = 1) -> Table:
    """Return an empty table of numbers; with a padding of 0, 80 columns hold 4096 ranks."""
    rows = Table(box=SIMPLE_HEAD, padding=(0, padding), pad_edge=False)
    for name in columns:
        rows.add_column(name, justify="right", no_wrap=True)
    return rows


def _header(planned: Planned) -> list[str]:
    config, info, plan = planned.config, planned.info, planned.plan
    prunable, other = plan.sizes.num_prunable, plan.sizes.num_other
    per_candidate = config.engine.ranks_per_candidate
    return [
        f"{config.name}: {config.method.name}, engine {config.engine.name}",
        f"data    {info.name}: {info.num_train:,} samples to train and validate on, "
        f"{plan.sizes.steps_per_epoch:,} steps an epoch",
        f"model   {config.model.name}: {prunable:,} prunable weights, {other:,} other parameters"
        f"{_sparsity_of_all(planned)}",
        *left_dense(planned.layers),
        *_untrained(planned.trial),
        f"ranks   {planned.num_ranks} in {_some(plan.num_groups, 'group')} of {per_candidate}",
        *(f"weights {note}" for note in planned.notes),
    ]


def _sparsity_of_all(planned: Planned) -> str:
    goal, sizes = planned.config.pruning.goal_sparsity, planned.plan.sizes
    if goal is None or not planned.plan.phases:
        return ""
    of_all = goal * sizes.num_prunable / max(sizes.num_prunable + sizes.num_other, 1)
    return f"; goal {100 * goal:.4g}% of these, {100 * of_all:.4g}% of all"


def left_dense(layers: Sequence[Weight]) -> list[str]:
    """Return a line for each reason why tensors of two dims or more are not pruned."""
    reasons: dict[str, list[Weight]] = {}
    for weight in layers:
        if weight.dense:
            reasons.setdefault(weight.dense, []).append(weight)
    return [
        f"dense   {dense}: {sum(prod(each.shape) for each in some):,} parameters in "
        f"{_named([each.name for each in some])}"
        for dense, some in reasons.items()
    ]


def _untrained(trial: Trial) -> list[str]:
    facts = {
        "without gradient": trial.unused,
        "frozen": trial.frozen,
        "with a gradient in some steps only (see engine.conditional)": trial.occasional,
        "buffers that forward passes write": trial.updated,
    }
    return [f"model   {fact}: {_named(names)}" for fact, names in facts.items() if names]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


def show_layers(planned: Planned, console: Console) -> None:
    """Print a row for each weight matrix and what is like one: shape, whether it is pruned, and
    the multiply-adds that it takes for one sample."""
    config, info = planned.config, planned.info
    counts = macs(on_meta(config, info), example(info))
    rows = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("weight", "layer", "shape", "pruned"):
        rows.add_column(name, overflow="fold")
    rows.add_column("multiply-adds", justify="right", no_wrap=True)
    for each in planned.layers:
        shape, count = "x".join(map(str, each.shape)), f"{counts.pop(each.name, 0):,}"
        rows.add_row(each.name, each.kind, shape, each.dense or "yes", count)
    for name, rest in counts.items():
        rows.add_row(f"({name} products)", "", "", "no", f"{rest:,}")
    console.print(rows)


def _table(plan: Plan) -> Table:
    surviving = f"surviving\nof {plan.sizes.num_prunable:,}"
    steps = "steps per\ncandidate"
    rows = table("phase", "sparsity", surviving, "candidates", "waves", steps, "soup moves")
    for item in plan.phases:
        fewest, most = min(item.steps), max(item.steps)
        rows.add_row(
            str(item.phase.index),
            *_pruned(item),
            str(len(item.phase.candidates)),
            str(len(item.waves)),
            f"{most:,}" if fewest == most else f"{fewest:,}-{most:,}",
            bytes_text(item.soup_bytes),
        )
    return rows


def _pruned(item: PhasePlan) -> tuple[str, str]:
    """Return sparsity and surviving weights; a dash where they follow from the training."""
    sparsity = item.phase.sparsity
    return ("-", "-") if sparsity is None else (f"{100 * sparsity:.2f}%", f"{item.surviving:,}")


def _totals(planned: Planned) -> list[str]:
    totals, source = planned.totals, planned.config.pretrain.from_
    dense = f"{_some(totals['pretrain_epochs'], 'epoch')}, {totals['pretrain_steps']:,} steps"
    lines = [f"pretraining  {'none: from ' + source if source else dense}"]
    if not planned.plan.phases:
        name = planned.config.method.name
        return [*lines, f"method.name={name} has no phases: nothing is pruned or retrained"]
    return [
        *lines,
        *_stacks(planned),
        f"retraining   {_some(totals['retrain_epochs'], 'epoch')}, "
        f"{totals['retrain_steps']:,} steps of all candidates together, "
        f"{totals['retrain_steps_in_a_row']:,} one after another",
    ]


def _stacks(planned: Planned) -> list[str]:
    """Return a line about candidates that train together, which the table's waves do not show."""
    engine, phases = planned.config.engine, [item.phase for item in planned.plan.phases]
    most = max(len(phase.candidates) for phase in phases)
    size = stack_size(engine.pack_size, most, planned.plan.num_groups)
    can_stack = any(obstacle(engine, phase) is None for phase in phases)
    if engine.name != "packed" or engine.packing == "loop" or size == 1 or not can_stack:
        return []
    when = "at once" if engine.packing == "vmap" else "at once where a trial finds that faster"
    return [f"packs        a group trains up to {size} candidates {when}; waves are those without"]


def _some(num: int, thing: str) -> str:
    return f"{num:,} {thing}" + ("" if num == 1 else "s")
