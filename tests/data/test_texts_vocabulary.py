"""Vocabularies: every sentence comes back as it was."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_dist.data.texts.vocabulary import (
    END,
    PAD,
    Bytes,
    Pieces,
    open_vocabulary,
    train_vocabulary,
)

WORDS = (("big", "small", "brown"), ("in", "under", "before"), ("house", "tree", "blue river"))
SENTENCES = [f"A {a} dog is {b} the {c}." for a, b, c in product(*WORDS)]
SIZE = 285  # 256 of them are bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts")
    for language, word in (("en", "Ha!"), ("de", "Grüß")):
        text = "".join(f"{word} {sentence}\n" for sentence in SENTENCES * 3)
        (path / f"train.{language}").write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pieces(folder) -> Pieces:
    train_vocabulary(folder, SIZE, folder / "spm.model", ("en", "de"))
    return open_vocabulary(str(folder / "spm.model"))


@given(st.lists(st.text()))
def test_bytes_come_back_exactly(sentences):
    tokens, lengths = Bytes().encode(sentences)
    assert len(tokens) == lengths.sum()
    assert len(lengths) == len(sentences)
    start = 0
    for sentence, length in zip(sentences, lengths, strict=True):
        assert Bytes().decode(tokens[start : start + length].tolist()) == sentence
        assert tokens[start + length - 1] == END
        start += length


def test_bytes_are_those_of_byt5():
    tokens, _ = Bytes().encode(["Aü"])
    assert tokens.tolist() == [68, 198, 191, END]
    assert Bytes().size == 259


def test_what_follows_the_end_is_not_part_of_a_sentence():
    assert Bytes().decode([68, PAD, 69, END, 70]) == "AB"


def test_tokens_that_a_model_has_beyond_the_vocabulary_vanish(pieces):
    assert Bytes().decode([68, 300, END]) == "A"
    assert pieces.decode([pieces.size + 5, END]) == ""


@given(st.text(st.characters(exclude_characters="\u2581\0", exclude_categories=["Cs"])))
def test_pieces_come_back_exactly_whatever_is_written(pieces, sentence):
    tokens, lengths = pieces.encode([sentence])
    assert len(tokens) == lengths[0]
    assert tokens.min() >= END
    assert tokens.max() < pieces.size
    assert pieces.decode(tokens.tolist()) == sentence


def test_several_sentences_of_pieces_lie_one_after_another(pieces):
    tokens, lengths = pieces.encode(["Grüß Ha!", "", "dog"])
    assert lengths[1] == 1
    assert [pieces.decode(part) for part in (tokens[: lengths[0]], tokens[lengths[0] + 1 :])] == [
        "Grüß Ha!",
        "dog",
    ]


def test_the_same_text_trains_the_same_vocabulary(folder, pieces, tmp_path):
    train_vocabulary(folder, SIZE, tmp_path / "again.model", ("en", "de"))
    assert (tmp_path / "again.model").read_bytes() == (folder / "spm.model").read_bytes()
    assert pieces.size == SIZE


def test_special_tokens_of_another_model_are_renumbered(folder, tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "train.en"), model_prefix=str(tmp_path / "m"), vocab_size=30,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    ours = Pieces(tmp_path / "m.model")
    tokens, _ = ours.encode([SENTENCES[0]])
    assert ours.size == 31  # it had no padding
    assert tokens[-1] == END
    assert tokens.min() == END
    assert ours.decode(tokens.tolist()) == theirs.decode(theirs.encode(SENTENCES[0]))


def test_a_vocabulary_that_is_not_there_says_how_to_train_one():
    with pytest.raises(ValueError, match="no such file; train one with `sms-dist data vocabulary`"):
        open_vocabulary("nowhere.model")


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "x.model").write_text("hello")
    with pytest.raises(ValueError, match=r"x\.model is no SentencePiece model"):
        open_vocabulary(str(tmp_path / "x.model"))


def test_more_pieces_than_the_text_has_is_an_error_with_the_number_that_fits(folder, tmp_path):
    with pytest.raises(ValueError, match=r"--size 9999 does not fit.*value <= \d+"):
        train_vocabulary(folder, 9999, tmp_path / "x.model", ("en", "de"))
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_is_never_overwritten(folder, pieces):
    with pytest.raises(ValueError, match=r"spm\.model is there already"):
        train_vocabulary(folder, SIZE, folder / "spm.model", ("en", "de"))
