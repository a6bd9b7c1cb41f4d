"""PSPNet: its pyramid, its dilation, and backbones' weights."""

import pytest
import torch
import torch.nn.functional as F

from sms_dist.base.vision import torchvision
from sms_dist.config import ModelConfig
from sms_dist.models import build
from sms_dist.models.pspnet import BINS, pooled


def pspnet(**options):
    config = ModelConfig(name="pspnet", options={"backbone": "resnet18"} | options)
    return build(config, (3, 48, 64), 5, seed=0, data_name="x", task="segmentation")


@pytest.mark.parametrize("bins", BINS)
@pytest.mark.parametrize("size", [(6, 12), (7, 5), (3, 1)])
def test_pooling_is_torchs(bins, size):
    features = torch.randn(2, 3, *size, dtype=torch.float64)
    assert torch.allclose(pooled(features, bins), F.adaptive_avg_pool2d(features, bins))


def test_every_pixel_has_logits_and_only_training_has_the_auxiliary_ones():
    model, images = pspnet(), torch.randn(2, 3, 45, 61)
    assert [tuple(output.shape) for output in model(images)] == [(2, 5, 45, 61)] * 2
    assert model.eval()(images).shape == (2, 5, 45, 61)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_features_are_smaller_by_the_stride(backbone, stride):
    model = pspnet(backbone=backbone, stride=stride).eval()
    features = []
    model.layer4.register_forward_hook(lambda layer, inputs, output: features.append(output))
    model(torch.zeros(1, 3, 64, 96))
    assert features[0].shape[-2:] == (64 // stride, 96 // stride)


def test_dilated_convolutions_compute_at_every_position_what_strided_ones_compute_at_some():
    """At stride 8, every fourth position of the last stage's first convolution."""
    strided, dilated = (pspnet(stride=stride).eval() for stride in (32, 8))
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 64, 12, 16)
    x = strided.layer2(x)
    first = strided.layer3[0].conv1(x)
    assert torch.allclose(
        dilated.layer3[0].downsample(x)[..., ::2, ::2], strided.layer3[0].downsample(x)
    )
    assert dilated.layer3[0].conv1(x).shape[-2:] == tuple(2 * size for size in first.shape[-2:])
    assert dilated.layer4[0].conv2.dilation == (4, 4)


def test_a_backbones_weights_of_torchvision_can_be_loaded(tmp_path):
    resnet = torchvision().models.resnet18(num_classes=7)
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    anew = ("fc", "pyramid", "head", "auxiliary")
    config = ModelConfig(
        name="pspnet",
        options={"backbone": "resnet18"},
        weights=str(tmp_path / "resnet18.pth"),
        weights_except=anew,
    )
    model = build(config, (3, 48, 64), 5, seed=0, data_name="x", task="segmentation")
    assert torch.equal(model.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)
    assert torch.equal(model.head[0].weight, pspnet().head[0].weight)


def test_the_dilated_backbone_of_torchvision_is_ours_but_for_its_first_blocks():
    """Where torchvision can dilate, bottlenecks, the shapes and the later blocks agree."""
    theirs = torchvision().models.resnet50(replace_stride_with_dilation=[False, True, True])
    ours = pspnet(backbone="resnet50")
    for stage in ("layer3", "layer4"):
        for mine, yours in list(zip(getattr(ours, stage), getattr(theirs, stage), strict=True))[1:]:
            assert (mine.conv2.dilation, mine.conv2.stride) == (yours.conv2.dilation, (1, 1))
