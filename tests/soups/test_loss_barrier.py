"""The loss between two states: known figures in closed form."""

import pytest
import torch

from sms_dist import loss_barrier


def state(*values):
    return {"w": torch.tensor(values), "bn.running_var": torch.ones(1), "n": torch.tensor(3)}


def bump(height):
    """A loss that is flat but for a bump in the middle of the segment from 0 to 1."""
    return lambda mixed: 0.5 + height * max(0.0, 1 - abs(4 * float(mixed["w"][0]) - 2))


A, B = state(0.0, 2.0), state(1.0, 2.0)


def test_the_barrier_is_the_largest_excess_over_the_line_between_the_ends():
    assert loss_barrier(A, B, bump(2.0)) == pytest.approx(2.0)
    assert loss_barrier(A, B, bump(2.0), points=4) == pytest.approx(2 / 3)  # at 1/3 and 2/3
    assert loss_barrier(A, B, bump(-2.0)) == 0.0
    tilted = loss_barrier(A, B, lambda mixed: bump(1.0)(mixed) + 3 * float(mixed["w"][0]))
    assert tilted == pytest.approx(1.0)
    assert loss_barrier(A, B, lambda mixed: [0.0, float("inf")][0 < mixed["w"][0] < 1]) > 1e300


def test_the_loss_is_asked_at_the_ends_once_and_at_equal_distances_between():
    places = []

    def loss(mixed):
        places.append(float(mixed["w"][0]))
        assert mixed["n"].dtype == torch.int64
        return 0.0

    loss_barrier(A, B, loss)
    assert sorted(places) == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((A, B, bump(1.0), 2), "points=2 must be a whole number of at least 3"),
        ((A, {"w": B["w"]}, bump(1.0)), "candidates 0 and 1 differ: bn.running_var is float32"),
        ((A, state(1.0, float("nan")), bump(1.0)), "state b: w is not finite"),
        ((A, [B], bump(1.0)), "state b must be a mapping from names to tensors"),
        ((A, B, lambda mixed: float("nan")), "loss returned nan at 0 of the way from a to b"),
        ((A, B, lambda mixed: float("inf")), "loss returned inf at 0 of the way"),
    ],
)
def test_what_has_no_barrier_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        loss_barrier(*arguments)
