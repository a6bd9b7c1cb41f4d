"""Models: golden sizes, seeded weights, and refusals."""

import pytest
import torch
from torch import nn

from sms_dist.config import ModelConfig
from sms_dist.models import MODELS, build, build_on_meta

DIGITS, CIFAR = (1, 8, 8), (3, 32, 32)


def num_prunable(model):
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return sum(layer.weight.numel() for layer in layers)


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


def small(name, shape, **options):
    return build(ModelConfig(name=name, options=options), shape, 10, seed=0, data_name="x")


@pytest.mark.parametrize(
    ("name", "shape", "num_classes", "prunable", "parameters"),
    [
        ("resnet18", CIFAR, 10, 11_164_352, 11_173_962),  # paper's Table 3
        ("wrn20", CIFAR, 100, 26_842_032, 26_863_460),
        ("resnet20", CIFAR, 10, 268_336, 269_722),
        ("digits_cnn", DIGITS, 10, 23_824, 24_058),
    ],
)
def test_parameter_counts_are_golden(name, shape, num_classes, prunable, parameters):
    model = build_on_meta(ModelConfig(name=name), shape, num_classes, data_name="x")
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert (num_prunable(model), num_parameters(model)) == (prunable, parameters)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("digits_cnn", DIGITS, {}),
        ("digits_cnn", (1, 12, 17), {"width": 4}),
        ("resnet20", CIFAR, {"width": 4}),
        ("resnet18", CIFAR, {"width": 4}),
        ("wrn20", CIFAR, {"widen": 1, "dropout": 0}),
    ],
)
def test_every_weight_gets_a_gradient_and_the_logits_have_the_classes(name, shape, options):
    model = small(name, shape, **options)
    logits = model(torch.randn(4, *shape))
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        if "conv1.bias" not in parameter_name:  # batch norm takes a constant out again
            assert parameter.grad.abs().sum() > 0, parameter_name


def test_weights_follow_from_the_seed_and_global_randomness_is_untouched():
    config = ModelConfig()
    before = torch.get_rng_state()
    first, again, other = (
        build(config, DIGITS, 10, seed=seed, data_name="x").state_dict() for seed in (1, 1, 2)
    )
    torch.manual_seed(5)
    later = build(config, DIGITS, 10, seed=1, data_name="x").state_dict()
    torch.set_rng_state(before)
    build_on_meta(config, DIGITS, 10, data_name="x")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(torch.equal(first[key], later[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_the_meta_model_has_the_names_and_shapes_of_the_real_one():
    for name in MODELS:
        shape = DIGITS if name == "digits_cnn" else CIFAR
        config = ModelConfig(name=name, options={"widen": 1} if name == "wrn20" else {"width": 4})
        real = build(config, shape, 10, seed=0, data_name="x").state_dict()
        meta = build_on_meta(config, shape, 10, data_name="x").state_dict()
        assert {k: v.shape for k, v in real.items()} == {k: v.shape for k, v in meta.items()}


def test_dropout_is_off_in_evaluation():
    model = small("wrn20", CIFAR, widen=1, dropout=0.9).eval()
    images = torch.randn(2, *CIFAR)
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        (
            "resnet20",
            DIGITS,
            {},
            "resnet20 takes 3x32x32 images, data.name=x gives 1x8x8; .*digits",
        ),
        ("digits_cnn", CIFAR, {}, "takes 1xHxW images, data.name=x gives 3x32x32"),
        ("digits_cnn", (1, 4, 8), {}, "from 8x8 on"),
        ("resnet50", CIFAR, {}, "model.name=resnet50 is not known.*legal:"),
        ("resnet20", CIFAR, {"widht": 8}, "model.options=widht is not known, did you mean width"),
        ("resnet20", CIFAR, {"width": 0}, "model.options.width=0"),
        ("resnet20", CIFAR, {"width": "8"}, "model.options.width='8' is no int"),
        ("resnet18", CIFAR, {"width": True}, "model.options.width=True is no int"),
        ("wrn20", CIFAR, {"dropout": 1.0}, r"model.options.dropout=1.0"),
        ("digits_cnn", DIGITS, {"num_classes": 3}, "model.options=num_classes is not known"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, shape, options, message):
    with pytest.raises(ValueError, match=message):
        small(name, shape, **options)
