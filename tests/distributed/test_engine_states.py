"""An engine that takes over a state from disk goes on with the same bits, on every rank."""

from __future__ import annotations

import pytest
import torch
from launching import PROGRAMS, launch_forked, read_json
from safetensors.torch import load_file

PAIRS = ((0, 0), (0, 1), (1, 0), (1, 1))  # (candidate, rank of its group)
FOUR = tuple((0, rank) for rank in range(4))
ENGINES = ("ddp", "zero_0", "zero_1", "zero_2", "zero_3")
CASES = {  # as programs/engine_states.py has them
    **{f"{e}_{more}": PAIRS for e in ENGINES for more in ("fp32_adamw", "bf16_sgd")},
    **{f"{e}_clipped_pieces": PAIRS for e in ENGINES},
    **dict.fromkeys(("ddp_fp32_sgd", "zero_1_bf16_adamw", "zero_3_bf16_adamw"), PAIRS),
    **{f"{e}_of_four": FOUR for e in ("ddp", "zero_1", "zero_3")},
    "ddp_of_four_pieces": FOUR,
    "ddp_surviving_fp32_sgd": PAIRS,
    "ddp_surviving_clipped_pieces": PAIRS,
    "ddp_surviving_of_four": FOUR,
    "ddp_no_momentum": PAIRS,
    "zero_1_no_momentum": PAIRS,
    "zero_1_bf16_adding_in_fp32": PAIRS,
    "zero_0_fp16": PAIRS,
    "zero_1_fp16": PAIRS,
    "zero_3_fp16": PAIRS,
    "ddp_dpf": PAIRS,
    "ddp_str": PAIRS,
}
EACH = pytest.mark.parametrize("case", CASES)
TRAVELS = ("ddp", "ddp_surviving")
ANOTHER_PROCESS = ("ddp_fp32_sgd", "zero_1_bf16_adamw", "zero_3_bf16_sgd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine_states")
    finished = launch_forked(
        PROGRAMS / "engine_states.py", [folder / "out"], folder, ranks=4, timeout=200
    )
    assert finished.status == 0, finished
    return folder / "out"


@pytest.fixture(scope="module")
def stored(folder):
    """(case, candidate, rank, what) -> the tensors that this rank of the group had then."""

    def read(case, candidate, rank, what):
        place = folder / case / f"candidate_{candidate}" / f"rank_{rank}"
        return load_file(place / f"{what}.safetensors")

    return read


def differing(one, other):
    """The names of the tensors that are not the same bits."""
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or not is_same(one[name], other[name])
    ]


def is_same(one, other):
    return one.dtype is other.dtype and torch.equal(one, other)


def without_statistics(state):
    """Those of batch norm are each rank's own, and no step depends on them."""
    return {name: tensor for name, tensor in state.items() if "running" not in name}


@EACH
def test_weights_have_the_bits_of_training_straight_through(case, stored):
    for candidate, rank in CASES[case]:
        straight, resumed = (stored(case, candidate, rank, w) for w in ("straight", "resumed"))
        assert differing(*map(without_statistics, (straight, resumed))) == []
        assert all(torch.isfinite(tensor).all() for tensor in straight.values())


@EACH
def test_so_has_all_else_that_the_next_step_depends_on(case, stored):
    for candidate, rank in CASES[case]:
        ends = (stored(case, candidate, rank, f"{way}_state") for way in ("straight", "resumed"))
        assert differing(*map(without_statistics, ends)) == []


@EACH
def test_what_is_restored_is_what_was_saved(case, stored):
    for candidate, rank in CASES[case]:
        is_sharded = case.startswith(("zero_1", "zero_2", "zero_3"))
        saved = stored(case, candidate, rank if is_sharded else 0, "saved")
        assert differing(saved, stored(case, candidate, rank, "restored")) == []


@EACH
def test_replicas_of_a_group_agree_after_going_on(case, stored):
    for candidate, rank in CASES[case]:
        assert (
            differing(
                stored(case, candidate, 0, "resumed"), stored(case, candidate, rank, "resumed")
            )
            == []
        )


@EACH
def test_the_steps_after_the_state_do_something(case, stored):
    """Else the tests above say nothing."""
    for candidate, rank in CASES[case]:
        fresh, end = (stored(case, candidate, rank, what) for what in ("fresh", "resumed"))
        assert set(differing(fresh, end)) == set(end)
        states = (stored(case, candidate, rank, w) for w in ("restored", "resumed_state"))
        assert {name.partition(".")[0] for name in differing(*states)} >= {"model"}


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("ddp_dpf", "ddp_str")])
def test_pruned_weights_stay_exactly_zero(case, stored):
    for candidate, rank in CASES[case]:
        state, mask = (stored(case, candidate, rank, what) for what in ("resumed", "mask"))
        for name, kept in mask.items():
            assert not torch.count_nonzero(state[name][~kept]), name
            assert torch.count_nonzero(state[name][kept]) == kept.sum(), name


@EACH
def test_a_fresh_engine_has_not_stepped(case, stored):
    """DeepSpeed's ZeRO-0 in bf16 would: with weight decay, on gradients that are zero."""
    for candidate, rank in CASES[case]:
        state = stored(case, candidate, rank, "fresh_state")
        assert not [name for name in state if name.startswith("optimizer")]
        weights = stored(case, candidate, rank, "fresh")
        if case.startswith("zero") and "bf16" in case:
            assert all(torch.equal(t, t.bfloat16().float()) for t in weights.values())


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("fp16")])
def test_the_loss_scale_is_another_when_the_state_is_taken(case, stored):
    """Else a scale that is not restored would go unnoticed."""
    for candidate, rank in CASES[case]:
        states = (stored(case, candidate, rank, what) for what in ("fresh_state", "saved"))
        before, then = (state["scaler.cur_scale"].item() for state in states)
        assert before != then


@pytest.mark.parametrize("case", ["fp32_sgd", "clipped_pieces"])
def test_two_ranks_come_to_the_same_bits_when_only_surviving_gradients_travel(case, stored):
    for candidate, rank in PAIRS:
        ends = (stored(f"{e}_{case}", candidate, rank, "straight_state") for e in TRAVELS)
        assert differing(*map(without_statistics, ends)) == []


def test_four_ranks_add_surviving_gradients_up_in_an_order_of_their_own(stored):
    """Else the hook is not at work in these tests: with two ranks its bits are those of DDP."""
    one, other = (stored(f"{e}_of_four", 0, 0, "straight") for e in TRAVELS)
    assert differing(one, other)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_that_does_not_fit_is_refused_by_all_ranks_in_one_line(engine, folder):
    """It fits on all ranks but one; and the state after it is taken as if nothing had been."""
    weights = "model.last.weight" if engine == "ddp" else "model.master.0"
    for candidate, rank in PAIRS:
        place = folder / f"{engine}_fp32_adamw" / f"candidate_{candidate}" / f"rank_{rank}"
        answers = read_json(place / "refused.json")
        assert answers["missing"] == f"{weights} is missing from the saved state"
        assert answers["unknown"].startswith("optimizer.0.momentum_buffer of the saved state is")
        assert answers["halved"] == "optimizer.0.exp_avg is missing from the saved state"
        assert answers["shape"].startswith(f"{weights} is float32[")
        assert answers["type"].startswith(f"{weights} is bfloat16[")
        assert not any("\n" in answer for answer in answers.values())


def test_another_process_goes_on_with_the_same_bits(folder, stored):
    program = PROGRAMS / "engine_states.py"
    before = {
        path: path.read_bytes()
        for case in ANOTHER_PROCESS
        for path in folder.glob(f"{case}/candidate_0/*/resumed*.safetensors")
    }
    assert len(before) == 4 * len(ANOTHER_PROCESS)
    for path in before:
        path.unlink()
    finished = launch_forked(program, [folder, *ANOTHER_PROCESS], folder, ranks=2, timeout=120)
    assert finished.status == 0, finished
    assert {path: path.read_bytes() for path in before} == before
