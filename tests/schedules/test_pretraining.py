"""Learning rates of pretraining: where they begin, drop and end."""

import pytest

from sms_dist.config import PretrainConfig
from sms_dist.schedules.learning_rate import PRETRAINING, pretraining_rates


def rates_of(steps_per_epoch=10, **keys):
    return pretraining_rates(PretrainConfig(**keys).curve, steps_per_epoch)


@pytest.mark.parametrize("name", PRETRAINING)
@pytest.mark.parametrize("warmup", [0, 2, 6])
def test_there_is_one_rate_for_every_step_and_none_above_the_largest(name, warmup):
    rates = rates_of(schedule=name, epochs=6, warmup_epochs=warmup, learning_rate=0.3)
    assert len(rates) == 60
    assert all(0 <= rate <= 0.3 for rate in rates)


def test_constant_stays():
    assert rates_of(schedule="constant", epochs=2, learning_rate=0.3) == [0.3] * 20


def test_linear_falls_evenly_from_the_largest_to_the_final_rate():
    rates = rates_of(schedule="linear", epochs=2, learning_rate=0.5, final_learning_rate=0.1)
    assert rates[0] == 0.5
    assert rates == pytest.approx([0.5 - 0.02 * i for i in range(20)])


def test_cosine_starts_flat_passes_the_middle_and_ends_flat():
    rates = rates_of(schedule="cosine", epochs=10, learning_rate=0.5, final_learning_rate=0.1)
    assert rates[0] == 0.5
    assert rates[50] == pytest.approx(0.3)
    assert rates[25] == pytest.approx(0.3 + 0.2 * 0.5**0.5)
    assert 0.1 < rates[-1] < 0.1001
    assert rates == sorted(rates, reverse=True)


def test_milestones_drop_at_the_start_of_their_epoch():
    keys = {"schedule": "steps", "epochs": 200, "learning_rate": 0.1, "milestones": (91, 181)}
    rates = rates_of(steps_per_epoch=3, **keys)
    by_epoch = [rates[3 * i : 3 * i + 3] for i in range(200)]
    assert by_epoch[90 - 1] == [0.1] * 3
    assert by_epoch[91 - 1] == pytest.approx([0.01] * 3)
    assert by_epoch[180 - 1] == pytest.approx([0.01] * 3)
    assert by_epoch[181 - 1] == by_epoch[-1] == pytest.approx([0.001] * 3)
    assert len(set(rates)) == 3


def test_the_decay_of_milestones_is_configured():
    rates = rates_of(1, schedule="steps", epochs=3, learning_rate=0.4, milestones=(2,), decay=0.5)
    assert rates == [0.4, 0.2, 0.2]


def test_milestones_count_the_epochs_of_the_warm_up():
    rates = rates_of(1, schedule="steps", epochs=6, warmup_epochs=2, milestones=(4,))
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.01, 0.01, 0.01])


def test_a_milestone_in_the_warm_up_counts_from_its_end_on():
    rates = rates_of(1, schedule="steps", epochs=4, warmup_epochs=2, milestones=(2,))
    assert rates == pytest.approx([0.0, 0.05, 0.01, 0.01])


@pytest.mark.parametrize("name", PRETRAINING)
def test_the_warm_up_rises_evenly_from_0_and_meets_the_body(name):
    rates = rates_of(schedule=name, epochs=8, warmup_epochs=3, learning_rate=0.6)
    assert rates[:31] == pytest.approx([0.02 * i for i in range(31)])
    assert rates[30] == 0.6


def test_the_body_fills_what_the_warm_up_leaves():
    with_warmup = rates_of(schedule="linear", epochs=5, warmup_epochs=2)
    assert with_warmup[20:] == rates_of(schedule="linear", epochs=3)


def test_no_epochs_have_no_rates():
    assert rates_of(epochs=0) == []


def test_a_warm_up_longer_than_training_is_refused():
    with pytest.raises(ValueError, match=r"pretrain\.warmup_epochs=4 .*pretrain\.epochs=3"):
        rates_of(epochs=3, warmup_epochs=4)


def test_an_unknown_schedule_names_the_legal_ones():
    with pytest.raises(ValueError, match="schedule=cosin is not known, did you mean cosine"):
        rates_of(schedule="cosin")
