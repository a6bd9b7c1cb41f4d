"""Translation: the next token of a sentence in another language; measured by BLEU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.config import DataConfig
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.loader import Batch
from sms_dist.data.texts.vocabulary import PAD, open_vocabulary
from sms_dist.tasks.base import Metrics, Outputs, Task, kl_divergences, main_output

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

SPARE = 10  # tokens that a translation of a very short sentence may have more
_ORDERS = 4  # n-grams of 1 to 4 tokens
NUM_BLEU_TOTALS = 2 * _ORDERS + 2  # n-grams matched and translated, both lengths in tokens


class Translation(Task):
    """Each token weighs the same; outputs are batch x vocabulary x tokens."""

    score: ClassVar = "bleu"
    has_probabilities: ClassVar = False

    def __init__(self, info: DatasetInfo, config: DataConfig) -> None:
        self._config = config
        self._vocabulary = open_vocabulary(config.vocabulary)
        self.num_totals = 3 + NUM_BLEU_TOTALS

    def loss(self, outputs: Outputs, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        # vocabulary last, as models compute it: its softmax takes little more than half the time
        logits = main_output(outputs).transpose(1, 2).flatten(0, 1)
        return F.cross_entropy(
            logits.float(),
            targets.flatten(),
            ignore_index=PAD,
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    def weight(self, targets: Tensor) -> Tensor | int:
        return (targets != PAD).sum()

    def correct(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        counted = targets != PAD
        right = (main_output(outputs).argmax(1) == targets) & counted
        return right.sum(), counted.sum()

    def totals(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the totals; ValueError when the model cannot translate."""
        outputs = model(*batch.inputs).float()
        right, count = self.correct(outputs, batch.targets)
        tokens = torch.stack([self.loss(outputs, batch.targets).double(), right, count])
        translations = self.translations(model, batch.inputs[0])
        return torch.cat([tokens, bleu_totals(translations, batch.references).to(tokens.device)])

    def metrics(self, totals: Tensor) -> Metrics:
        loss, right, count = totals[:3].tolist()
        return {
            "bleu": bleu(totals[3:]),
            "loss": loss / count,
            "accuracy": right / count,
        }

    def divergence(self, outputs: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        return (kl_divergences(outputs, wanted) * (targets != PAD)).sum()

    def facts(self) -> dict[str, str]:
        return {"bleu_signature": bleu_signature()}

    def translations(self, model: nn.Module, sources: Tensor) -> list[str]:
        """Return translations as text; endless ones are cut at 1.5 times their source."""
        translate = getattr(model, "translate", None)
        if translate is None:
            raise ValueError(
                f"model.name: {type(model).__name__} cannot be measured by BLEU; give it a method"
                " translate(source, max_length, num_beams) that returns tokens, as that of t5 does"
            )
        length = int((sources != PAD).sum(1).max())
        longest = min(self._config.max_length, length * 3 // 2 + SPARE)
        tokens = translate(sources, longest, self._config.num_beams)
        return self.sentences(tokens)

    def sentences(self, tokens: Tensor) -> list[str]:
        """Return the text of each row of tokens."""
        return [self._vocabulary.decode(row) for row in tokens.tolist()]


def bleu_totals(translations: Sequence[str], references: Sequence[str]) -> Tensor:
    """Return the totals of a batch of sentences: float64 [NUM_BLEU_TOTALS]; one reference each."""
    assert len(translations) == len(references)
    if not translations:
        return torch.zeros(NUM_BLEU_TOTALS, dtype=torch.float64)
    score = _metric().corpus_score(list(translations), [list(references)])
    numbers = [*score.counts, *score.totals, score.sys_len, score.ref_len]
    return torch.tensor(numbers, dtype=torch.float64)


def bleu(totals: Tensor) -> float:
    """Return the BLEU of the whole corpus, 0 to 100, as sacrebleu computes it at once."""
    counts = [round(number) for number in totals.tolist()]
    metric = _metric()
    score = metric.compute_bleu(
        counts[:_ORDERS],
        counts[_ORDERS : 2 * _ORDERS],
        sys_len=counts[-2],
        ref_len=counts[-1],
        smooth_method=metric.smooth_method,
        smooth_value=metric.smooth_value,
        effective_order=metric.effective_order,
    )
    return float(score.score)


def bleu_signature() -> str:
    """Return sacrebleu's signature of how BLEU was counted, for whoever compares numbers."""
    metric = _metric()
    metric.corpus_score(["a"], [["a"]])  # the signature tells the number of references
    return str(metric.get_signature())


def _metric() -> BLEU:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ModuleNotFoundError as error:
        message = f'BLEU needs sacrebleu ({error}); pip install "sms_dist[text]"'
        raise ImportError(message) from error
    return BLEU(force=True)  # no warning for every batch whose sentences end in " ."
