"""Two ranks under DDP with a compiled model: as eager ones but for rounding, exact where promised.

Whole runs of one rank are in test_compiled_runs.py.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from launching import PROGRAMS, launch_forked, mask, weights

CASES = ("default", "surviving", "dpf", "graphs")
EACH = pytest.mark.parametrize("case", CASES)
pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, and there is no g++"
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(case, what, rank) -> where that rank left its weights."""
    folder = tmp_path_factory.mktemp("compiled")
    finished = launch_forked(
        PROGRAMS / "compiled.py", [folder / "out"], folder, ranks=2, timeout=240
    )
    assert finished.status == 0, finished
    return lambda case, what, rank=0: folder / "out" / case / what / f"rank_{rank}"


def are_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@EACH
def test_compiled_steps_come_close_to_eager_ones(case, stored):
    one, other = (weights(stored(case, what)) for what in ("eager", "straight"))
    tolerance = 2e-2 if case == "dpf" else 1e-5
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance)


@EACH
def test_ranks_agree_and_equal_candidates_too(case, stored):
    first = weights(stored(case, "straight"))
    assert are_equal(first, weights(stored(case, "straight", rank=1)))
    assert are_equal(first, weights(stored(case, "again")))


@EACH
def test_going_on_from_a_state_has_the_bits_of_training_straight_through(case, stored):
    for rank in range(2):
        one, other = (weights(stored(case, what, rank)) for what in ("straight", "resumed"))
        assert are_equal(one, other)


@pytest.mark.parametrize("case", [case for case in CASES if case != "dpf"])  # its mask moves
def test_what_is_pruned_is_exactly_zero_also_when_compiled(case, stored):
    place = stored(case, "straight")
    state = weights(place)
    for name, kept in mask(place).items():
        assert not torch.count_nonzero(state[name][~kept]), name
        assert torch.count_nonzero(state[name][kept]) == kept.sum(), name
