"""The library on ranks: soups have the bits of one process, and all ranks refuse what is wrong."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from launching import PROGRAMS, ROOT, launch, launch_forked, read_json
from safetensors.torch import load_file
from states import NUM, bits, candidate, closeness_to, mask

import sms_dist as sms

MESHES = ["1", "2"]  # ranks per candidate
EXAMPLE = ROOT / "examples" / "digits_soup.py"
REFUSED = {
    "not finite": r"^candidate \d: wide is not finite; leave out a candidate that diverged$",
    "not zero": r"^candidate \d: \d+ weights of conv.weight are not zero though the mask prunes",
    "no tensor": r"^candidate \d must be a mapping from names to tensors, as weights returns it$",
    "no state": r"^candidate \d must be a mapping from names to tensors, as weights returns it$",
    "numbered": r"^candidate \d must be a mapping from names to tensors, as weights returns it$",
    "meta": r"^candidate \d: wide is Tensor, float64 \[3\], on meta; give whole, dense tensors",
    "a name": r"^candidates 0 and 3 differ: z is missing and float32 \[2\]|^the ranks of group 1",
    "another mask": "^ranks do not agree on the mask; prune the same weights on all of them$",
    "no mask": "^ranks do not agree on the mask",
    "mask of floats": "^conv.weight of a mask is of torch.float32; it must be torch.bool$",
    "mask of nothing": "^conv.weight of a mask is on the meta device; give a dense tensor",
    "mask of another": r"^candidate \d: the mask has conv \[40, 30\], the state has no such tensor",
    "held twice": "^candidate 0 is held by groups 0 and 3; mesh.mine|^the ranks of group 1 hold",
    "a negative index": "^states must map indices of candidates, 0 and up, to their states$",
    "no candidate": "^there is no candidate: the states are empty on all ranks$",
    "a list": "^states must map indices of candidates",
    "unknown rule": "^soup.rule=gredy is not known, did you mean greedy",
    "learned": "^soup.rule=learned needs gradients of a loss",
    "no score": "^soup.rule=greedy compares candidates; give score$",
    "another rule": "^ranks do not agree on the soup",
    "scores differ": r"^ranks do not agree on the score of a soup: 0.0 \(rank 0\), 1.0 \(rank 1\)$",
    "scores that are no numbers": "^score returned nan; return a number, the larger the better$",
    "a score is nothing": "^score returned None; return a number$",
    "a score is no function": "^score=3 must be a function of a state$",
    "a score fails": "^score=.* raised ZeroDivisionError: float division by zero|division by zero",
    "a rule ends early": "^ranks do not agree on the soup",
    "a rule fails": "^soup.rule=.* raised ZeroDivisionError",
    "a rule goes on": "^score=.* raised StopIteration",
    "a bad rule": r"^soup.rule=.* returned \[1.0, 2.0\] for 5 candidates",
    "a rule returns nothing": r"^soup.rule=.* returned None for 5 candidates",
    "a rule asks for half": r"^the rule asks for the score of \[1.0\]; give a number for each of 5",
    "a rule is no rule": r"^soup.rule=\[0.5, 0.5\] is no name; valid values: uniform, best",
    "no mesh": "^there are 4 ranks; give soup its mesh$",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of 4 ranks found."""
    folder = tmp_path_factory.mktemp("library")
    program = PROGRAMS / "library.py"
    finished = launch_forked(program, [folder / "found.json"], folder, ranks=4)
    assert finished.status == 0, finished
    return read_json(folder / "found.json")


def by_hand(dtype):
    """The mean of each tensor over the candidates, in float64 and their order."""
    each = [candidate(i, dtype) for i in range(NUM)]
    means = dict(each[0])
    for name, tensor in means.items():
        if tensor.is_floating_point():
            total = sum(state[name].double() for state in each[1:])
            total = each[0][name].double() + total
            means[name] = (total / NUM).to(tensor.dtype)
    return means


def one_process(dtype=torch.float32, **keywords):
    states = {i: candidate(i, dtype) for i in range(NUM)}
    return sms.soup(states, mask(), **keywords)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_soup_is_the_mean_whatever_the_type(dtype):
    soup, wanted = one_process(dtype), by_hand(dtype)
    assert soup.coefficients == dict.fromkeys(range(NUM), 1 / NUM)
    for name, tensor in soup.state.items():
        assert tensor.dtype == wanted[name].dtype
        if tensor.is_complex():
            whole = torch.stack([candidate(i)[name] for i in range(NUM)]).mean(0)
            assert torch.allclose(tensor, whole)
        elif name == "wide" or dtype == torch.float64:  # the order of a sum decides its last bit
            assert torch.allclose(tensor, wanted[name], rtol=1e-14)
        else:
            assert torch.equal(tensor, wanted[name]), name
    assert not soup.state["conv.weight"][~mask()["conv.weight"]].any()


def test_distances_are_those_of_the_weights_without_buffers():
    soup = one_process()
    weights = [candidate(i) for i in range(NUM)]
    for state in weights:
        for name in ("bn.running_mean", "bn.num_batches_tracked", "table", "flag"):
            del state[name]
    assert soup.distances == sms.soup(dict(enumerate(weights)), mask()).distances
    assert 80 < soup.distances["angle_mean"] < 100


@pytest.mark.parametrize("ranks", MESHES)
def test_soups_have_the_bits_of_one_process_on_every_mesh(ranks, found):
    wanted = {str(d): bits(one_process(d)) for d in (torch.float32, torch.bfloat16, torch.float64)}
    for rule in ("best", "greedy"):
        wanted[rule] = bits(one_process(rule=rule, score=closeness_to(3)))
    few = {i: candidate(i, torch.float64) for i in (2, 4, 1)}
    wanted["a few"] = bits(sms.soup(few, mask()))
    for rank in found:
        soups = rank[ranks]["soups"]
        for name, (digest, coefficients) in wanted.items():
            assert soups[name] == [digest, [[*pair] for pair in coefficients]], name
        assert soups["best"][1] == [[i, float(i == 3)] for i in range(NUM)]
        assert sorted(value for _, value in soups["own_rule"][1]) == [0, 0, 0, 0.25, 0.75]
        assert dict(soups["own_rule"][1])[3] == 0.75


def test_buffers_of_replicas_are_united(found):
    table = one_process().state["table"]
    for rank in found:
        assert torch.allclose(torch.tensor(rank["1"]["soups"]["table"]), table)
        assert torch.allclose(torch.tensor(rank["2"]["soups"]["table"]), table + 0.5)


@pytest.mark.parametrize("ranks", MESHES)
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_on_one_rank_is_refused_on_all(what, ranks, found):
    for rank in found:
        message = rank[ranks]["refusals"][what]
        assert re.search(REFUSED[what], message), message
        assert "\n" not in message


@pytest.mark.parametrize("ranks", MESHES)
def test_after_a_refusal_the_ranks_go_on_together(ranks, found):
    for rank in found:
        assert rank[ranks]["refusals"]["and then"].startswith("nothing was refused")


def test_replicas_that_differ_are_refused(found):
    for rank in found:
        assert rank["1"]["a replica differs"].startswith("nothing was refused")
        assert rank["2"]["a replica differs"].startswith("the ranks of group 1 hold different")


def test_a_mesh_says_where_a_rank_is(found):
    assert [rank["1"]["mesh"] for rank in found] == [[4, i, 0, 1, i == 0] for i in range(4)]
    assert [rank["2"]["mesh"] for rank in found] == [
        [2, i // 2, i % 2, 2, i == 0] for i in range(4)
    ]
    assert [rank["1"]["mine"] for rank in found] == [[0, 4], [1], [2], [3]]
    assert [rank["2"]["mine"] for rank in found] == [[0, 2, 4]] * 2 + [[1, 3]] * 2
    assert [rank["2"]["mpu"] for rank in found] == [
        [[0, 1], [0, 1], [i]] if i < 2 else [[2, 3], [2, 3], [i]] for i in range(4)
    ]


def test_a_mesh_that_does_not_fit_is_refused_on_all_ranks(found):
    for rank in found:
        meshes = rank["meshes"]
        assert meshes["3"] == "ranks_per_candidate=3 must divide the 4 ranks; try 1, 2, 4"
        assert meshes["0"] == "ranks_per_candidate=0 must be a whole number of at least 1"
        assert meshes["word"] == (
            "ranks_per_candidate=tensor([1., 1.]) must be a whole number of at least 1"
        )
        assert meshes["half"] == "ranks_per_candidate=0.5 must be a whole number of at least 1"
        assert meshes["other"] == (
            "ranks do not agree on ranks_per_candidate: 1 (rank 0), 2 (rank 3)"
        )


def test_trouble_with_batches_of_one_rank_is_every_rank_s_and_changes_nothing(found):
    for rank in found:
        norms = rank["norms"]
        assert re.match(
            "model=Sequential raised RuntimeError: mat1 and mat2", norms["a wrong shape"]
        )
        assert norms["not finite"].startswith(
            "recompute_norms: the statistics are not finite; look"
        )
        assert re.match("model=Sequential raised (Type|Attribute)Error", norms["a text"])
        assert norms["broken"].startswith("batches=generator raised KeyError: 'no such file'")
        assert norms["no batches"].startswith("batches=int raised TypeError: 'int' object is not")
        assert norms["none"] == "recompute_norms: no rank has a batch; give it some"
        assert norms["as before"]


def test_statistics_are_those_of_torch_though_a_share_is_empty(found):
    assert all(rank["norms"]["as torch"] for rank in found)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Name of a layout -> what the example wrote."""
    folder = tmp_path_factory.mktemp("examples")
    alone, by_four, by_two = (folder / name for name in ("alone", "by_four", "by_two"))
    finished = launch(EXAMPLE.parent / "mine.py", [], alone)
    assert finished.status == 0, finished
    for target in (by_four, by_two):
        target.mkdir()
        (target / "dense.safetensors").write_bytes((alone / "dense.safetensors").read_bytes())
    for finished in (
        launch(EXAMPLE, [], alone),
        launch_forked(EXAMPLE, [], by_four, ranks=4),
        launch_forked(EXAMPLE, [2], by_two, ranks=4),
    ):
        assert finished.status == 0, finished
        assert "phase 3: 90.00% sparse" in finished.out
    return {
        path.name: [
            (
                load_file(path / f"soup_{k}.safetensors"),
                sms.Mask.load(path / f"mask_{k}.safetensors"),
            )
            for k in (1, 2, 3)
        ]
        for path in (alone, by_four, by_two)
    }


def test_the_example_makes_sparse_soups_whatever_the_layout(examples):
    for phases in examples.values():
        for (soup, kept), sparsity in zip(phases, sms.sparsities(0.9, 3), strict=True):
            assert abs((kept.sparsity - sparsity) * kept.num_weights) <= 0.5
            assert all(not soup[name][~some].any() for name, some in kept.items())
            assert all(soup[name].any() for name in kept)
        for (_, loose), (_, tight) in pairwise(phases):
            assert all(not (tight[name] & ~loose[name]).any() for name in tight)


def test_four_groups_and_four_waves_have_the_same_bits(examples):
    """But for statistics of batches, which more ranks divide into smaller and more ones."""
    for (alone, kept), (by_four, same) in zip(examples["alone"], examples["by_four"], strict=True):
        assert kept == same
        weights = [n for n in alone if "running" not in n and "num_batches" not in n]
        assert all(torch.equal(alone[name], by_four[name]) for name in weights)
