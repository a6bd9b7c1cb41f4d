"""BLEU out of totals is the BLEU of the whole corpus."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sacrebleu = pytest.importorskip("sacrebleu", reason="needs the extra `text`")

from sms_dist.tasks.translation import (  # noqa: E402
    NUM_BLEU_TOTALS,
    bleu,
    bleu_signature,
    bleu_totals,
)

WORDS = st.sampled_from(["the", "cat", "sat", "on", "a", "mat", ",", "Hunde", "läuft", ".", "it's"])
SENTENCES = st.lists(WORDS, max_size=12).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=8), st.data())
def test_summed_over_batches_it_is_that_of_all_sentences(pairs, data):
    translations, references = zip(*pairs, strict=True)
    cut = data.draw(st.integers(0, len(pairs)))
    summed = bleu_totals(translations[:cut], references[:cut]) + bleu_totals(
        translations[cut:], references[cut:]
    )
    wanted = sacrebleu.corpus_bleu(list(translations), [list(references)]).score
    assert bleu(summed) == pytest.approx(wanted, abs=1e-9)


def test_a_perfect_translation_has_100():
    sentences = ["Two dogs play in the snow .", "A man rides a bike ."]
    assert bleu(bleu_totals(sentences, sentences)) == pytest.approx(100)


def test_nothing_has_0():
    assert bleu_totals([], []).shape == (NUM_BLEU_TOTALS,)
    assert bleu(bleu_totals(["", ""], ["a b c d", "e"])) == 0


def test_totals_are_whole_numbers_in_double_precision():
    found = bleu_totals(["a cat sat"], ["a cat sat down"])
    assert found.dtype == torch.float64
    assert found.tolist() == [3, 2, 1, 0, 3, 2, 1, 0, 3, 4]


def test_the_signature_says_how_it_was_counted():
    assert bleu_signature().startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
