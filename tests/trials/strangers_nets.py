"""Data and models for tests/strangers.py, which puts this file beside a configuration.

As a program it loads an exported model without the project (alone), or with it (ours).
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

NUM_CLASSES, NUM_TOKENS = 4, 60


class MadeUp(torch.utils.data.Dataset):
    """Random inputs, a little different in each class."""

    classes = ("a", "b", "c", "d")

    def __init__(self, split, shape, is_text=False):
        generator = torch.Generator().manual_seed(len(split))
        self.targets = torch.arange(40 if split == "train" else 16) % NUM_CLASSES
        size = (len(self.targets), *shape)
        if is_text:  # 0 is padding
            self.inputs = torch.randint(2, NUM_TOKENS, size, generator=generator)
            self.inputs[:, 0] = 2 + self.targets
            self.inputs[::3, -2:] = 0
        else:
            shift = self.targets.view(-1, *[1] * len(shape)) / NUM_CLASSES
            self.inputs = torch.randn(size, generator=generator) + shift

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return self.inputs[i], int(self.targets[i])


def images8(split):
    return MadeUp(split, (3, 8, 8))


def images32(split):
    return MadeUp(split, (3, 32, 32))


def images64(split):
    return MadeUp(split, (3, 64, 64))


def vectors(split):
    return MadeUp(split, (12,))


def tokens(split):
    return MadeUp(split, (10,), is_text=True)


def torchvision(input_shape, num_classes, *, architecture: str):
    from torchvision.models import get_model

    more = {"init_weights": False} if architecture == "googlenet" else {}
    return get_model(architecture, weights=None, num_classes=num_classes, **more)


def torchvision_swin_v2(input_shape, num_classes):
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer
    from torchvision.models.swin_transformer import SwinTransformerBlockV2 as Block

    return SwinTransformer(
        [4, 4],
        16,
        [1, 2],
        [1, 2],
        [4, 4],
        num_classes=num_classes,
        block=Block,
        downsample_layer=PatchMergingV2,
    )


class Text(nn.Module):
    """A classifier of transformers, called with tokens alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(input_ids=tokens, attention_mask=(tokens != 0).long())


def bert(input_shape, num_classes):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=num_classes,
    )
    return Text(BertForSequenceClassification(config))


def gpt2(input_shape, num_classes):
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(
        vocab_size=NUM_TOKENS,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=16,
        num_labels=num_classes,
        pad_token_id=0,
    )
    return Text(GPT2ForSequenceClassification(config))


def _built(model, shape):
    """Build a model as its library does, without the project."""
    module, _, name = model["name"].partition(":")
    if module == "timm":
        import timm

        options = dict(model["options"])
        usual = timm.models.get_pretrained_cfg(name)
        if usual is not None and usual.fixed_input_size:
            options["img_size"] = shape[1:]
        return timm.create_model(name, in_chans=shape[0], num_classes=NUM_CLASSES, **options)
    return getattr(__import__(module), name)(shape, NUM_CLASSES, **model["options"])


@torch.no_grad()
def _outputs(model, inputs):
    torch.manual_seed(0)
    outputs = model.eval()(inputs)
    return outputs if isinstance(outputs, torch.Tensor) else outputs["logits"]


def ours(settings):
    """Export the run twice, and keep what the project's loader makes of both."""
    from sms_dist.cli.main import cli
    from sms_dist.export.folder import load

    inputs, outputs = globals()[settings["data"]]("test").inputs, {}
    for name, options in {"whole": (), "shrunk": ("--shrink",)}.items():
        cli(["export", "run", "--to", name, *options], standalone_mode=False)
        outputs[name] = _outputs(load(Path(name)), inputs)
    torch.save(outputs, "ours.pt")
    return {}


def alone(settings):
    """Load the exported weights without the project; print zeros, and how far outputs are apart."""
    import torch.library
    from safetensors.torch import load_file

    library = torch.library.Library("torchvision", "FRAGMENT")
    if torch.version.cuda is None:  # or torchvision cannot be imported beside it
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    inputs = globals()[settings["data"]]("test").inputs
    model = _built(settings["model"], tuple(inputs.shape[1:]))
    assert "sms_dist" not in sys.modules
    state = load_file("whole/weights.safetensors")
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys, missing
    mask = load_file("run/phase_1/soup/mask.safetensors")
    sizes = {name: kept.numel() for name, kept in mask.items()}
    matrices = [p for p in model.parameters() if sum(size > 1 for size in p.shape) > 1]
    wanted, outputs = _outputs(model, inputs), torch.load("ours.pt")
    return {
        "prunable": sum(sizes.values()) / sum(p.numel() for p in model.parameters()),
        "zeros": sum(int((state[n] == 0).sum()) for n in mask) / sum(sizes.values()),
        "zeros_of_all": sum(int((p == 0).sum()) for p in matrices)
        / sum(p.numel() for p in matrices),
        "difference": float((outputs["whole"] - wanted).abs().max()),
        "shrunk": float((outputs["shrunk"] - wanted).abs().max()),
    }


if __name__ == "__main__":
    sys.path.append(".")
    print(json.dumps(globals()[sys.argv[1]](json.loads(sys.argv[2]))))
