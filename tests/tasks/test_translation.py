"""Translation: tokens that count, and BLEU against what people wrote."""

import pytest
import sacrebleu
import torch
from torch import nn

from sms_dist.config import DataConfig
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.loader import Batch
from sms_dist.data.texts.reading import Sentences, TextLoader, TokenBuffer
from sms_dist.data.texts.vocabulary import PAD, Bytes
from sms_dist.tasks import make_task

CPU = torch.device("cpu")
INFO = DatasetInfo("texts", 10, 4, (64,), (), task="translation", vocabulary=Bytes.size)
SOURCES = (
    "A man is here.", "Two dogs run in the snow.", "Yes.", "A red car stands on a wide street.",
)  # fmt: skip
REFERENCES = (
    "Ein Mann ist hier.", "Zwei Hunde rennen im Schnee.", "Ja.",
    "Ein rotes Auto steht auf einer breiten Straße.",
)  # fmt: skip


class Memory(nn.Module):
    """Knows translations by heart; its next token is always the same."""

    def __init__(self, translations: dict[str, str], token: int = 100) -> None:
        super().__init__()
        self.translations, self.asked = translations, []
        self.logits = nn.Parameter(torch.zeros(Bytes.size).index_fill(0, torch.tensor([token]), 9))

    def forward(self, source, target):
        return self.logits[None, :, None].expand(len(target), -1, target.shape[1])

    def translate(self, source, max_length, num_beams=1):
        self.asked.append((max_length, num_beams))
        texts = [self.translations[Bytes().decode(row)] for row in source.tolist()]
        return TokenBuffer.joined([Bytes().encode(texts)]).padded(torch.arange(len(texts)))


def loader(sources=SOURCES, references=REFERENCES, batch_size=3) -> TextLoader:
    sides = (TokenBuffer.joined([Bytes().encode(texts)]) for texts in (sources, references))
    return TextLoader(Sentences(*sides, references), batch_size, CPU)


def measured(model, batches, **settings) -> dict[str, float]:
    task = make_task(INFO, DataConfig(**settings))
    return task.metrics(sum(task.totals(model, batch) for batch in batches))


def test_what_people_wrote_scores_100():
    known = dict(zip(SOURCES, REFERENCES, strict=True))
    assert measured(Memory(known), loader().part(0, 1))["bleu"] == pytest.approx(100)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_bleu_is_that_of_sacrebleu_however_batches_are_cut(batch_size):
    translations = ["Ein Mann ist da.", "Zwei Hunde rennen im Wald.", "Ja.", "Ein rotes Auto."]
    model = Memory(dict(zip(SOURCES, translations, strict=True)))
    found = measured(model, loader(batch_size=batch_size).part(0, 1))
    assert found["bleu"] == sacrebleu.corpus_bleu(translations, [list(REFERENCES)]).score


def test_references_are_what_was_written_even_where_targets_are_cut():
    batch = next(loader().part(0, 1, batch_size=4))
    source, shifted = batch.inputs
    inputs = (source, shifted[:, :5])
    cut = Batch(inputs, batch.targets[:, :5], 4, 19.0, references=batch.references)
    known = dict(zip(SOURCES, REFERENCES, strict=True))
    assert measured(Memory(known), [cut])["bleu"] == pytest.approx(100)


def test_loss_and_accuracy_are_means_over_tokens():
    batch = next(loader().part(0, 1, batch_size=4))
    model = Memory(dict(zip(SOURCES, REFERENCES, strict=True)), token=ord("e") + 3)
    found = measured(model, [batch])
    tokens = batch.targets[batch.targets != PAD]
    assert found["accuracy"] == (tokens == ord("e") + 3).double().mean()
    wanted = -model.logits.log_softmax(0)[tokens].mean()
    assert found["loss"] == pytest.approx(wanted.item(), rel=1e-6)
    task = make_task(INFO, DataConfig())
    loss = task.loss(model(*batch.inputs), batch.targets) / batch.weight
    assert loss.item() == pytest.approx(found["loss"], rel=1e-6)


@pytest.mark.parametrize(("max_length", "expected"), [(16, 16), (128, 35 * 3 // 2 + 10)])
def test_translations_end_at_the_limit_or_half_as_long_again(max_length, expected):
    model = Memory(dict(zip(SOURCES, REFERENCES, strict=True)))
    measured(model, loader().part(0, 1, batch_size=4), max_length=max_length, num_beams=3)
    assert model.asked == [(expected, 3)]


def test_a_model_that_cannot_translate_is_told_what_it_lacks():
    class Deaf(nn.Module):
        def forward(self, source, target):
            return torch.zeros(len(target), Bytes.size, target.shape[1])

    with pytest.raises(ValueError, match=r"model\.name: Deaf .* give it a method translate\("):
        measured(Deaf(), loader().part(0, 1))


def test_the_journal_gets_the_signature_of_sacrebleu():
    signature = make_task(INFO, DataConfig()).facts()["bleu_signature"]
    assert "nrefs:1|" in signature
    assert f"version:{sacrebleu.__version__}" in signature


def test_padding_has_no_divergence():
    task = make_task(INFO, DataConfig())
    generator = torch.Generator().manual_seed(0)
    outputs, wanted = (torch.randn(2, Bytes.size, 5, generator=generator) for _ in range(2))
    targets = torch.tensor([[5, 6, 1, 0, 0], [7, 8, 9, 9, 1]])
    changed = wanted.clone()
    changed[0, :, 3:] = 0
    assert task.divergence(outputs, wanted, targets) == task.divergence(outputs, changed, targets)
    assert task.divergence(wanted, wanted, targets) == 0
    assert task.weight(targets) == 8
