"""The schedules of retraining as schedulers of torch: the rates of a run, for any optimizer."""

import io

import pytest
import torch

from sms_dist import schedule
from sms_dist.config import PretrainConfig
from sms_dist.schedules.learning_rate import (
    RETRAINING,
    History,
    Retraining,
    pretraining_rates,
    retraining_rates,
)

EPOCHS, EPOCH, PHASE = 10, 7, 3  # of pretraining, steps of an epoch, epochs of the phase
STEPS = PHASE * EPOCH
CURVE = PretrainConfig(
    epochs=EPOCHS, learning_rate=0.3, schedule="cosine", warmup_epochs=2, final_learning_rate=0.01
).curve
RATES = pretraining_rates(CURVE, EPOCH)


def optimizer(*rates):
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in rates]
    groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, rates, strict=True)]
    return torch.optim.SGD(groups, lr=1.0)


def rates_of(name, steps=STEPS, made=None, **keywords):
    """The rates with which an optimizer took its steps."""
    made = made or optimizer(0.5)
    rate, found = schedule(name, made, steps, **keywords), []
    for _ in range(steps):
        found.append(made.param_groups[0]["lr"])
        made.step()
        rate.step()
    return found


@pytest.mark.parametrize("name", RETRAINING)
@pytest.mark.parametrize("warmup", [0.0, 0.2])
@pytest.mark.parametrize("largest", [max(RATES), 0.07])
def test_the_rates_are_those_of_a_run(name, warmup, largest):
    history = History(tuple(RATES), EPOCHS).scaled_to(largest)
    phase = Retraining(history, PHASE, distance=0.8)  # more than 3 of 10 epochs
    wanted = retraining_rates(name, phase, STEPS, warmup)
    factor = {"factor": 0.8} if name == "allr" else {}
    assert rates_of(name, largest=largest, curve=RATES, warmup=warmup, **factor) == wanted


def test_without_a_curve_there_are_a_largest_and_a_smallest_rate():
    assert rates_of("llr", 4, largest=0.4) == [0.4, 0.4 * 0.75, 0.2, 0.1]
    assert rates_of("allr", 2, largest=0.4, factor=0.5) == [0.2, 0.1]
    assert rates_of("clr", 2, largest=0.4, smallest=0.2) == pytest.approx([0.4, 0.3])
    assert rates_of("ft", 3, largest=0.4, smallest=0.1) == [0.1] * 3


def test_groups_keep_the_ratios_of_their_rates():
    made = optimizer(0.01, 0.1)
    rate = schedule("llr", made, 2, largest=0.4)
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.04, 0.4])
    made.step()
    rate.step()
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.02, 0.2])
    schedule("llr", made, 2, largest=1.0)  # of the next phase
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.1, 1.0])


def test_a_restored_scheduler_goes_on():
    made = optimizer(0.5)
    rate = schedule("llr", made, 4, largest=0.4)
    for _ in range(2):
        made.step()
        rate.step()
    file = io.BytesIO()
    torch.save([rate.state_dict(), made.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    another = optimizer(0.5)
    restored = schedule("llr", another, 4, largest=0.4)
    restored.load_state_dict(states[0])
    another.load_state_dict(states[1])
    assert another.param_groups[0]["lr"] == 0.2
    another.step()
    restored.step()
    assert another.param_groups[0]["lr"] == 0.1


def test_one_step_too_many_is_refused():
    made = optimizer(0.5)
    rate = schedule("llr", made, 2, largest=0.4)
    for _ in range(2):
        made.step()
        rate.step()
    assert made.param_groups[0]["lr"] == 0.2
    with pytest.raises(ValueError, match="called more often than its 2 steps"):
        rate.step()


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("lllr", {}, "schedule=lllr is not known, did you mean llr"),
        ("llr", {"steps": 0}, "steps=0 must be a whole number"),
        ("llr", {"largest": 0.0}, "largest=0.0 must be a rate above 0"),
        ("llr", {"largest": float("inf")}, "largest=inf must be"),
        ("clr", {"smallest": 2.0}, "smallest=2.0 must lie between 0 and largest=1.0"),
        ("llr", {"factor": 0.5}, "factor=0.5 must be 1, or for allr"),
        ("allr", {"factor": 0.0}, "factor=0.0 must be 1, or for allr"),
        ("llr", {"warmup": 1.0}, "warmup=1.0 is the fraction"),
        ("lrw", {}, "schedule=lrw repeats pretraining; give curve"),
        ("slr", {}, "schedule=slr repeats pretraining; give curve"),
        ("ft", {}, "schedule=ft trains with the last rate of pretraining; give smallest"),
        ("slr", {"curve": [0.0, 0.0]}, "curve must hold the rate of every step"),
        ("slr", {"curve": []}, "curve must hold the rate of every step"),
        ("slr", {"curve": [1.0, -1.0]}, "curve must hold the rate of every step"),
        ("slr", {"curve": [1.0, 0.5], "smallest": 0.1}, "leave that out"),
    ],
)
def test_what_makes_no_schedule_is_refused(name, keywords, message):
    given = {"steps": 3, "largest": 1.0} | keywords
    with pytest.raises(ValueError, match=message) as caught:
        schedule(name, optimizer(0.5), **given)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="not of a Linear"):
        schedule("llr", torch.nn.Linear(1, 1), 3, largest=1.0)
