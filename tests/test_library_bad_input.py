"""The library refuses what it cannot take, in one line that names it, and changes nothing."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torchs
from torch.optim import SGD

import sms_dist as sms

NAN = math.nan


def net(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3), *layers)


MASK = sms.prune(net(), 0.5)
STATE = sms.weights(net())
PRUNED = sms.weights((lambda model: (MASK.apply_(model), model)[1])(net()))
TWO = {0: PRUNED, 1: PRUNED}
ANY = [True] * 6
META = {name: kept.to("meta") for name, kept in MASK.items()}
SHARDED = type("FSDPModule", (nn.Linear,), {})
BATCH = torch.ones(8, 4)


def renamed(tensors):
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def other(**tensors):
    """The state with other tensors, by names with _ for dots."""
    return STATE | {name.strip("_").replace("_", "."): each for name, each in tensors.items()}


def zeros(model, dense=()):
    return sms.Mask.from_zeros(model, dense)


def held(model, **options):
    sms.hold(model, MASK, **options).release()


def schedule(name="llr", optimizer=None, steps=3, largest=0.1, **options):
    optimizer = optimizer or SGD(net().parameters(), lr=0.1)
    return sms.schedule(name, optimizer, steps, largest=largest, **options)


def best(score):
    return sms.soup(TWO, MASK, rule="best", score=score)


def dense(states):
    return sms.soup(states, None)


def own(rule):
    return sms.soup(TWO, MASK, rule=rule, score=lambda state: 1.0)


def asks(coefficients):
    return own(lambda scores, score_of: [score_of(coefficients), 0.0])


def torch_pruned(name):
    model = net()
    torchs.l1_unstructured(model[0], name, 2)
    return model


# what it takes -> what it is given, and what the one line begins with, in that order
MODELS = {
    sms.Mask.from_torch: "Mask.from_torch",
    MASK.apply_: "Mask.apply_",
    sms.weights: "weights",
    zeros: "Mask.from_zeros",
    held: "hold",
    lambda model: sms.prune(model, 0.5): "prune",
    lambda model: sms.load_(model, STATE): "load_",
    lambda model: sms.recompute_norms(model, [BATCH]): "recompute_norms",
}
NO_MODELS = [
    (None, " takes a torch.nn.Module as model, not NoneType$"),
    (STATE, " takes a torch.nn.Module as model, not dict$"),
    (nn.Linear, " takes a torch.nn.Module as model, not the class Linear$"),
    (nn.Sequential(SHARDED(2, 2)), " takes no model that FSDP shards; use DDP or DeepSpeed$"),
    (net(nn.Linear(2, 2, device="meta")), ": 3.weight is on the meta device; give it memory first"),
    (net(nn.LazyLinear(2)), ": 3.weight has no shape yet; call the model once before$"),
]
REFUSED = [
    (sms.Mask, None, "a mask maps the names of parameters to bool tensors, .* None does not"),
    (sms.Mask, [1], r"a mask maps the names of parameters to bool tensors, .* \[1\] does not"),
    (sms.Mask, "mask.safetensors", r"a mask maps .* does not \(Mask.load reads files\)"),
    (sms.Mask, {0: MASK["0.weight"]}, "a mask maps the names of parameters"),
    (sms.Mask, {"a": [True]}, "a of a mask is of <class 'list'>; it must be torch.bool"),
    (sms.Mask, {"a": np.ones(2) > 0}, "a of a mask is of <class 'numpy.ndarray'>"),
    (sms.Mask, {"a": torch.ones(2)}, "a of a mask is of torch.float32; it must be torch.bool"),
    (sms.Mask, META, "0.weight of a mask is on the meta device; give a dense tensor"),
    (sms.Mask, {"a": (torch.eye(2) > 0).to_sparse()}, "a of a mask is of torch.sparse_coo"),
    (MASK.save, None, "path=None must name a file; give a str or Path"),
    (MASK.save, "", "path='' must name a file"),
    (sms.Mask.load, 3, "path=3 must name a file; give a str or Path"),
    (sms.Mask.load, "/nowhere/mask", "/nowhere/mask cannot be read: No such file or directory"),
    (zeros, nn.ReLU(), "ReLU has no weight matrix that could be pruned"),
    (lambda dense: zeros(net(), dense), "0.weight", r"dense='0.weight' must be a list of names"),
    (lambda dense: zeros(net(), dense), None, "dense=None must be a list of names"),
    (lambda dense: zeros(net(), dense), [0], "dense has 0, which is no name"),
    (lambda dense: zeros(net(), dense), ["9"], "dense=9 is no weight that would be pruned"),
    (lambda dense: zeros(net(), dense), ["*"], "dense names every weight there is"),
    (sms.Mask.from_torch, net(), "no prunable weight has a mask of torch.nn.utils.prune; Mask.f"),
    (sms.Mask.from_torch, torch_pruned("bias"), "no prunable weight has a mask"),
    (MASK.apply_, nn.Linear(2, 2), "0.weight of the mask is no parameter of the model; .* weight"),
    (MASK.apply_, torch_pruned("weight"), "0.weight of the mask is no parameter of the model"),
    *(
        (lambda sparsity: sms.prune(net(), sparsity), wrong, "sparsity=.* must be a number of at")
        for wrong in (90, 1, -0.1, NAN, "0.5", None, True, [0.5], torch.tensor(0.5))
    ),
    (lambda mask: sms.prune(net(), 0.6, mask=mask), [1], "a mask maps the names of parameters"),
    (lambda mask: sms.prune(net(), 0.6, mask=mask), renamed(MASK), "module.0.weight of the mask"),
    (lambda mask: sms.prune(net(), 0.6, mask=mask), {}, "0.weight is not in the mask"),
    (lambda mask: sms.prune(net(), 0.4, mask=mask), MASK, "sparsity=0.4 is below 0.5, that of"),
    (lambda score: sms.prune(net(), 0.5, score=score), "size", "score=size is not known"),
    (lambda score: sms.prune(net(), 0.5, score=score), None, "score=None is no name; valid value"),
    (lambda score: sms.prune(net(), 0.5, score=score), lambda w: 1 / 0, "score=.* ZeroDivision"),
    (lambda score: sms.prune(net(), 0.5, score=score), lambda w: None, "score=.* no tensor for 0"),
    (lambda score: sms.prune(net(), 0.5, score=score), lambda: {}, "score=.* raised TypeError"),
    (
        *(lambda score: sms.prune(net(), 0.5, score=score),),
        *(lambda w: {n: t.numpy() for n, t in w.items()}, "score=.* returned no tensor for 0"),
    ),
    (lambda how: sms.prune(net(), 0.5, allocation=how), "lam", "allocation=lam is not known, did"),
    (lambda how: sms.prune(net(), 0.5, allocation=how), 4, "allocation=4 is no name; valid"),
    (lambda how: sms.prune(net(), 0.5, allocation=how), lambda a, b: 3, "allocation returned 3;"),
    (lambda how: sms.prune(net(), 0.5, allocation=how), lambda a, b: 1 / 0, "allocation=.* Zero"),
    (lambda pattern: sms.prune(net(), 0.5, pattern=pattern), None, "pattern=None is not known"),
    (lambda pattern: sms.prune(net(), 0.6, pattern=pattern), "2:4", "pattern=2:4 "),
    (lambda mask: sms.hold(net(), mask), None, "a mask maps the names of parameters"),
    (lambda mask: sms.hold(net(), mask), renamed(MASK), "module.0.weight of the mask is no"),
    (lambda mask: sms.hold(net(), mask), META, "0.weight of a mask is on the meta device"),
    (
        *(lambda mask: sms.hold(net(), mask), {"0.weight": MASK["0.weight"].t()}),
        r"0.weight of the mask is \(4, 6\), and \(6, 4\) in the model; use the mask of this model",
    ),
    *(
        (lambda wrong: held(net(), optimizer=wrong), wrong, "optimizer=.* is no torch.optim.Opt")
        for wrong in ("sgd", SGD, [SGD(net().parameters(), lr=1)])
    ),
    (lambda wrong: held(net(), optimizer=wrong), SGD(net().parameters(), lr=1), "the optimizer is"),
    *(
        (sms.Mesh, wrong, "ranks_per_candidate=.* must be a whole number of at least 1")
        for wrong in (0, -1, 1.5, "1", None, True)
    ),
    (sms.Mesh, 2, "ranks_per_candidate=2 must divide the 1 ranks; try 1"),
    *(
        (sms.Mesh().mine, wrong, "num_candidates=.* must be a whole number of at least 1")
        for wrong in (0, 2.5, "3", None, NAN)
    ),
    (
        lambda part: sms.seed(0, "order", part),
        1.0,
        r"the seed of \(0, 1.0\): every part must be an",
    ),
    (lambda part: sms.seed(part, "order"), "0", r"the seed of \('0',\): every part must be an int"),
    (lambda purpose: sms.seed(0, purpose), "a/b", "purpose='a/b' must be a word without /"),
    *(
        (lambda goal: sms.sparsities(goal, 3), wrong, "goal=.* is no sparsity; give a fraction")
        for wrong in (90, "0.9", None, NAN, True)
    ),
    (lambda phases: sms.sparsities(0.9, phases), 2.0, "phases=2.0 must be a whole number of at"),
    (lambda start: sms.sparsities(0.9, 3, start), 0.95, "start=0.95 must lie between 0 and goal"),
    (lambda start: sms.sparsities(0.9, 3, start), "0", "start='0' must lie between 0 and goal=0.9"),
    (schedule, None, "schedule=None is no name; valid values: ft, lrw"),
    (lambda wrong: schedule(optimizer=wrong), [1], "schedule sets the rate of a torch.optim.Opt"),
    (lambda wrong: schedule(steps=wrong), "3", "steps='3' must be a whole number of at least 1"),
    (lambda wrong: schedule(largest=wrong), "0.1", "largest='0.1' must be a rate above 0"),
    (lambda wrong: schedule(smallest=wrong), None, "smallest=None must lie between 0 and largest"),
    (lambda wrong: schedule(warmup=wrong), "0", "warmup='0' is the fraction of the steps"),
    (lambda wrong: schedule("allr", factor=wrong), "1", "factor='1' must be 1, or for allr above"),
    *(
        (lambda wrong: schedule("lrw", curve=wrong), wrong, "curve must hold the rate of every")
        for wrong in ("abc", 3, [None], [0.1, "x"], {0.1: 1}, [[0.1, 0.2]], [NAN], [])
    ),
    *(
        (lambda state: sms.load_(net(), state), wrong, "load_: the state must be a mapping from n")
        for wrong in (None, "weights.pt", [1], net(), other(_2_bias=3.0), {0: torch.ones(1)})
    ),
    (lambda state: sms.load_(net(), state), {}, "load_: the state lacks .* more of the model"),
    (
        lambda state: sms.load_(net(), state),
        other(z=BATCH),
        "load_: the state lacks nothing of .*z",
    ),
    (
        *(lambda state: sms.load_(net(), state), other(_2_bias=torch.ones(1))),
        r"load_: 2.bias is float32 \[1\] in the state, and float32 \[3\] in the model; give",
    ),
    (
        lambda state: sms.load_(net(), state),
        other(_2_bias=torch.ones(3) * 1j),
        "load_: 2.bias is c",
    ),
    (
        lambda state: sms.load_(net(), state),
        other(_2_bias=STATE["2.bias"].to("meta")),
        "load_: the",
    ),
    (sms.load, None, "None is no file or folder of weights; give a"),
    (sms.load, "/dev/null", "/dev/null is no file or folder of weights"),
    (dense, [PRUNED], "states must map indices of candidates"),
    (dense, {"0": PRUNED}, "states must map indices of candidates"),
    (dense, {0: {0: BATCH}}, "candidate 0 must be a mapping from names to tensors"),
    (dense, {0: other(_0_bias=torch.full((6,), NAN))}, "candidate 0: 0.bias is not finite"),
    (dense, {0: PRUNED, 1: renamed(PRUNED)}, "candidates 0 and 1 differ: 0.weight is"),
    (lambda mask: sms.soup(TWO, mask), META, "0.weight of a mask is on the meta device"),
    (lambda mask: sms.soup(TWO, mask), "mask", "a mask maps the names of parameters"),
    (lambda mask: sms.soup({0: STATE}, mask), MASK, "candidate 0: .* are not zero though the mask"),
    (lambda mesh: sms.soup(TWO, MASK, mesh), sms.Mesh, "mesh=<class .*Mesh'> is no mesh; give"),
    (lambda rule: sms.soup(TWO, MASK, rule=rule), "mean", "soup.rule=mean is not known"),
    (lambda rule: sms.soup(TWO, MASK, rule=rule), [0.5, 0.5], r"soup.rule=\[0.5, 0.5\] is no name"),
    (lambda score: sms.soup(TWO, MASK, score=score), 3, "score=3 must be a function of a state"),
    (best, lambda state: NAN, "score returned nan; return a number, the larger the better"),
    (best, lambda state: None, "score returned None; return a number"),
    (best, lambda state: "0.5", "score returned '0.5'; return a number"),
    (best, lambda state: torch.ones(2), r"score returned tensor\(\[1., 1.\]\); return a number"),
    (best, lambda: 1.0, "score=.* raised TypeError: .* 0 positional arguments"),
    (own, lambda scores, score_of: None, "soup.rule=.* returned None for 2 candidates; return a"),
    (own, lambda scores, score_of: 1.0, "soup.rule=.* returned 1.0 for 2 candidates"),
    (own, lambda scores, score_of: {0: 0, 1: 1}, "soup.rule=.* returned {0: 0, 1: 1} for 2 cand"),
    (own, lambda scores, score_of: ["a", "b"], "soup.rule=.* returned .* for 2 candidates"),
    (asks, [1.0], r"the rule asks for the score of \[1.0\]; give a number for each of 2 candid"),
    (asks, [NAN, 1.0], "the rule asks for the score of"),
    (asks, None, "the rule asks for the score of None"),
    (lambda model: sms.recompute_norms(net(), [BATCH], model), 3, "mesh=3 is no mesh; give what"),
    (lambda b: sms.loss_barrier(STATE, b, len), None, "state b must be a mapping from names to"),
    (lambda b: sms.loss_barrier(STATE, b, len), other(z=BATCH), "candidates 0 and 1 differ: z is"),
    (lambda loss: sms.loss_barrier(STATE, STATE, loss), lambda s: "1", "loss returned '1'; return"),
    (lambda loss: sms.loss_barrier(STATE, STATE, loss), None, "loss=None raised TypeError"),
    (lambda loss: sms.loss_barrier(STATE, STATE, loss), lambda s: NAN, "loss returned nan at 0 of"),
    (lambda points: sms.loss_barrier(STATE, STATE, len, points), 2.5, "points=2.5 must be a whole"),
]


@pytest.mark.parametrize(("function", "name"), MODELS.items(), ids=MODELS.values())
def test_what_is_no_model_of_this_process_is_refused(function, name):
    for wrong, line in NO_MODELS:
        with pytest.raises(ValueError, match=f"^{name}{line}") as caught:
            function(wrong)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "wrong", "line"),
    REFUSED,
    ids=[f"{i} {row[2][:30]}" for i, row in enumerate(REFUSED)],
)
def test_what_cannot_be_taken_is_named_in_one_line(function, wrong, line):
    with pytest.raises(ValueError, match=f"^{line}") as caught:
        function(wrong)
    assert "\n" not in str(caught.value)


WRONG_LATE = {
    "a later weight": lambda model: sms.Mask(dict(MASK) | {"2.weight": BATCH > 0}).apply_(model),
    "a held mask's later weight": lambda model: sms.hold(model, {**MASK, "2.weight": BATCH > 0}),
    "a state's last tensor": lambda model: sms.load_(model, other(_2_bias=np.ones(3))),
    "a weight that is not finite": lambda model: sms.prune(model, 0.5, mask=None, score=spoils),
    "nothing left": lambda model: sms.prune(model, 0.9999),
    "a second batch": lambda model: sms.recompute_norms(model, [BATCH, BATCH[:, 1:]]),
    "a batch of NaN": lambda model: sms.recompute_norms(model, [BATCH * NAN]),
    "no batch": lambda model: sms.recompute_norms(model, iter(())),
}


def spoils(weights):
    """A score that works in place, and then fails."""
    return {name: weight.mul_(0).sub_(1) for name, weight in weights.items()}


@pytest.mark.parametrize("what", WRONG_LATE)
def test_a_refusal_leaves_the_model_as_it_was(what):
    model = net()
    model[1].running_mean.fill_(3)
    model[2].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        WRONG_LATE[what](model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert "forward" not in vars(model[1])
    assert model[1].momentum == 0.1
    sms.hold(model, MASK).release()  # nothing of it is held


def test_a_score_that_works_in_place_ranks_and_leaves_the_survivors():
    model, reference = net(), net()
    mask = sms.prune(model, 0.5, score=lambda weights: {n: w.abs_() for n, w in weights.items()})
    assert mask == sms.prune(reference, 0.5)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True)
    )


def test_a_mask_that_cannot_be_written_leaves_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "no" / "mask", tmp_path / "file" / "mask"):
        with pytest.raises(
            ValueError, match=f"^{path} cannot be written: .*; name a file in a fol"
        ):
            MASK.save(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert not [*tmp_path.parent.glob(f".{tmp_path.name}*")]


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    MASK.save("~/mask.safetensors")
    assert sms.Mask.load(tmp_path / "mask.safetensors") == sms.Mask.load("~/mask.safetensors")


def test_numbers_of_numpy_are_numbers():
    assert sms.sparsities(np.float64(0.9), np.int64(3)) == sms.sparsities(0.9, 3)
    assert sms.Mesh(np.int64(1)).mine(np.int32(2)) == range(2)
    rates = schedule("lrw", curve=np.array([0.1, 0.2]), steps=np.int64(2), largest=np.float32(0.2))
    assert np.allclose(rates.rates, [0.1, 0.2])


def test_an_empty_mask_prunes_nothing():
    assert sms.Mask({}).sparsity == 0


def test_names_may_have_a_common_beginning():
    """As those of DDP's state_dict, or of a module in a checkpoint of Lightning."""
    for prefix in ("module.", "net."):
        model = net(nn.Linear(3, 3))
        wanted = {n: t + 1 for n, t in sms.weights(model).items()}
        sms.load_(model, {f"{prefix}{name}": tensor for name, tensor in wanted.items()})
        assert all(torch.equal(tensor, wanted[n]) for n, tensor in sms.weights(model).items())


def test_a_model_may_have_an_extra_state_of_any_kind():
    class Counts(nn.Linear):
        def get_extra_state(self):
            return {"count": 3}

        def set_extra_state(self, state):
            raise AssertionError

    model = Counts(2, 2)
    state = sms.weights(model)
    assert list(state) == ["weight", "bias"]
    sms.load_(model, state)


def test_a_hold_notices_that_a_parameter_was_replaced():
    model = net()
    with sms.hold(model, MASK) as held:
        model.load_state_dict(copy.deepcopy(model.state_dict()))
        held.check()
        model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
        with pytest.raises(ValueError, match=r"^0.weight is another parameter now, .*hold the mod"):
            held.check()
    with pytest.raises(ValueError, match="this hold is released; call hold again"), held:
        pass


def test_an_engine_of_deepspeed_has_masters_that_masks_do_not_reach():
    engine = net()
    engine.zero_optimization_stage = lambda: 1
    engine.module = net()
    with pytest.raises(ValueError, match=r"^Mask.apply_ cannot reach DeepSpeed's masters; hold"):
        MASK.apply_(engine)


def test_a_mesh_is_known_by_its_axes():
    with pytest.raises(ValueError, match="is no mesh; give what"):
        sms.soup(TWO, MASK, SimpleNamespace(topology=3))
