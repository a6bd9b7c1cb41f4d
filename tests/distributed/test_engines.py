"""Every engine, ZeRO stage and precision trains a group as one process with whole batches would."""

from __future__ import annotations

import pytest
import torch
from launching import PROGRAMS, launch_forked, mask, weights

ENGINES = ("ddp", "zero_0", "zero_1", "zero_2", "zero_3")
CASES = [f"{engine}_{precision}" for engine in ENGINES for precision in ("fp32", "bf16")]
CANDIDATES = range(3)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(case, candidate, rank) -> the weights that this rank of the group had at the end."""
    folder = tmp_path_factory.mktemp("engines")
    finished = launch_forked(
        PROGRAMS / "engines.py", [folder / "out"], folder, ranks=4, timeout=150
    )
    assert finished.status == 0, finished

    def place(case, candidate, rank=0):
        return folder / "out" / case / f"candidate_{candidate}" / f"rank_{rank}"

    return place


def assert_close(one, other, tolerance=1e-6):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance)


def are_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("case", CASES)
def test_replicas_of_a_group_agree_bit_for_bit(case, stored):
    for candidate in CANDIDATES:
        one, other = (weights(stored(case, candidate, rank)) for rank in (0, 1))
        assert are_equal(one, other)
        assert {t.dtype for t in one.values() if t.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("case", CASES)
def test_groups_differ(case, stored):
    first, second, third = (weights(stored(case, candidate)) for candidate in CANDIDATES)
    for one, other in ((first, second), (first, third), (second, third)):
        assert not any(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("case", CASES)
def test_pruned_weights_are_exactly_zero_in_the_masters(case, stored):
    for candidate in CANDIDATES:
        place = stored(case, candidate)
        state, kept = weights(place), mask(place)
        assert len(kept) == 4
        for name in kept:
            assert not torch.count_nonzero(state[name][~kept[name]]), name
            assert torch.count_nonzero(state[name][kept[name]]) == kept[name].sum(), name


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_zero_gives_what_ddp_gives(engine, stored):
    for candidate in CANDIDATES:
        plain = weights(stored("ddp_fp32", candidate))
        assert_close(weights(stored(f"{engine}_fp32", candidate)), plain)


@pytest.mark.parametrize("engine", ENGINES)
def test_low_precision_has_fp32_masters(engine, stored):
    """They move by less than bf16 can tell, and stay near the fp32 result."""
    state = weights(stored(f"{engine}_bf16", 0))
    assert any(not torch.equal(t, t.bfloat16().float()) for t in state.values())
    assert_close(state, weights(stored(f"{engine}_fp32", 0)), tolerance=5e-2)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_group_gives_what_one_process_with_whole_batches_gives(engine, stored):
    for candidate in CANDIDATES:
        alone = weights(stored("single", candidate))
        assert_close(weights(stored(f"{engine}_clipped", candidate)), alone)


def test_clipping_is_at_work_in_these_tests(stored):
    for candidate in CANDIDATES:
        clipped, free = (weights(stored(case, candidate)) for case in ("single", "unclipped"))
        assert any((clipped[name] - free[name]).abs().max() > 1e-3 for name in clipped)


@pytest.mark.parametrize("engine", ENGINES)
def test_clipping_does_not_leak_between_groups(engine, stored):
    together, lonely = (weights(stored(f"{engine}_{c}", 1)) for c in ("clipped", "lonely"))
    assert are_equal(together, lonely)


@pytest.mark.parametrize("engine", ENGINES)
def test_accumulation_changes_nothing(engine, stored):
    for candidate in CANDIDATES:
        whole, pieces = (weights(stored(f"{engine}_{c}", candidate)) for c in ("clipped", "pieces"))
        assert_close(pieces, whole)
