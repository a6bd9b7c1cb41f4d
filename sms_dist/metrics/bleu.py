"""BLEU by sacrebleu, out of corpus statistics that add up over batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

_ORDERS = 4  # n-grams of 1 to 4 tokens
NUM_TOTALS = 2 * _ORDERS + 2  # n-grams found, n-grams translated, lengths of both sides in tokens


def totals(translations: Sequence[str], references: Sequence[str]) -> Tensor:
    """What a batch of sentences adds: float64 [NUM_TOTALS]; one reference a sentence."""
    assert len(translations) == len(references)
    if not translations:
        return torch.zeros(NUM_TOTALS, dtype=torch.float64)
    score = _metric().corpus_score(list(translations), [list(references)])
    numbers = [*score.counts, *score.totals, score.sys_len, score.ref_len]
    return torch.tensor(numbers, dtype=torch.float64)


def bleu(totals: Tensor) -> float:
    """BLEU of the whole corpus, 0 to 100: what sacrebleu says of all its sentences at once."""
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


def signature() -> str:
    """How it was counted, for whoever compares numbers: sacrebleu's own words."""
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
