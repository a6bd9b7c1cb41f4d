"""A plan as a person reads it: a header, a row per phase, totals."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sms_dist.cli.amounts import bytes_text
from sms_dist.cli.planned import Planned
from sms_dist.methods.plan import PhasePlan
from sms_dist.stacks import obstacle, stack_size


def show(planned: Planned, console: Console) -> None:
    for line in _header(planned):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if planned.plan.phases:
        console.print(_table(planned))
    for line in _totals(planned):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _header(planned: Planned) -> list[str]:
    config, info, plan = planned.config, planned.info, planned.plan
    prunable, other = plan.sizes.num_prunable, plan.sizes.num_other
    per_candidate = config.engine.ranks_per_candidate
    return [
        f"{config.name}: {config.method.name}, engine {config.engine.name}",
        f"data    {info.name}: {info.num_train:,} samples to train and validate on, "
        f"{plan.sizes.steps_per_epoch:,} steps an epoch",
        f"model   {config.model.name}: {prunable:,} prunable weights, {other:,} other parameters",
        f"ranks   {planned.num_ranks} in {_some(plan.num_groups, 'group')} of {per_candidate}",
    ]


def _table(planned: Planned) -> Table:
    plan = planned.plan
    table = Table(box=SIMPLE_HEAD, pad_edge=False)  # 80 columns hold 26 million weights
    surviving = f"surviving\nof {plan.sizes.num_prunable:,}"
    steps = "steps per\ncandidate"
    columns = ("phase", "sparsity", surviving, "candidates", "waves", steps, "soup moves")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for item in plan.phases:
        table.add_row(*_row(item))
    return table


def _row(item: PhasePlan) -> tuple[str, ...]:
    fewest, most = min(item.steps), max(item.steps)
    return (
        str(item.phase.index),
        *_pruned(item),
        str(len(item.phase.candidates)),
        str(len(item.waves)),
        f"{most:,}" if fewest == most else f"{fewest:,}-{most:,}",
        bytes_text(item.soup_bytes),
    )


def _pruned(item: PhasePlan) -> tuple[str, str]:
    """Sparsity and surviving weights; a dash where they follow from the training."""
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
        *_packs(planned),
        f"retraining   {_some(totals['retrain_epochs'], 'epoch')}, "
        f"{totals['retrain_steps']:,} steps of all candidates together, "
        f"{totals['retrain_steps_in_a_row']:,} one after another",
    ]


def _packs(planned: Planned) -> list[str]:
    """What the table's waves do not show."""
    engine, phases = planned.config.engine, [item.phase for item in planned.plan.phases]
    most = max(len(phase.candidates) for phase in phases)
    size = stack_size(engine.pack_size, most, planned.plan.num_groups)
    packed = any(obstacle(engine, phase) is None for phase in phases)
    if engine.name != "packed" or engine.packing == "loop" or size == 1 or not packed:
        return []
    when = "at once" if engine.packing == "vmap" else "at once where a trial finds that faster"
    return [f"packs        a group trains up to {size} candidates {when}; waves are those without"]


def _some(num: int, thing: str) -> str:
    return f"{num:,} {thing}" + ("" if num == 1 else "s")
