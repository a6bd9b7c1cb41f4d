"""A held mask stays exactly zero when several ranks train, and the others train as by hand."""

from __future__ import annotations

import pytest
import torch
from launching import PROGRAMS, launch_forked, mask, weights

EXACT = ("ddp_before", "ddp_after", "zero_redundancy")
FLOAT, LOW = (
    [f"zero_{stage}_{order}_{bits}" for stage in range(4) for order in ("before", "after")]
    for bits in ("float32", "bfloat16")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("holding")
    finished = launch_forked(PROGRAMS / "holding.py", [folder / "out"], folder, ranks=2)
    assert finished.status == 0, finished
    return folder / "out"


@pytest.mark.parametrize("case", [*EXACT, *FLOAT, *LOW])
def test_pruned_weights_are_exactly_zero_and_survivors_train_as_by_hand(case, folder):
    hand = weights(folder / f"hand_{'before' if 'before' in case else 'after'}" / "rank_0")
    tolerance = 2e-2 if case in LOW else 1e-5
    for rank in range(2):
        place = folder / case / f"rank_{rank}"
        state, kept = weights(place), mask(place)
        assert len(kept) == 3
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, hand[name], rtol=tolerance, atol=tolerance)
        for name, flags in kept.items():
            assert not torch.count_nonzero(state[name][~flags]), name
            assert torch.count_nonzero(state[name][flags]) == flags.sum(), name
