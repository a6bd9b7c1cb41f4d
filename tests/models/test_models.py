"""Models: golden sizes, seeded weights, and refusals."""

from importlib.util import find_spec

import pytest
import torch

from sms_dist.config import ModelConfig
from sms_dist.models import MODELS, build, build_on_meta, speedup
from sms_dist.models.resnets import SmallResNet, he
from sms_dist.pruning.mask import prunable_names
from sms_dist.soups.states import bare_state

DIGITS, CIFAR, IMAGENET = (1, 8, 8), (3, 32, 32), (3, 224, 224)
SMALL_MAXVIT = {"layers": [1, 1], "width": 8, "head_dim": 4, "window": 4}
SMALL_T5 = {"d_model": 8, "d_ff": 16, "d_kv": 4, "num_heads": 2, "num_layers": 2}
NEEDS_TEXT = pytest.mark.skipif(find_spec("transformers") is None, reason="no transformers")
# Every family: inputs, options that make it small.
SMALL = [
    ("digits_cnn", DIGITS, {}),
    ("digits_cnn", (1, 12, 17), {"width": 4}),
    ("resnet20", CIFAR, {"width": 4}),
    ("resnet18", CIFAR, {"width": 4}),
    ("resnet18", (3, 40, 36), {"width": 4, "stem": "small"}),
    ("resnet18", (3, 40, 36), {}),
    ("resnet50", CIFAR, {}),
    ("resnet50", (3, 40, 36), {}),
    ("wrn20", CIFAR, {"widen": 1, "dropout": 0}),
    ("vgg16_bn", CIFAR, {"width": 8}),
    ("maxvit_t", CIFAR, SMALL_MAXVIT),
    ("pspnet", (3, 40, 56), {"backbone": "resnet18"}),
    pytest.param("t5", (7,), {**SMALL_T5, "dropout": 0}, marks=NEEDS_TEXT),
    pytest.param(
        "t5",
        (7,),
        {**SMALL_T5, "dropout": 0, "tied": True, "feed_forward": "relu"},
        marks=NEEDS_TEXT,
    ),
]


def task_of(name):
    return MODELS[name].task if name in MODELS else "classification"


def small(name, shape, task=None, seed=0, **options):
    config = ModelConfig(name=name, options=options)
    return build(config, shape, 10, seed=seed, data_name="x", task=task or task_of(name))


def on_meta(name, shape, num_classes=10, **options):
    config = ModelConfig(name=name, options=options)
    return build_on_meta(config, shape, num_classes, data_name="x", task=task_of(name))


def inputs_for(name, shape):
    generator = torch.Generator().manual_seed(0)
    if task_of(name) == "translation":
        source = torch.tensor([[5, 6, 7, 1, 0, 0], [3, 4, 5, 6, 7, 1]])
        return source, torch.tensor([[0, 4, 5], [0, 7, 8]])
    return (torch.randn(2, *shape, generator=generator),)


def num_prunable(model):
    return sum(model.get_parameter(name).numel() for name in prunable_names(model))


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "num_classes", "prunable", "parameters"),
    [
        ("resnet18", CIFAR, 10, 11_164_352, 11_173_962),  # paper's Table 3
        ("wrn20", CIFAR, 100, 26_842_032, 26_863_460),
        ("resnet20", CIFAR, 10, 268_336, 269_722),
        ("digits_cnn", DIGITS, 10, 23_824, 24_058),
        ("resnet50", IMAGENET, 1000, 25_502_912, 25_557_032),
        ("resnet18", IMAGENET, 1000, 11_678_912, 11_689_512),
        ("vgg16_bn", IMAGENET, 1000, 138_344_128, 138_365_992),
        ("vgg16_bn", CIFAR, 10, 14_715_584, 14_728_266),
        ("maxvit_t", IMAGENET, 1000, 30_757_056, 30_919_624),  # 31 M in Table 3
        ("pspnet", (3, 512, 1024), 19, 67_837_376, 67_948_390),  # 68 M
        pytest.param("t5", (128,), 32_128, 60_489_728, 76_961_152, marks=NEEDS_TEXT),  # 77 M
    ],
)
def test_parameter_counts_are_golden(name, shape, num_classes, prunable, parameters):
    model = on_meta(name, shape, num_classes)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert (num_prunable(model), num_parameters(model)) == (prunable, parameters)


@pytest.mark.parametrize(
    ("name", "shape", "num_classes", "operations"),
    [
        ("resnet50", IMAGENET, 1000, 4_089_184_256),
        ("vgg16_bn", CIFAR, 10, 313_201_664),
        ("vgg16_bn", IMAGENET, 1000, 15_470_264_320),
        ("maxvit_t", IMAGENET, 1000, 5_381_025_792),  # attention, beside it: 177,020,928
    ],
)
def test_operations_are_golden(name, shape, num_classes, operations):
    counts = speedup.macs(on_meta(name, shape, num_classes), speedup.on_meta(shape))
    other = counts.pop(speedup.OTHER, 0)
    assert sum(counts.values()) == operations
    assert other == (177_020_928 if name == "maxvit_t" else 0)


@NEEDS_TEXT
@pytest.mark.parametrize("tied", [False, True])
def test_operations_of_t5_are_those_of_its_layers_at_each_token_and_of_attention(tied):
    """Encoder: 4 projections and the feed-forward ones; the decoder has twice the projections.

    Three attentions, each with scores and a weighted sum over all pairs of tokens.
    """
    options = {**SMALL_T5, "num_layers": 1, "tied": tied}
    if tied:
        options["feed_forward"] = "relu"
    tokens = speedup.on_meta((7,), torch.long) + speedup.on_meta((7,), torch.long)
    projections, feed_forward, head = 4 * 8 * 8, (2 if tied else 3) * 8 * 16, 8 * 10
    by_hand = 7 * (3 * projections + 2 * feed_forward + head)
    counts = speedup.macs(on_meta("t5", (7,), **options), tokens)
    assert counts.pop(speedup.OTHER) == 3 * 2 * 7 * 7 * 8
    assert sum(counts.values()) == by_hand


@pytest.mark.parametrize(("name", "shape", "options"), SMALL)
def test_every_weight_gets_a_gradient_and_the_classes_are_dim_1(name, shape, options):
    model, inputs = small(name, shape, **options), inputs_for(name, shape)
    torch.manual_seed(0)  # stochastic depth may leave out a block for all samples
    outputs = model(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert all(output.shape[:2] == (2, 10) for output in outputs)
    sum(output.square().sum() for output in outputs).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        has_effect = not parameter_name.endswith("bias") or name not in ("vgg16_bn", "wrn20")
        if has_effect and "relative" not in parameter_name:
            assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize(("name", "shape", "options"), SMALL)
def test_evaluation_gives_one_output_which_does_not_depend_on_the_batch(name, shape, options):
    model, inputs = small(name, shape, **options).eval(), inputs_for(name, shape)
    outputs = model(*inputs)
    outputs.square().sum().backward()
    assert torch.equal(outputs, model(*inputs))
    assert torch.allclose(outputs[1:], model(*(each[1:] for each in inputs)), rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize(("name", "shape", "options"), SMALL)
def test_two_models_of_a_seed_are_equal_and_the_meta_model_has_their_shapes(name, shape, options):
    first, again, other = (
        bare_state(small(name, shape, seed=seed, **options)) for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    meta = bare_state(on_meta(name, shape, **options))
    assert [(k, v.shape) for k, v in first.items()] == [(k, v.shape) for k, v in meta.items()]


def test_our_nets_start_after_he_and_those_of_torchvision_as_it_says():
    """The variance of a layer's outputs stays; torchvision's VGG has linear layers of 0.01."""
    ours = small("resnet18", CIFAR)
    assert ours.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    theirs = small("maxvit_t", CIFAR, **SMALL_MAXVIT)
    assert theirs.classifier[3].weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_he_initialisation_makes_the_draws_it_always_made():
    """The bits of published runs hang on it: first the layers draw, then he() once more."""
    torch.manual_seed(3)
    network = SmallResNet(10, 4, num_stages=4, blocks=2, pads=False)
    expected = he(network).state_dict()
    torch.manual_seed(3)
    found = MODELS["resnet18"].build(CIFAR, 10, width=4).state_dict()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_small_stems_keep_the_resolution_and_large_ones_quarter_it():
    images = torch.zeros(1, 3, 64, 64)
    stem = small("resnet50", (3, 64, 64), stem="small")
    assert stem.maxpool(stem.conv1(images)).shape[-1] == 64
    stem = small("resnet50", (3, 64, 64))
    assert stem.maxpool(stem.conv1(images)).shape[-1] == 16


def test_the_full_head_of_vgg_is_a_choice():
    assert on_meta("vgg16_bn", CIFAR, head="full").classifier[0].in_features == 512 * 7 * 7
    assert on_meta("vgg16_bn", (3, 64, 64), head="linear").classifier.in_features == 512


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
        ("resnet51", CIFAR, {}, "resnet51 is not known, did you mean resnet50.*valid values:"),
        ("pspnet", CIFAR, {"task": "classification"}, "is for segmentation, .*=x is for classif"),
        ("wrn20", CIFAR, {"task": "translation"}, "is for translation; models for these: none"),
        ("resnet18", CIFAR, {"task": "segmentation"}, "models for these: pspnet$"),
        ("t5", CIFAR, {}, "takes sentences of any number of tokens, data.name=x gives 3x32x32"),
        ("resnet18", IMAGENET, {"width": 8}, "set model.options.stem=small"),
        ("resnet50", CIFAR, {"stem": "tiny"}, "model.options.stem=tiny is not known"),
        ("vgg16_bn", (3, 16, 16), {}, "from 32x32 on"),
        ("vgg16_bn", IMAGENET, {"width": 8}, "width=8 must be 64, or .*head=linear"),
        ("maxvit_t", CIFAR, {}, "window=7 does not divide the 8x8 positions.*multiples of 224"),
        ("maxvit_t", CIFAR, {"width": 33}, "multiple of model.options.head_dim=32"),
        ("maxvit_t", CIFAR, {"layers": 3}, "model.options.layers=3 is no list"),
        ("maxvit_t", CIFAR, {"layers": []}, "needs a number above 0"),
        ("pspnet", CIFAR, {"backbone": "resnet34"}, "backbone=resnet34 is not known, did you mea"),
        ("pspnet", CIFAR, {"stride": 4}, "stride=4 is not known; valid values: 8, 16, 32"),
        ("t5", (8,), {"num_heads": 0}, "model.options.num_heads=0 must be at least 1"),
        ("t5", (8,), {"feed_forward": "gatd-gelu"}, "did you mean gated-gelu"),
        ("t5", (8,), {"folder": "no/such"}, "holds no config.json.*nothing is downloaded"),
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
