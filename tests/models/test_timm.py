"""Models of timm, without its weights."""

import pytest
import torch

from sms_dist.base import vision
from sms_dist.config import ModelConfig
from sms_dist.models import build, build_on_meta
from sms_dist.models.hugging_face import library

vision.mend()  # timm imports torchvision, which not every torch can by itself
pytest.importorskip("timm")


def made(name, shape=(3, 32, 32), **options):
    config = ModelConfig(name=f"timm:{name}", options=options)
    return build(config, shape, 10, seed=0, data_name="x")


@pytest.mark.parametrize(
    ("name", "shape"), [("test_resnet", (1, 40, 30)), ("test_vit", (3, 64, 96))]
)
def test_channels_classes_and_sizes_are_the_datas(name, shape):
    model = made(name, shape).eval()
    images = torch.randn(2, *shape)
    assert model(images).shape == (2, 10)
    model.train()(images).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_weights_follow_from_the_seed_and_meta_has_their_shapes():
    first, again = (made("test_vit").state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    config = ModelConfig(name="timm:test_vit")
    meta = build_on_meta(config, (3, 32, 32), 10, data_name="x").state_dict()
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in meta.items()}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, "timm:resnet81 is not known to timm .*, did you mean resnet"),
        ("resnet18.a1_in1k", {}, "is not known to timm"),
        ("hf-hub:someone/model", {}, "is not known to timm"),
        ("test_resnet", {"pretrained": True}, "options.pretrained is not for timm models"),
        ("test_resnet", {"checkpoint_path": "x.pth"}, "model.weights names a file"),
        ("test_resnet", {"depht": 3}, "unexpected keyword argument 'depht'"),
    ],
)
def test_what_would_not_work_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        made(name, **options)


def test_a_library_that_is_missing_is_named_with_its_extra():
    with pytest.raises(ValueError, match=r"model.name=x needs no_such_lib.*'sms_dist\[text\]'"):
        library("no_such_lib", "text", "x")
