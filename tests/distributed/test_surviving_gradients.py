"""Of gradients only the surviving ones travel, and come out as if all had."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from launching import PROGRAMS, launch_forked, weights

STEPS = range(3)


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """(ranks, way, step, rank) -> the gradients that this rank had then."""
    folder = tmp_path_factory.mktemp("surviving")
    program = PROGRAMS / "surviving_gradients.py"
    finished = launch_forked(program, [folder / "out"], folder, ranks=3)
    assert finished.status == 0, finished
    assert "Warning" not in finished.err, finished.err

    def read(size, way, step, rank):
        return weights(folder / "out" / str(size) / way / str(step) / f"rank_{rank}")

    return read


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("step", STEPS)
def test_two_ranks_have_the_bits_of_dense_gradients(step, gradients):
    for rank in range(2):
        assert_same(gradients(2, "surviving", step, rank), gradients(2, "dense", step, rank))


@pytest.mark.parametrize(("size", "step"), list(product((2, 3), STEPS)))
def test_means_are_added_up_in_the_order_of_ranks_wherever_they_lie(size, step, gradients):
    alone = [gradients(size, "apart", step, rank) for rank in range(size)]
    wanted = {name: sum(own[name] * (1 / size) for own in alone) for name in alone[0]}
    for rank in range(size):
        assert_same(gradients(size, "surviving", step, rank), wanted)


def test_ranks_have_gradients_of_their_own(gradients):
    """Else the tests above say nothing."""
    one, other = (gradients(3, "apart", 0, rank) for rank in (0, 1))
    assert [name for name in one if torch.equal(one[name], other[name])] == ["side.weight"]


def test_three_ranks_come_near_dense_gradients(gradients):
    one, other = (gradients(3, way, 2, 0) for way in ("surviving", "dense"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-4)
