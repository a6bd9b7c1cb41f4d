"""Mixes the same candidates on several meshes of 4 ranks, and what must be refused on all of them.

The argument is a file; it gets what each rank found, by ranks per candidate.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import torch
import torch.distributed as dist
from states import NUM, bits, candidate, closeness_to, mask

import sms_dist as sms
from sms_dist.mesh.collectives import gather_json

dist.init_process_group()
rank, size = dist.get_rank(), dist.get_world_size()
is_last = rank == size - 1
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def refusal(function, *arguments, **keywords):
    try:
        return f"nothing was refused: {function(*arguments, **keywords)}"
    except ValueError as error:
        return str(error)


def own_rule(scores, score_of):
    ends = [[float(i == j) for j in range(NUM)] for i in range(NUM)]
    order = sorted(range(NUM), key=lambda i: -score_of(ends[i]))
    return [0.75 if i == order[0] else 0.25 if i == order[1] else 0.0 for i in range(NUM)]


def soups(mesh, own):
    """The bits of soups by every type and rule."""
    found = {}
    for dtype in DTYPES:
        states = {i: candidate(i, dtype) for i in mesh.mine(NUM)}
        found[str(dtype)] = bits(sms.soup(states, mask(), mesh))
    score = closeness_to(3)
    for rule in ("best", "greedy", own_rule):
        found[str(getattr(rule, "__name__", rule))] = bits(
            sms.soup(own, mask(), mesh, rule=rule, score=score)
        )
    # Group 0 holds two that do not follow each other, and another none at all.
    few = {0: [4, 1], 1: [2]}.get(mesh.group, [])
    wide = {i: candidate(i, torch.float64) for i in few}
    found["a few"] = bits(sms.soup(wide, mask(), mesh))
    # The group's ranks have seen different batches.
    ours = {i: state | {"table": state["table"] + mesh.data_rank} for i, state in own.items()}
    ours = {i: s | {"table": torch.nn.Buffer(s["table"])} for i, s in ours.items()}
    found["table"] = sms.soup(ours, mask(), mesh).state["table"].tolist()
    return found


def refusals(mesh, own):
    """What each rank is told where the last one is wrong."""

    def soup(change=None, **keywords):
        states = {i: dict(state) for i, state in own.items()}
        if is_last and change is not None:
            change(states, states[min(states)])
        given = {"states": states, "mask": mask(), "mesh": mesh} | keywords
        return refusal(lambda: bits(sms.soup(**given)))

    def calls_of(results):
        """A score that takes its results in turn."""
        results = iter(results)
        return lambda state: next(results)

    nothing = {"conv.weight": mask()["conv.weight"].to("meta")}
    nowhere = {"conv.weight": torch.ones(40, 30, dtype=torch.bool)}
    ones, last_alone = [1.0] * NUM, [0.0] * (NUM - 1) + [1.0]
    return {
        "not finite": soup(lambda all_, one: one.update(wide=one["wide"] / 0)),
        "not zero": soup(lambda all_, one: one.update({"conv.weight": torch.ones(40, 30)})),
        "no tensor": soup(lambda all_, one: one.update(wide=3.0)),
        "numbered": soup(lambda all_, one: one.update({0: one["wide"]})),
        "no state": soup(lambda all_, one: all_.update({min(all_): None})),
        "meta": soup(lambda all_, one: one.update(wide=one["wide"].to("meta"))),
        "a name": soup(
            lambda all_, one: all_.update({i: s | {"z": torch.ones(2)} for i, s in all_.items()})
        ),
        "another mask": soup(mask=nowhere if is_last else mask()),
        "no mask": soup(mask=None if is_last else mask()),
        "mask of floats": soup(mask={"conv.weight": torch.ones(40, 30)}),
        "mask of nothing": soup(mask=nothing if is_last else mask()),
        "mask of another": soup(mask={"conv": nowhere["conv.weight"]}),
        "held twice": soup(lambda all_, one: all_.update({0: one})),
        "a negative index": soup(lambda all_, one: all_.update({-1: one})),
        "no candidate": soup(states={}),
        "a list": soup(states=[candidate(0)] if is_last else own),
        "unknown rule": soup(rule="gredy" if is_last else "uniform"),
        "learned": soup(rule="learned", score=closeness_to(0)),
        "no score": soup(rule="greedy"),
        "another rule": soup(rule="uniform" if is_last else "best", score=closeness_to(0)),
        "scores differ": soup(rule="best", score=lambda state: float(rank)),
        "scores that are no numbers": soup(rule="best", score=lambda state: float("nan")),
        "a score is nothing": soup(rule="best", score=lambda state: None if is_last else 1.0),
        "a score is no function": soup(score=3 if is_last else None),
        "a score fails": soup(rule="best", score=lambda state: 1 / (not is_last)),
        "a rule ends early": soup(
            rule=lambda scores, score_of: (
                last_alone if is_last else [score_of(last_alone), *last_alone[1:]]
            ),
            score=closeness_to(0),
        ),
        "a rule fails": soup(
            rule=lambda scores, score_of: [score_of(ones) / (NUM * (not is_last))] * NUM,
            score=calls_of(ones * 3),
        ),
        "a rule goes on": soup(rule=stubborn, score=calls_of(ones)),
        "a bad rule": soup(rule=lambda scores, score_of: [1, 2], score=calls_of(ones)),
        "a rule returns nothing": soup(
            rule=lambda scores, score_of: None if is_last else last_alone, score=calls_of(ones)
        ),
        "a rule asks for half": soup(
            rule=lambda scores, score_of: [score_of(ones[:1] if is_last else last_alone)],
            score=calls_of(ones * 2),
        ),
        "a rule is no rule": soup(rule=[0.5, 0.5] if is_last else "uniform"),
        "no mesh": soup(mesh=None),
        "and then": soup(),
    }


def norms(mesh):
    """Recomputed statistics: what one rank's trouble is to all of them, and that it leaves none."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    batches = [torch.randn(n, 3) + n for n in (4, 9, 5, 3)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def broken():
        yield batches[0]
        raise KeyError("no such file")

    troubles = {
        "a wrong shape": batches[0][:, 1:],
        "not finite": batches[0] / 0,
        "a text": ["a"],
    }
    own = [batches[rank]]
    last = {name: [*own, batch] for name, batch in troubles.items()}
    last |= {"broken": broken(), "no batches": 3}
    found = {
        name: refusal(sms.recompute_norms, model, last[name] if is_last else own, mesh)
        for name in last
    }
    found["none"] = refusal(sms.recompute_norms, model, [], mesh)
    found["as before"] = model.training and all(
        torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()
    )
    # The first three have batches, one of the last rank's is an empty share.
    shares = [*[[b] for b in batches[:-1]], [batches[-1], batches[0][:0]]]
    sms.recompute_norms(model, shares[rank], mesh)
    reference = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    reference.load_state_dict(before)
    torch.optim.swa_utils.update_bn(batches, reference)
    found["as torch"] = all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-6)
        for a, b in zip(model.state_dict().values(), reference.state_dict().values(), strict=True)
    )
    return found


def stubborn(scores, score_of):
    for _ in range(2):
        with suppress(ValueError):
            score_of(scores)
    return [1.0] + [0.0] * (NUM - 1)


found = {}
for ranks in (1, 2):
    mesh = sms.Mesh(ranks)
    own = {i: candidate(i) for i in mesh.mine(NUM)}
    replica = {i: dict(state) for i, state in own.items()}
    if is_last:
        first = replica[min(replica)]
        first["wide"] = first["wide"] + 1
    found[ranks] = {
        "mesh": [mesh.num_groups, mesh.group, mesh.data_rank, mesh.data_size, mesh.is_first],
        "mine": [*mesh.mine(NUM)],
        "mpu": [
            mesh.mpu.get_data_parallel_group_ranks(),
            dist.get_process_group_ranks(mesh.data_group),
            dist.get_process_group_ranks(mesh.mpu.get_model_parallel_group()),
        ],
        "soups": soups(mesh, own),
        "refusals": refusals(mesh, own),
        "a replica differs": refusal(sms.soup, replica, mask(), mesh),
    }
found["norms"] = norms(sms.Mesh())
found["meshes"] = {
    "3": refusal(sms.Mesh, 3),
    "0": refusal(sms.Mesh, 0),
    "half": refusal(sms.Mesh, 0.5 if is_last else 1),
    "word": refusal(sms.Mesh, torch.ones(2) if is_last else 1),
    "other": refusal(sms.Mesh, 2 if is_last else 1),
}
world = sms.Mesh().topology.world
everyone = gather_json(found, world, torch.device("cpu"))
if rank == 0:
    with open(sys.argv[1], "w") as file:
        json.dump(everyone, file)
dist.destroy_process_group()
