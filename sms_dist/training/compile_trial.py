"""What is faster here: the steps of the model as it is, or compiled in one of several ways?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from sms_dist.config.experiment import EngineConfig
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.mesh.topology import Axis
from sms_dist.training.context import Context
from sms_dist.training.meter import Meter, own_loss
from sms_dist.training.trial import WORTH, first_batch, seconds_of, seconds_once

EAGER = "eager"


@dataclass(frozen=True)
class Trial:
    """Seconds of a step in each mode, and of its first one, for which the code is made."""

    steps: Mapping[str, float]
    first: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)  # why others cannot be had

    def best(self, num_steps: int) -> str:
        """The mode in which so many steps end first; eager unless another is clearly faster."""
        eager = self.steps[EAGER]
        worth = {
            mode: num_steps * seconds + self.first[mode]
            for mode, seconds in self.steps.items()
            if seconds < WORTH * eager
        }
        in_all = {EAGER: num_steps * eager, **worth}
        return min(in_all, key=lambda mode: in_all[mode])

    def without(self, reasons: Mapping[str, str]) -> Trial:
        """What is left where these modes fail on some rank."""
        steps = {mode: seconds for mode, seconds in self.steps.items() if mode not in reasons}
        return replace(self, steps=steps, reasons={**self.reasons, **reasons})

    @property
    def told(self) -> str:
        """In words."""
        known = [
            f"{mode} {1000 * seconds:.3g} ms"
            + ("" if mode == EAGER else f" after {self.first[mode]:.1f} s for the first")
            for mode, seconds in self.steps.items()
        ]
        failed = [f"{mode} is impossible ({reason})" for mode, reason in self.reasons.items()]
        return "; ".join([f"a step takes {', '.join(known)}" if known else "not tried", *failed])


def try_compiling(context: Context, modes: Sequence[str]) -> Trial:
    """Take some steps of the dense model at rate 0, my share of a batch each. In no collective.

    Afterwards the process is as if it had compiled nothing: what is made later must not depend on
    whether this start is the one that tried.
    """
    device, steps, first = context.mesh.device, {}, {}
    reasons: dict[str, str] = {}
    for mode in (EAGER, *modes):
        step = _step_of(context, context.config.engine.model_copy(update={"compile": mode}))
        try:
            first[mode] = seconds_once(step, device)
        except ValueError as error:
            reasons[mode] = str(error)
        else:
            steps[mode] = step
    taken = seconds_of(list(steps.values()), device)
    torch.compiler.reset()
    return Trial({mode: min(own) for mode, own in zip(steps, taken, strict=True)}, first, reasons)


def _step_of(context: Context, config: EngineConfig) -> Callable[[], None]:
    mesh, optimizer, size = context.mesh, context.recipe.pretrain, context.config.data.batch_size
    job = Job(context.new_model(), {}, Axis(None, 0, 1), mesh, config, optimizer, size)
    meter = Meter(
        context.task, optimizer.label_smoothing, mesh.device, own_loss(context.config.pretrain.loss)
    )
    engine = make_engine(job)
    batch = first_batch(context.loaders.train, context.config.seed, 0, mesh.data)

    def step() -> None:
        engine.step(batch.inputs, batch.targets, batch.weight, 0.0, meter.loss)

    return step
