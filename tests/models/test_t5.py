"""T5: its masks, its search, its files; against transformers where that says the same."""

import json
import math

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from sms_dist.config import ModelConfig
from sms_dist.models import build, build_on_meta
from sms_dist.models.hugging_face import library
from sms_dist.soups.states import bare_state

pytest.importorskip("transformers")
transformers = library("transformers", "text", "t5")

SIZES = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_heads": 2, "num_layers": 2}
SOURCE = torch.tensor([[5, 6, 7, 1, 0, 0], [3, 4, 5, 6, 7, 1]])
TARGET = torch.tensor([[0, 4, 5], [0, 7, 8]])


def t5(vocabulary=50, seed=0, **options):
    config = ModelConfig(name="t5", options=options)
    return build(config, (8,), vocabulary, seed=seed, data_name="x", task="translation")


def untied():
    return t5(**SIZES).eval()


def tied():
    return t5(**SIZES, tied=True, feed_forward="relu").eval()


def written(folder, model, **changes):
    """A folder as Hugging Face's are, with all names of tied tensors."""
    is_tied = model.lm_head.weight is model.shared.weight
    settings = {"model_type": "t5", "vocab_size": 50, "tie_word_embeddings": is_tied, **SIZES}
    settings["feed_forward_proj"] = "relu" if is_tied else "gated-gelu"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings | changes))
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    return str(folder)


@pytest.mark.parametrize("make", [untied, tied])
def test_logits_are_those_of_transformers_with_its_own_mask(make):
    ours = make()
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=50,
            **SIZES,
            feed_forward_proj="relu" if make is tied else "gated-gelu",
            tie_word_embeddings=make is tied,
        )
    ).eval()
    if make is untied:
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty(50, 16))
    theirs.load_state_dict(ours.state_dict())
    expected = theirs(
        input_ids=SOURCE, attention_mask=SOURCE.ne(0).long(), decoder_input_ids=TARGET
    ).logits
    assert torch.allclose(ours(SOURCE, TARGET), expected.transpose(1, 2), atol=1e-6)


def test_padding_is_not_seen_and_neither_is_the_future():
    model = untied()
    logits = model(SOURCE, TARGET)
    assert torch.allclose(logits[:1], model(SOURCE[:1, :4], TARGET[:1]), atol=1e-5)
    later = TARGET.clone()
    later[:, 2] = 9
    assert torch.equal(model(SOURCE, later)[..., :2], logits[..., :2])
    assert not torch.equal(model(SOURCE, later)[..., 2], logits[..., 2])


@pytest.mark.parametrize("make", [untied, tied])
def test_a_new_model_knows_nothing(make):
    """Its loss is near that of guessing; the output layer of transformers gives many times that."""
    loss = F.cross_entropy(make()(SOURCE, TARGET), TARGET)
    assert loss.item() == pytest.approx(math.log(50), abs=0.8)


def test_greedy_translation_takes_the_likeliest_token_until_the_end():
    model = untied()
    found = model.translate(SOURCE, max_length=5)
    target = torch.zeros(2, 1, dtype=torch.long)
    for _ in range(5):
        target = torch.cat([target, model(SOURCE, target)[..., -1:].argmax(1)], dim=1)
    is_over = (target == 1).cumsum(1)[:, :-1] > 0
    assert torch.equal(found, target[:, 1:].masked_fill(is_over, 0))
    assert torch.equal(found, model.translate(SOURCE, max_length=5))


def test_after_the_end_there_is_only_padding():
    model = untied()
    word = model.translate(SOURCE, max_length=1)[0, 0].item()
    with torch.no_grad():  # the first sentence now ends where it had its first word
        weight = model.lm_head.weight
        weight[[1, word]] = weight[[word, 1]]
    found = model.translate(SOURCE, max_length=4)
    assert found[0].tolist() == [1] + [0] * (found.shape[1] - 1)


def test_more_beams_find_no_less_likely_sentences():
    model = untied()

    def likelihood(found):
        target = torch.cat([torch.zeros(2, 1, dtype=torch.long), found], dim=1)
        logits = model(SOURCE, target[:, :-1]).log_softmax(1)
        return logits.gather(1, found[:, None]).sum()

    greedy, wide = (model.translate(SOURCE, max_length=3, num_beams=n) for n in (1, 4))
    assert wide.shape == (2, 3)
    assert likelihood(wide) >= likelihood(greedy) - 1e-5


def test_dropout_is_an_option_and_for_training_only():
    model = t5(**SIZES, dropout=0.5)
    assert not torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))
    model.eval()
    assert torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))


@pytest.mark.parametrize("make", [untied, tied])
def test_a_folder_gives_its_weights_and_shape(make, tmp_path):
    model = make()
    folder = written(tmp_path / "t5", model)
    loaded = t5(folder=folder, seed=1).eval()
    assert torch.equal(loaded(SOURCE, TARGET), model(SOURCE, TARGET))
    assert (loaded.lm_head.weight is loaded.shared.weight) == (make is tied)
    config = ModelConfig(name="t5", options={"folder": folder})
    (tmp_path / "t5" / "model.safetensors").unlink()
    meta = build_on_meta(config, (8,), 50, data_name="x", task="translation")
    assert bare_state(meta).keys() == bare_state(model).keys()


@pytest.mark.parametrize("size", ["1GB", "20KB"])  # one file; several with an index
def test_a_folder_that_transformers_wrote_can_be_read(size, tmp_path):
    settings = transformers.T5Config(vocab_size=64, **SIZES, decoder_start_token_id=0)
    theirs = transformers.T5ForConditionalGeneration(settings).eval()
    theirs.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors").is_file() == (size == "1GB")
    ours = t5(vocabulary=60, folder=str(tmp_path)).eval()
    expected = theirs(input_ids=SOURCE, decoder_input_ids=TARGET, attention_mask=SOURCE.ne(0))
    assert torch.allclose(ours(SOURCE, TARGET), expected.logits.transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 40}, "a vocabulary of 40 tokens cannot take the data's 50"),
        ({"model_type": "bert"}, "describes a bert, not a t5"),
        ({"num_layers": 3}, "it lacks decoder.block.2.*and has nothing besides"),
        ({"d_ff": 32}, r"has the shape \(24, 16\), model.name=t5 wants \(32, 16\)"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(changes, message, tmp_path):
    folder = written(tmp_path / "t5", untied(), **changes)
    with pytest.raises(ValueError, match=message):
        t5(folder=folder)
