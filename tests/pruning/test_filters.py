"""Filters go as wholes, the same fraction in every layer, and all that belongs to them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sms_dist.config import ModelConfig
from sms_dist.models import build
from sms_dist.pruning.allocation import num_kept
from sms_dist.pruning.filters import companions, keep_filters, living_filters
from sms_dist.pruning.mask import apply_, full_mask, prunable_names
from sms_dist.schedules.sparsity import geometric

SHAPES = {"conv1.weight": (7, 3, 3, 3), "conv2.weight": (10, 7, 1), "fc.weight": (4, 10)}


def random_weights(seed):
    """Rounded, so that there are ties."""
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(shape, generator=generator).round() for n, shape in SHAPES.items()}


def test_a_layer_of_160_filters_has_lost_42_73_and_96():
    weights = {"w": torch.randn(160, 2, 3, 3, generator=torch.Generator().manual_seed(0))}
    mask, lost = full_mask(weights, weights), []
    for sparsity in geometric(0.6, 3):
        mask = keep_filters(weights, mask, sparsity)
        lost.append(160 - int(living_filters(mask["w"]).sum()))
    assert lost == [42, 73, 96]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(0.05, 0.95), st.integers(1, 4))
def test_every_convolution_loses_its_count_of_whole_filters_for_good(seed, goal, phases):
    weights = random_weights(seed)
    mask = full_mask(weights, weights)
    for phase, sparsity in enumerate(geometric(goal, phases)):
        tighter = keep_filters(weights, mask, sparsity)
        assert all(not (tighter[name] & ~mask[name]).any() for name in mask)
        assert tighter["fc.weight"].all()
        for name in ("conv1.weight", "conv2.weight"):
            filters = tighter[name].flatten(1)
            assert torch.equal(filters.any(1), filters.all(1))
            assert int(filters.any(1).sum()) == num_kept(len(filters), sparsity)
        again = keep_filters(weights, mask, sparsity)
        assert all(torch.equal(again[name], tighter[name]) for name in mask)
        mask, weights = tighter, random_weights(seed + phase + 1)


def test_filters_with_the_smallest_norm_go_and_of_equal_ones_the_later():
    norms = torch.tensor([3.0, -1.0, 2.0, 1.0, -2.0])
    weights = {"w": norms.view(5, 1, 1).repeat(1, 2, 2)}
    full = full_mask(weights, weights)
    assert living_filters(keep_filters(weights, full, 0.2)["w"]).tolist() == [1, 1, 1, 0, 1]
    assert living_filters(keep_filters(weights, full, 0.6)["w"]).tolist() == [1, 0, 1, 0, 0]


def test_of_many_equal_filters_the_first_stay():
    weights = {"w": torch.ones(1000, 1, 1)}
    kept = keep_filters(weights, full_mask(weights, weights), 0.6)["w"].flatten()
    assert torch.equal(kept, torch.arange(1000) < 400)


def test_a_dead_filter_ranks_behind_living_zeros():
    weights = {"w": torch.tensor([9.0, 0.0, 0.0]).view(3, 1, 1)}
    mask = {"w": torch.tensor([False, True, True]).view(3, 1, 1)}
    assert keep_filters(weights, mask, 1 / 3)["w"].flatten().tolist() == [False, True, True]


def test_weights_pruned_one_by_one_do_not_count_and_stay_pruned():
    weights = {"w": torch.tensor([[9.0, 1.0], [2.0, 2.0]]).view(2, 2, 1)}
    mask = {"w": torch.tensor([[False, True], [True, True]]).view(2, 2, 1)}
    kept = keep_filters(weights, mask, 0.5)["w"]
    assert kept.flatten(1).tolist() == [[False, False], [True, True]]
    assert torch.equal(keep_filters(weights, mask, 0.0)["w"], mask["w"])


def pruned(model, sparsity=0.5):
    state = model.state_dict()
    return keep_filters(state, full_mask(state, prunable_names(model)), sparsity)


def small(name, shape, **options):
    return build(ModelConfig(name=name, options=options), shape, 10, seed=0, data_name="x")


def test_biases_and_the_batch_norm_behind_belong_to_the_filter():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    mask = pruned(model)
    held = companions(model, mask)
    dead = living_filters(mask["0.weight"])
    assert set(held) == {"0.weight", "3.weight", "0.bias", "1.weight", "1.bias", "3.bias"}
    assert all(torch.equal(held[name], dead) for name in ("0.bias", "1.weight", "1.bias"))
    assert torch.equal(held["3.bias"], living_filters(mask["3.weight"]))
    assert all(held[name] is kept for name, kept in mask.items())


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("digits_cnn", (1, 8, 8), {}),
        ("resnet20", (3, 32, 32), {"width": 4}),
        ("resnet18", (3, 32, 32), {"width": 4}),
        ("wrn20", (3, 32, 32), {"widen": 1}),
    ],
)
def test_channels_of_dead_filters_are_exactly_zero_in_training_and_after(name, shape, options):
    model = small(name, shape, **options)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name or "bias" in parameter_name:
                parameter.normal_()
    mask = pruned(model)
    apply_(model.state_dict(), companions(model, mask))
    dead = {name: ~living_filters(kept) for name, kept in mask.items() if kept.ndim > 2}
    seen = []

    def look(name, channels):
        def hook(module, inputs, output):
            assert not output[:, channels].any(), name
            seen.append(name)

        return hook

    for module_name, module in model.named_modules():
        if f"{module_name}.weight" in dead:
            module.register_forward_hook(look(module_name, dead[f"{module_name}.weight"]))
            norm = module_name.replace("conv", "norm")
            if "wrn" not in name and norm != module_name:
                channels = dead[f"{module_name}.weight"]
                model.get_submodule(norm).register_forward_hook(look(norm, channels))
    model.train()(torch.randn(2, *shape))
    model.eval()(torch.randn(2, *shape))
    assert len(seen) >= 2 * len(dead)


def test_dropout_between_convolution_and_norm_makes_no_difference():
    model = small("wrn20", (3, 32, 32), widen=1)
    held = companions(model, pruned(model))
    assert "stage1.0.norm2.weight" in held  # conv1, dropout, norm2
    assert "stage1.1.norm1.weight" not in held  # behind an addition
    assert "norm.weight" not in held


class Shared(nn.Module):
    """One norm behind two convolutions, and one convolution behind which two things happen."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(2, 2, 1) for _ in range(3))
        self.norm, self.own = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.norm(self.first(x)) + self.norm(self.second(x))
        z = self.third(y)
        return self.own(z) + z


def test_a_norm_that_does_not_see_one_convolution_alone_is_left():
    model = Shared()
    assert not [name for name in companions(model, pruned(model)) if name.split(".")[0] == "norm"]
    assert not [name for name in companions(model, pruned(model)) if name.startswith("own")]
    assert "first.bias" in companions(model, pruned(model))


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


def test_without_dead_filters_nothing_is_added_or_traced():
    model = Deciding()
    mask = full_mask(model.state_dict(), prunable_names(model))
    assert companions(model, mask) == mask


def test_a_model_that_cannot_be_followed_is_refused():
    model = Deciding()
    with pytest.raises(ValueError, match=r"pruning.pattern=filters follows the calls.*Deciding"):
        companions(model, pruned(model))
