"""The schedules of retraining for an optimizer of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sms_dist.base.plain import number, numbers, shown, whole_number
from sms_dist.schedules.learning_rate import History, Retraining, retraining_rates

FIELD = "schedule"


class Rates(LRScheduler):
    """A learning rate for every step; groups of parameters keep the ratios of their rates."""

    def __init__(self, optimizer: Optimizer, rates: Sequence[float]) -> None:
        self.rates = list(rates)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch allows tensors as well
        """Return the rate of each group for the step that comes; after the last, that of it."""
        num = len(self.rates)
        if self.last_epoch > num:
            raise ValueError(
                f"schedule: step() was called more often than its {num} steps; give the number of "
                "all steps that the optimizer takes"
            )
        rate = self.rates[min(self.last_epoch, num - 1)]
        own = [float(base) for base in self.base_lrs]
        largest = max(own)
        return [rate * (each / largest) if largest else rate for each in own]


def schedule(
    name: str,
    optimizer: Optimizer,
    steps: int,
    *,
    largest: float,
    smallest: float = 0.0,
    curve: Sequence[float] | None = None,
    factor: float = 1.0,
    warmup: float = 0.0,
) -> LRScheduler:
    """Set the optimizer's rate by a schedule of retraining, one rate for every step of it.

    Call its `step()` after each step of the optimizer, as that of any scheduler of torch. Groups of
    parameters that were given different rates keep their ratios; `largest` is for the largest.

    Args:
        name: ft (the last rate of pretraining throughout), lrw (rewinding: its last `steps` rates),
            slr (its whole curve, compressed), clr (half a cosine from the largest to the last
            rate), llr (a line from the largest to 0), allr (the same line, lowered by `factor`), or
            `package.module:function`, as the key retrain.schedule takes it
        steps: the number of steps of the phase
        largest: the largest rate
        smallest: the last rate of pretraining, for ft and clr; where there is a curve, its last one
        curve: the rate of every step of pretraining, for lrw and slr; scaled to `largest`
        factor: of allr, in (0, 1]: min(1, max(d, steps / steps of pretraining)), where d is the
            norm of what was pruned over that of the weights and the root of the fraction pruned
        warmup: the fraction of the steps spent rising from 0 (ft and lrw have no warm-up)

    Raises:
        ValueError: for values outside of these ranges, a schedule that lacks its `smallest` or
            `curve`, and `step()` after the last step.
    """
    if not isinstance(optimizer, Optimizer):
        raise ValueError(
            f"schedule sets the rate of a torch.optim.Optimizer, not of a "
            f"{type(optimizer).__name__}; give the one that DeepSpeed's was made of"
        )
    steps = whole_number(steps, "steps")
    if not 0 < number(largest) < math.inf:
        raise ValueError(f"largest={shown(largest)} must be a rate above 0")
    if not 0 <= number(smallest) <= largest:
        raise ValueError(f"smallest={shown(smallest)} must lie between 0 and largest={largest}")
    if not 0 < number(factor) <= 1 or (factor != 1 and name != "allr"):
        raise ValueError(f"factor={shown(factor)} must be 1, or for allr above 0 and at most 1")
    if not 0 <= number(warmup) < 1:
        raise ValueError(f"warmup={shown(warmup)} is the fraction of the steps; it must be below 1")
    largest, smallest, factor = float(largest), float(smallest), float(factor)
    rates = [largest, smallest] if curve is None else numbers(curve) or []
    is_curve = all(0 <= rate < math.inf for rate in rates) and max(rates, default=0) > 0
    if curve is not None and (smallest or not is_curve):
        raise ValueError(
            "curve must hold the rate of every step of pretraining, none negative, some above 0, "
            "and it says what the smallest is: leave that out"
        )
    if curve is None and name in ("lrw", "slr"):
        raise ValueError(f"schedule={name} repeats pretraining; give curve, the rate of each step")
    if name == "ft" and curve is None and not smallest:
        raise ValueError("schedule=ft trains with the last rate of pretraining; give smallest")
    history = History(tuple(rates), epochs=len(rates)).scaled_to(largest)
    # An epoch of one step. allr would take the larger of its factor and the share of the epochs.
    phase = Retraining(history, epochs=0 if name == "allr" else steps, distance=factor)
    return Rates(optimizer, retraining_rates(name, phase, steps, warmup, FIELD))
