"""The learning rate of every step of a candidate's phase."""

from __future__ import annotations

from sms_dist.methods.phases import Candidate, Phase
from sms_dist.schedules.learning_rate import History, Retraining, continued, retraining_rates
from sms_dist.training.averaging import first_averaged


def candidate_rates(
    phase: Phase, candidate: Candidate, history: History | None, distance: float, num_steps: int
) -> list[float]:
    """Of a schedule of retraining, or of pretraining where that goes on; `num_steps` of an epoch.

    `distance` is how far pruning moved the weights (ALLR).
    """
    retrain = candidate.retrain
    known = known_history(history, retrain.schedule).scaled_to(retrain.learning_rate)
    if phase.first_epoch is None:
        job = Retraining(known, retrain.epochs, distance)
        total = retrain.epochs * num_steps
        rates = retraining_rates(retrain.schedule, job, total, retrain.warmup)
    else:
        rates = continued(known, phase.first_epoch, retrain.epochs)
    first = first_averaged(retrain)
    if first is None or retrain.swa_learning_rate is None:
        return rates
    num_before = first * num_steps
    return rates[:num_before] + [retrain.swa_learning_rate] * (len(rates) - num_before)


def known_history(history: History | None, schedule: str) -> History:
    """The history; ValueError where there is none."""
    if history is not None:
        return history
    raise ValueError(
        f"retrain.schedule={schedule} needs the learning rates of pretraining, and pretrain.from "
        "has no history.json beside its weights; start from a run folder, or describe the "
        "pretraining in the pretrain section and set pretrain.history=config"
    )
