"""Models of Hugging Face's libraries, never downloaded: timm's image classifiers, T5."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sms_dist.base import plain, vision
from sms_dist.base.lookup import guarded, lookup, nearest
from sms_dist.models import weights
from sms_dist.models.family import ModelFamily


def library(module: str, extra: str, model: str) -> ModuleType:
    """Import an optional library; ValueError that says how to install it."""
    vision.mend()  # they import torchvision by themselves where they find it
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(
            f"model.name={model} needs {module}, which is not installed; pip install"
            f" 'sms_dist[{extra}]'"
        ) from None


PREFIX = "timm:"
# The data decides these, or they would fetch or read weights.
TAKEN = {
    "in_chans",
    "num_classes",
    "img_size",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
}


def timm_family(name: str) -> ModelFamily:
    """Return the family of a timm classifier, `timm:NAME`, without its weights.

    ValueError where timm is not installed, or has no such model.
    """
    timm = library("timm", "timm", name)
    architecture = name.removeprefix(PREFIX)
    known = timm.list_models()
    if architecture not in known:
        raise ValueError(
            f"model.name={name} is not known to timm {timm.__version__}"
            f"{nearest(architecture, known)}; timm.list_models() lists all"
        )

    def build(input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> nn.Module:
        for option in TAKEN.intersection(options):
            raise ValueError(
                f"model.options.{option} is not for timm models: the data decides on shapes, and "
                "model.weights names a file of weights"
            )
        channels, *size = input_shape
        usual = timm.models.get_pretrained_cfg(architecture)
        if usual is not None and usual.fixed_input_size and tuple(size) != usual.input_size[1:]:
            options["img_size"] = tuple(size)
        options |= {"in_chans": channels, "num_classes": num_classes}
        create = guarded(timm.create_model, name, "model.name", "change model.options")
        model: nn.Module = create(architecture, pretrained=False, **options)
        return model

    return ModelFamily(build, (None, None, None))


PAD, END, START = 0, 1, 0  # tokens
# Left over in old files; the model never had a use for it.
UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
FEED_FORWARDS = ("relu", "gated-gelu", "gated-silu")  # of T5 1.0, of v1.1, and a later one


class T5(nn.Module):
    """T5 (Raffel et al., 2020): source sentences and the target so far to logits of the next token.

    The tensors are named as in Hugging Face's files.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.shared, self.lm_head = model.shared, model.lm_head
        self.encoder, self.decoder = model.encoder, model.decoder
        self._whole = (model,)  # in a tuple, or its weights would have a second name

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Map tokens N x S and N x T (shifted: it begins with 0) to N x vocabulary x T."""
        (model,) = self._whole
        # four dims: of a mask with two transformers asks the values, which meta tensors have not
        mask = (source != PAD)[:, None, None, :]
        outputs = model(
            input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False
        )
        logits: Tensor = outputs.logits
        return logits.transpose(1, 2)

    @torch.no_grad()
    def translate(self, source: Tensor, max_length: int, num_beams: int = 1) -> Tensor:
        """Return the likeliest sentences: N x at most max_length tokens, 0 after their end (1).

        Greedy with one beam. The model must be in evaluation mode.
        """
        assert not self.training
        (model,) = self._whole
        tokens: Tensor = model.generate(
            input_ids=source,
            attention_mask=(source != PAD).long(),
            max_new_tokens=max_length,
            num_beams=num_beams,
            do_sample=False,
        )
        return tokens[:, 1:]  # without the start


def t5(
    input_shape: tuple[int],
    num_classes: int,
    *,
    d_model: int = 512,
    d_ff: int = 1024,
    d_kv: int = 64,
    num_heads: int = 6,
    num_layers: int = 8,
    feed_forward: str = "gated-gelu",
    tied: bool = False,
    dropout: float = 0.1,
    folder: str = "",
) -> nn.Module:
    """Return a T5; the defaults are v1.1 small, 76,961,152 parameters with 32,128 tokens.

    `tied`: the output layer is the embedding, as in T5 1.0. `folder`: a local Hugging Face folder,
    config.json and model.safetensors, instead of the other options (all but dropout).
    """
    lookup(dict.fromkeys(FEED_FORWARDS), feed_forward, "model.options.feed_forward")
    shape = {
        "d_model": d_model,
        "d_ff": d_ff,
        "d_kv": d_kv,
        "num_heads": num_heads,
        "num_layers": num_layers,
    }
    if folder:
        return _from_folder(plain.path(folder), num_classes, dropout)
    settings = {
        **shape,
        "vocab_size": num_classes,
        "feed_forward_proj": feed_forward,
        "tie_word_embeddings": tied,
    }
    return _built(settings, dropout)


def _built(settings: dict[str, Any], dropout: float) -> T5:
    """Return a model with new weights; ValueError where the settings are not T5's."""
    transformers = library("transformers", "text", "t5")
    known = {
        "dropout_rate": dropout,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "decoder_start_token_id": START,
    }
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config.from_dict(settings | known)
    )
    if not settings.get("tie_word_embeddings", True):
        _untie_(model)
    return T5(model)


def _untie_(model: Any) -> None:
    """Give the model an output layer of its own, which transformers 5 denies to T5 v1.1.

    Drawn so that logits begin near 1 (as in T5X), not near sqrt(d_model) (as in transformers).
    """
    weight = torch.empty_like(model.lm_head.weight)
    nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    model.lm_head.weight = nn.Parameter(weight)


def _from_folder(folder: Path, num_classes: int, dropout: float) -> nn.Module:
    """Return the model of a folder; on the meta device its weights are not read."""
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(
            f"model.options.folder={folder} holds no config.json; give a folder as Hugging Face"
            " writes it (nothing is downloaded)"
        )
    settings = plain.read_object(config)
    if settings.get("model_type") != "t5":
        raise ValueError(f"{config} describes a {settings.get('model_type')}, not a t5")
    if settings.get("vocab_size", 0) < num_classes:
        raise ValueError(
            f"{config}: a vocabulary of {settings.get('vocab_size')} tokens cannot take the data's"
            f" {num_classes}; set data.vocabulary to the model's own SentencePiece file"
        )
    model = _built(settings, dropout)
    if not model.shared.weight.is_meta:
        given = weights.read(
            str(folder), model, name="t5", ignored=(UNUSED,), source="model.options.folder"
        )
        model.load_state_dict(given.state, strict=False)
    return model
