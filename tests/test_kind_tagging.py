"""Spans agree with seqeval; long sentences are split and joined; words without sub-tokens keep their place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import accuracy_score
from torch import nn
from toy_encoder import PLACES_AND_WORDS, ToyEncoder, WordReader
from toy_tasks import make, toy_task

from xtremex.tasks.base import Model, TagExample
from xtremex.tasks.chunks import TagScheme
from xtremex.tasks.tagging import Tagging

SCHEMES = {
    "io": ("O", "I-PER", "I-LOC"),
    "bio": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    "bioes": ("O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC"))),
}


def sentences(labels):
    tagged = st.lists(st.tuples(st.sampled_from(labels), st.sampled_from(labels)), min_size=1, max_size=12)
    return st.lists(tagged, min_size=1, max_size=5)


def counts(labels, drawn):
    index = {label: i for i, label in enumerate(labels)}
    flat = [pair for sentence in drawn for pair in sentence]
    gold, predicted = (np.array([index[pair[side]] for pair in flat]) for side in (0, 1))
    sentence = np.repeat(np.arange(len(drawn)), [len(s) for s in drawn])
    return TagScheme(labels).count(predicted, gold, sentence)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@given(data=st.data())
def test_span_f1_is_seqevals(scheme, data):
    labels = SCHEMES[scheme]
    drawn = data.draw(sentences(labels))
    common, found, wanted = counts(labels, drawn)
    gold, predicted = ([[pair[side] for pair in sentence] for sentence in drawn] for side in (0, 1))
    total = found.sum() + wanted.sum()
    ours = 2 * common.sum() / total if total else 0.0
    assert ours == pytest.approx(f1_score(gold, predicted, zero_division=0))
    # and sentence by sentence, which the influence values rest on
    assert wanted.tolist() == [len(get_entities(tags)) for tags in gold]
    assert found.tolist() == [len(get_entities(tags)) for tags in predicted]
    for row, (one, other) in enumerate(zip(gold, predicted, strict=True)):
        assert common[row] == len(set(get_entities(one)) & set(get_entities(other)))


@pytest.mark.filterwarnings("ignore:.*seems not to be NE tag")
def test_without_prefixes_a_run_of_one_tag_is_a_span():
    gold = ["NOUN", "NOUN", "VERB", "PUNCT"]
    predicted = ["NOUN", "VERB", "VERB", "PUNCT"]
    common, found, wanted = counts(("NOUN", "VERB", "PUNCT"), [list(zip(gold, predicted, strict=True))])
    # reference/protocol.md section 4.2: seqeval gives 1/3 here
    assert 2 * common.sum() / (found.sum() + wanted.sum()) == pytest.approx(1 / 3)
    assert f1_score([gold], [predicted]) == pytest.approx(1 / 3)


def test_without_prefixes_o_alone_is_outside():
    drawn = [[("TIME", "O"), ("TIME", "O"), ("O", "O"), ("PLACE", "PLACE")]]
    assert [c.tolist() for c in counts(("O", "TIME", "PLACE"), drawn)] == [[1], [1], [2]]


def test_the_type_of_an_unprefixed_tag_is_the_whole_tag():
    drawn = [[("SCONJ", "CCONJ"), ("SCONJ", "SCONJ")]]
    assert [c.tolist() for c in counts(("SCONJ", "CCONJ"), drawn)] == [[0], [2], [1]]


def test_spans_end_with_their_sentence():
    labels = SCHEMES["io"]
    drawn = [[("I-PER", "I-PER")], [("I-PER", "I-PER")], [("O", "O")]]
    assert [c.tolist() for c in counts(labels, drawn)] == [[1, 1, 0]] * 3


class ByWord(nn.Module):
    """Scores that depend on the sub-token alone: the label index is the token id modulo the labels."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, states):
        return nn.functional.one_hot(states[:, 0].long() % self.labels, self.labels).float()


words = st.lists(st.sampled_from(PLACES_AND_WORDS), min_size=1, max_size=40)


@given(st.lists(words, min_size=1, max_size=6), st.integers(5, 20))
def test_splitting_long_sentences_changes_nothing(sentences, max_length):
    labels = SCHEMES["bio"]
    examples = [TagExample(i, tuple(s), ("O",) * len(s)) for i, s in enumerate(sentences)]
    task = toy_task("tagging", {"test": examples}, labels)
    head = ByWord(len(labels))
    tagging = Tagging()
    (whole,) = tagging.evaluate(Model(WordReader(200), head), task, "test", "en", batch_tokens=64)
    (split,) = tagging.evaluate(Model(WordReader(max_length), head), task, "test", "en", batch_tokens=64)
    assert whole.predictions == split.predictions
    for metric in tagging.metrics:
        assert np.array_equal(whole.metrics[metric], split.metrics[metric])


@given(words, st.integers(5, 20))
def test_parts_carry_every_word_once_within_the_limit(sentence, max_length):
    task = toy_task("tagging", {}, ("O",))
    example = TagExample(0, tuple(sentence), ("O",) * len(sentence))
    (parts,) = Tagging().features([example], task, WordReader(max_length))
    assert np.concatenate([part.words for part in parts]).tolist() == list(range(len(sentence)))
    assert max(part.length for part in parts) <= max_length


def test_a_word_longer_than_the_encoder_keeps_its_tag_and_its_neighbours():
    task = toy_task("tagging", {}, ("O", "X"))
    example = TagExample(0, ("in", "zzzzzzzzzzzzzzz", "paris"), ("O", "X", "O"))
    (parts,) = Tagging().features([example], task, WordReader(8))
    assert np.concatenate([part.words for part in parts]).tolist() == [0, 1, 2]
    assert np.concatenate([part.tags for part in parts]).tolist() == [0, 1, 0]


INVISIBLE = ("\u200b", "\r", "\u200d\u200b")


@pytest.mark.parametrize("invisible", INVISIBLE)
def test_words_without_a_sub_token_are_predicted_outside_and_move_nothing(invisible):
    labels = ("I-LOC", "O")  # "O" is not the first label
    plain = TagExample(0, ("in", "paris", "was", "it"), ("O",) * 4)
    dirty = TagExample(1, ("in", invisible, "paris", invisible, "was", "it"), ("O",) * 6)
    only = TagExample(2, (invisible, invisible), ("O", "O"))
    task = toy_task("tagging", {"test": [plain, dirty, only]}, labels)
    (outcomes,) = Tagging().evaluate(Model(WordReader(32), ByWord(2)), task, "test", "en", batch_tokens=64)
    a, b, c, d = outcomes.predictions[0].split()
    assert outcomes.predictions[1].split() == [a, "O", b, "O", c, d]
    assert outcomes.predictions[2] == "O O"
    assert outcomes.metrics["accuracy"][1].tolist() == [4, 6, 2]


def test_muse_reads_the_first_piece_that_is_not_a_bare_boundary(muse):
    task = toy_task("tagging", {}, ("O", "X"))
    example = TagExample(0, ("我", "住在", "\u200b", "北京", "."), ("O", "O", "O", "X", "O"))
    ((feature,),) = Tagging().features([example], task, muse)
    read = muse.tokenizer.convert_ids_to_tokens(feature.ids[feature.tokens].tolist())
    assert [piece.strip("▁") for piece in read] == ["我", "住在", "北京", "."]
    assert feature.words.tolist() == [0, 1, 3, 4]
    assert feature.tags.tolist() == [0, 0, 1, 0]


def test_loss_weighs_words_and_accuracy_counts_them():
    task = make("tags", train=4)
    tagging, encoder = Tagging(), ToyEncoder()
    examples = task.source.load(task, "train", "en")
    assert [tagging.weight(example) for example in examples] == [len(example.words) for example in examples]
    torch.manual_seed(0)
    model = Model(encoder, tagging.head(encoder, task))
    (outcomes,) = tagging.evaluate(model, task, "test", "en", batch_tokens=512)
    gold = [tag for example in task.source.load(task, "test", "en") for tag in example.tags]
    predicted = " ".join(outcomes.predictions).split()
    assert outcomes.score("accuracy") == pytest.approx(accuracy_score(gold, predicted))


def test_the_constant_baseline_is_the_best_constant():
    examples = [
        TagExample(0, ("paris",), ("LOC",)),
        TagExample(1, ("in", "paris"), ("O", "LOC")),
        TagExample(2, ("emma",), ("PER",)),
    ]
    task = toy_task("tagging", {"test": examples}, ("O", "LOC", "PER"))
    # all LOC: 3 spans found, 3 wanted, the first right
    assert Tagging().baselines(task, "test", "en") == {"constant tag": pytest.approx(2 * 1 / 6)}
    by_word = toy_task("tagging", {"test": examples}, ("O", "LOC", "PER"), metrics=("accuracy", "f1"))
    assert Tagging().baselines(by_word, "test", "en") == {"constant tag": 0.5}
