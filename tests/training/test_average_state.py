"""An average of weights over epochs that takes over a state has the same bits in the end."""

import pytest
import torch

from sms_dist.config import RetrainConfig
from sms_dist.training.retrain import WeightAverage

RETRAIN = RetrainConfig(epochs=6, swa_from=0.3)  # the first of them is not averaged


class Weights:
    """Other weights in every epoch."""

    def __init__(self):
        self.epoch = 0

    def __call__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        return {"a": torch.randn(3, 4, generator=generator), "b": torch.randn(2)}


def take(average, weights, epochs):
    for epoch in epochs:
        weights.epoch = epoch
        torch.manual_seed(epoch)
        average.after_epoch(epoch)


@pytest.mark.parametrize("done", range(7))
def test_the_average_goes_on_after_any_epoch(done):
    straight, weights = WeightAverage(RETRAIN, one := Weights()), Weights()
    take(straight, one, range(1, done + 1))
    state = {name: tensor.clone() for name, tensor in straight.state().items()}
    assert len(state) == (3 if done > 1 else 1)
    take(straight, one, range(done + 1, 7))
    other = WeightAverage(RETRAIN, weights)
    other.restore(state)
    take(other, weights, range(done + 1, 7))
    results = straight.result(), other.result()
    assert all(torch.equal(results[0][name], results[1][name]) for name in "ab")


def test_nothing_to_average_has_a_state_too():
    average = WeightAverage(RetrainConfig(epochs=2), Weights())
    average.restore(average.state())
    assert average.state()["count"].item() == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"count": None}, "count is missing"),
        ({"sum.a": None}, "sum.a is missing"),
        ({"sum.c": torch.zeros(1)}, "sum.c of the saved state"),
        ({"sum.b": torch.zeros(2)}, "sum.b is float32"),
        ({"count": torch.tensor(0)}, "sum.a of the saved state|sum.b of the saved state"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(changed, words):
    average, other = (WeightAverage(RETRAIN, Weights()) for _ in range(2))
    take(average, Weights(), [4])
    state = {n: t for n, t in (average.state() | changed).items() if t is not None}
    with pytest.raises(ValueError, match=words):
        other.restore(state)
    assert other.state().keys() == {"count"}


@pytest.mark.parametrize("done", range(5))
def test_a_moving_average_follows_each_step_and_goes_on_after_any(done):
    retrain, weight = RetrainConfig(epochs=6, ema=0.9), torch.zeros(3)
    straight, resumed = (WeightAverage(retrain, lambda: {"a": weight}, {"a": weight}) for _ in "ab")
    expected = None
    for step in range(6):
        if step == done:
            resumed.restore({name: tensor.clone() for name, tensor in straight.state().items()})
        weight.copy_(torch.tensor([0.0, step, step**2]))  # the first is pruned
        straight.after_update()
        if step >= done:
            resumed.after_update()
        expected = weight.clone() if expected is None else 0.9 * expected + 0.1 * weight
    assert torch.equal(straight.result()["a"], resumed.result()["a"])
    torch.testing.assert_close(straight.result()["a"], expected)
    assert straight.result()["a"][0] == 0
