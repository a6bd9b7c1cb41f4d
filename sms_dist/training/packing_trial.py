"""What is faster here: the steps of several candidates together, or one after another?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.packed import PackedEngine, Share
from sms_dist.training.loop import Training
from sms_dist.training.meter import Meter
from sms_dist.training.trial import WORTH, first_batch, seconds_of


@dataclass(frozen=True)
class Trial:
    """Seconds of one step of all; the first is None where it cannot be done, for this reason."""

    together: float | None
    one_by_one: float
    reason: str = ""

    @property
    def told(self) -> str:
        """In words."""
        apart = f"one after another {1000 * self.one_by_one:.3g} ms"
        if self.together is None:
            return f"{apart}; together is impossible ({self.reason})"
        return f"a step of all takes {1000 * self.together:.3g} ms together, {apart}"

    @property
    def is_worth_it(self) -> bool:
        return self.together is not None and self.together < WORTH * self.one_by_one


def try_packing(members: Sequence[tuple[Job, Training]]) -> Trial:
    """Take some steps of these candidates at rate 0; they are of no use after. In no collective."""
    batches = [first_batch(t.loader, t.seed, t.phase, job.axis) for job, t in members]
    jobs, (_, training) = [job for job, _ in members], members[0]
    meter = Meter(training.task, training.label_smoothing, training.device, training.own_loss)
    pack = PackedEngine(jobs, [1] * len(jobs))
    shares = {i: Share(b.inputs, b.targets, b.weight, 0.0) for i, b in enumerate(batches)}

    def together() -> None:
        pack.step(0, shares, meter.seen)

    alone = make_engine(jobs[0])

    def one_by_one() -> None:
        for share in shares.values():
            alone.step(share.inputs, share.targets, share.weight, 0.0, meter.loss)

    try:
        together()
    except RuntimeError as error:  # what the model does cannot be mapped over weights
        (taken,) = seconds_of([one_by_one], training.device)
        return Trial(None, min(taken), _first_sentence(error))
    first, second = seconds_of([together, one_by_one], training.device)
    return Trial(min(first), min(second))


def _first_sentence(error: RuntimeError) -> str:
    return str(error).partition("\n")[0].partition(". ")[0]
