"""Which tensors are weight matrices, how layers compute with them, and pruning a whole model."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torchs
from torch.nn.utils.parametrize import register_parametrization

from sms_dist.models.speedup import products
from sms_dist.pruning.layers import survivor_in_each_part, weights
from sms_dist.pruning.mask import Mask
from sms_dist.pruning.prune import prune


class Own(nn.Module):
    """Every way in which a model of somebody's own holds tensors."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mix = nn.Parameter(torch.randn(8, 8))
        self.gate = nn.Parameter(torch.ones(5, 8))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, 8))
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.up = nn.ConvTranspose1d(8, 4, 3, groups=2)
        self.head = parametrizations.spectral_norm(nn.Linear(4, 3))

    def forward(self, x):
        x = self.rnn(x)[0] + self.pos_embed
        x = self.attention(x, x, x)[0] @ self.mix * self.gate
        return self.head(self.up(x.transpose(1, 2)).mean(2))


PRUNED = [
    *("rnn.weight_ih_l0", "rnn.weight_hh_l0", "attention.in_proj_weight"),
    *("attention.out_proj.weight", "up.weight", "head.parametrizations.weight.original", "mix"),
]


@torch.no_grad()
def matrices(model):
    """Return what the layers of `normed` compute with."""
    model(torch.randn(2, 3, 8, 8))
    return [model[i].weight for i in (0, 1, 2, 4)]


def normed(dim=0):
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 6, 3)
    torchs.random_unstructured(convolution, "weight", 0.2)
    return nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 8, 3, padding=1), dim=dim),
        torch.nn.utils.weight_norm(nn.ConvTranspose2d(8, 6, 3), dim=1),
        convolution,
        nn.Flatten(),
        parametrizations.spectral_norm(nn.Linear(384, 10)),
    ).eval()


def test_a_forward_pass_tells_matrices_of_unknown_kind_from_the_rest():
    model, inputs = Own(), (torch.zeros(1, 5, 6, device="meta"),)
    with pytest.raises(
        ValueError, match=r"mix .* \(Own\) may be a weight matrix.*dense=\[mix, gate\]"
    ):
        weights(model)
    every = weights(model, multiplied=lambda: products(model.to("meta"), inputs).multiplied)
    assert [each.name for each in every if each.is_pruned] == PRUNED
    reasons = {each.name: each.dense for each in every if each.dense}
    assert reasons == {
        "gate": "no matrix product uses it",
        "pos_embed": "table, token or scale",
    }
    dense = weights(model, ["mix", "gat*", "attention"])
    assert {each.name for each in dense if each.is_pruned} == {*PRUNED[:2], *PRUNED[4:6]}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_layer_where_a_zero_does_not_stay_is_refused_by_name(device):
    class Symmetric(nn.Module):
        def forward(self, x):
            return x + x.T

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    register_parametrization(model[1], "weight", Symmetric())
    with pytest.raises(ValueError, match=r"1.param.*computed by Symmetric, where a zero does not"):
        weights(model.to(device))
    assert [w.name for w in weights(model, ["1"]) if w.is_pruned] == ["0.weight"]


class Standardised(nn.Conv2d):
    def forward(self, x):
        mean, std = self.weight.mean((1, 2, 3), True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / std, self.bias)


class Signs(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, self.weight.sign() + self.weight.abs().mean(), self.bias)


class Padded(nn.Conv2d):  # its weight is used as it is
    def forward(self, x):
        return 2 * super().forward(nn.functional.pad(x, (1, 1, 1, 1)))


class Normalised(nn.Linear):  # a zero stays a zero
    def forward(self, x):
        return nn.functional.linear(x, nn.functional.normalize(self.weight))


class Added(nn.Linear):  # takes other inputs than the layer whose name it has, and has no copies
    def __deepcopy__(self, memo):
        raise TypeError("cannot copy")

    def forward(self, x, y):
        return super().forward(x + y)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "layer",
    [Standardised(2, 4, 3), Standardised(4, 4, 3, groups=2, dilation=2).bfloat16(), Signs(4, 4)],
)
def test_a_layer_that_changes_its_weight_before_use_is_refused_by_name(layer, device):
    model = nn.Sequential(Padded(2, 2, 3), nn.Sequential(Added(4, 4), Normalised(4, 4)), layer)
    problem = "2.weight .* is used through a function of it, where a zero does not stay a zero"
    with pytest.raises(ValueError, match=problem):
        weights(model.to(device))
    names = [w.name for w in weights(model, ["2"]) if w.is_pruned]
    assert names == ["0.weight", "1.0.weight", "1.1.weight"]


@pytest.mark.parametrize("dim", [0, None])
@pytest.mark.parametrize("allocation", ["global", "erk", "lamp"])
def test_nine_of_ten_weights_that_layers_compute_with_are_zero(dim, allocation):
    model = normed(dim)
    before, buffers = matrices(model), {name: b.clone() for name, b in model.named_buffers()}
    mask = prune(model, 0.9, allocation=allocation)
    after = matrices(model)
    assert mask.num_kept == mask.num_weights - round(0.9 * mask.num_weights)
    assert sum(int((w == 0).sum()) for w in after) == mask.num_weights - mask.num_kept
    assert all(bool(w.isfinite().all()) for w in after)
    assert not mask["2.weight_orig"][model[2].weight_mask == 0].any()
    assert all(torch.equal(buffers[name], b) for name, b in model.named_buffers())
    if allocation == "global":  # by the effective weights: none that stays is below one that goes
        pairs = zip(before[2:], (mask["2.weight_orig"], [*mask.values()][-1]), strict=True)
        kept, gone = zip(*((w[k].abs().min(), w[~k].abs().max()) for w, k in pairs), strict=True)
        assert min(kept) >= max(gone)
    tighter = prune(model, 0.95, mask=mask, allocation=allocation)
    assert all(not (tighter[n] & ~mask[n]).any() for n in mask)
    assert Mask.from_zeros(model) == tighter


def test_a_part_that_a_norm_divides_keeps_its_largest_weight():
    weight = torch.tensor([[0.1, -0.3, 0.2], [2.0, 1.0, 3.0]])
    kept = weight.abs() >= 1
    alive = torch.tensor([[True, False, True], [True, True, True]])
    expected = [[False, False, True], [True, False, True]]
    assert survivor_in_each_part(kept, weight, alive, (0,)).tolist() == expected
    turned = survivor_in_each_part(kept.T, weight.T, alive.T, (1,))
    assert turned.T.tolist() == expected
    few = torch.tensor([[False] * 3, [True, False, False]])
    assert survivor_in_each_part(few, weight, alive, (0,)) is None


def test_patterns_go_by_the_outputs_and_inputs_of_a_layer():
    model = nn.Sequential(nn.ConvTranspose2d(4, 8, 2, groups=2), nn.Conv2d(8, 6, 1))
    mask = prune(model, 0.5, pattern="filters")
    assert mask["0.weight"].flatten(2).any(2).reshape(2, 2, 4).any(1).sum() == 4
    assert mask["1.weight"].flatten(1).any(1).sum() == 3
    mask = prune(nn.ConvTranspose1d(4, 3, 1), 0.5, pattern="2:4")
    assert mask["weight"][..., 0].sum(0).tolist() == [2, 2, 2]


def test_scores_and_allocations_may_be_functions_and_wrappers_are_looked_through():
    model = nn.Linear(4, 2)
    model.weight.data = torch.arange(1.0, 9).view(2, 4)
    mask = prune(torch.compile(model), 0.5, score=lambda ws: {n: 9 - w for n, w in ws.items()})
    assert model.weight.tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    assert list(mask) == ["weight"]


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        (
            nn.Linear(4, 4),
            {"sparsity": 1.0},
            "sparsity=1.0 must be a number of at least 0 and below 1",
        ),
        (nn.ReLU(), {}, "ReLU has no weight matrix that could be pruned"),
        (nn.Linear(4, 4), {"sparsity": 0.99}, "sparsity leaves 0 of 16 weights"),
        (Own(), {}, r"mix of shape .* to leave it dense: dense=\[mix, gate\]"),
        (nn.Linear(4, 4), {"score": "size"}, "score=size is not known"),
        (nn.Linear(4, 4), {"pattern": "2:4", "sparsity": 0.6}, "set sparsity=0.5"),
        (nn.Linear(4, 4), {"dense": ["x"]}, "dense=x is no weight that would be pruned"),
        (normed(), {"pattern": "filters"}, r"are divided by a norm; set dense=\["),
    ],
)
def test_what_cannot_be_pruned_is_refused_and_nothing_changes(model, keys, message):
    before = copy.deepcopy(list(model.parameters()))
    with pytest.raises(ValueError, match=message):
        prune(model, **({"sparsity": 0.5} | keys))
    pairs = zip(before, model.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)


def test_a_mask_only_tightens_and_fits_the_model():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    mask = prune(model, 0.5)
    with pytest.raises(ValueError, match=r"sparsity=0.4 is below 0.5, that of the mask"):
        prune(model, 0.4, mask=mask)
    with pytest.raises(ValueError, match=r"1.weight is not in the mask; give `dense`"):
        prune(model, 0.9, mask=Mask({"0.weight": mask["0.weight"]}))
    model[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"0.weight is not finite"):
        prune(model, 0.9)


def test_what_torch_has_pruned_stays_pruned():
    model = nn.Sequential(nn.Linear(10, 10))
    torchs.random_unstructured(model[0], "weight", 0.3)
    mask = Mask.from_torch(model)
    assert torch.equal(mask["0.weight_orig"], model[0].weight_mask == 1)
    assert mask.sparsity == pytest.approx(0.3)
    with pytest.raises(ValueError, match=r"sparsity=0.1 is below 0.3, that of the mask"):
        prune(model, 0.1)
    assert prune(model, 0.3) == mask
    assert torch.equal(model[0].weight == 0, ~mask["0.weight_orig"])
