"""Classification of sentences and pairs: inputs, accuracy, and what can be had without reading."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from toy_encoder import ToyEncoder
from toy_tasks import make, toy_task

from xtremex.tasks.base import Model, TextExample
from xtremex.tasks.classification import Classification
from xtremex.tasks.lengths import length_rule

PAIR = TextExample(0, "it was in paris", "today in the house", 1)
SINGLE = TextExample(1, "it was in paris", None, 0)


def features(example, encoder, **more):
    ((feature,),) = Classification().features(
        [example], toy_task("classification", {}, ("a", "b"), **more), encoder
    )
    return feature


def test_joint_pairs_are_one_input_of_the_tokenizers_making():
    encoder = ToyEncoder()
    feature = features(PAIR, encoder)
    assert [ids.tolist() for ids in feature.inputs] == [encoder.tokenizer(PAIR.text, PAIR.pair)["input_ids"]]
    assert feature.length == len(feature.inputs[0])


def test_separate_pairs_are_two_inputs():
    encoder = ToyEncoder("separate")
    feature = features(PAIR, encoder)
    wanted = [encoder.tokenizer(text)["input_ids"] for text in (PAIR.text, PAIR.pair)]
    assert [ids.tolist() for ids in feature.inputs] == wanted
    assert feature.length == 2 * max(map(len, wanted))


@pytest.mark.parametrize("pair_encoding", ["joint", "separate"])
def test_the_text_prefix_stands_before_every_sentence_vector(pair_encoding):
    encoder = ToyEncoder(pair_encoding, text_prefix="today ")
    tokenizer = encoder.tokenizer
    assert features(SINGLE, encoder).inputs[0].tolist() == tokenizer("today " + SINGLE.text)["input_ids"]
    inputs = [ids.tolist() for ids in features(PAIR, encoder).inputs]
    if pair_encoding == "joint":
        assert inputs == [tokenizer("today " + PAIR.text, PAIR.pair)["input_ids"]]
    else:
        assert inputs == [tokenizer("today " + text)["input_ids"] for text in (PAIR.text, PAIR.pair)]


@pytest.mark.parametrize("limit", [6, 9])
def test_the_tasks_limit_holds_where_it_is_below_the_encoders(limit):
    assert max(map(len, features(PAIR, ToyEncoder(max_length=9), max_length=6).inputs)) == 6
    assert max(map(len, features(PAIR, ToyEncoder(max_length=limit)).inputs)) == limit


def test_separate_scores_compare_the_vectors_of_both_texts():
    from xtremex.models.heads import compare
    from xtremex.tasks.batching import encode
    from xtremex.tasks.pairs import pair_scores

    encoder = ToyEncoder("separate", unit_norm=True).eval()
    rows = [features(PAIR, encoder), features(SINGLE, encoder)]
    seen = []

    def head(vectors):
        seen.append(vectors)
        return vectors

    pair_scores(encoder, head, rows)
    u, v = (encode(encoder, [ids]).pooled[0] * 10 for ids in rows[0].inputs)
    nothing = torch.zeros_like(u)
    torch.testing.assert_close(
        seen[0], torch.stack([compare(u, v), compare(u, nothing)]), rtol=1e-4, atol=1e-4
    )


def test_equal_texts_of_a_test_set_are_encoded_once():
    examples = [
        TextExample(i, "it was in paris", f"today in {w}", 0) for i, w in enumerate(["rome", "oslo"] * 3)
    ]
    task = toy_task("classification", {"test": examples}, ("a", "b"))
    encoder, kind = ToyEncoder("separate"), Classification()
    kind.evaluate(Model(encoder, kind.head(encoder, task)), task, "test", "en", batch_tokens=10_000)
    assert sum(rows for rows, _ in encoder.calls) == 3


@pytest.mark.parametrize("name", ["single", "pair"])
def test_accuracy_is_sklearns_and_predictions_are_labels(name):
    task, kind, encoder = make(name, train=1), Classification(), ToyEncoder()
    torch.manual_seed(0)
    (outcomes,) = kind.evaluate(
        Model(encoder, kind.head(encoder, task)), task, "test", "en", batch_tokens=512
    )
    gold = [task.labels[example.label] for example in task.source.load(task, "test", "en")]
    assert outcomes.score("accuracy") == pytest.approx(accuracy_score(gold, outcomes.predictions))


def lengthy(rng, index, labels=2):
    label = rng.randrange(labels)
    return TextExample(index, "x" * rng.randint(3, 30), "y" * (5 + 20 * label + rng.randint(0, 12)), label)


def drawn(seed, size, make=lengthy, **more):
    rng = random.Random(seed)
    return [make(rng, index, **more) for index in range(size)]


def test_baselines_are_fitted_on_the_train_split():
    train = [TextExample(i, "x" * n, None, label) for i, (n, label) in enumerate([(3, 1), (4, 1), (9, 0)])]
    test = [
        TextExample(i, "x" * n, None, label) for i, (n, label) in enumerate([(3, 1), (8, 0), (9, 0), (7, 0)])
    ]
    task = toy_task("classification", {"train": train, "test": test}, ("a", "b"))
    assert Classification().baselines(task, "test", "en")["largest class"] == 0.25


def test_a_shortcut_by_length_is_seen():
    task = toy_task("classification", {"train": drawn("a", 300), "test": drawn("b", 100)}, ("a", "b"))
    assert Classification().baselines(task, "test", "en")["length rule"] > 0.95


def test_a_shortcut_by_length_is_seen_in_a_denser_script():
    dense = [TextExample(e.id, e.text[::3], (e.pair or "")[::3], e.label) for e in drawn("b", 100)]
    assert np.mean(length_rule(drawn("a", 300), dense) == [e.label for e in dense]) > 0.9


def test_a_shortcut_in_the_middle_is_seen():
    def middling(rng, index):
        size = rng.randint(10, 90)
        return TextExample(index, "x" * size, None, int(35 < size < 65))

    test = drawn("b", 100, middling)
    assert np.mean(length_rule(drawn("a", 300, middling), test) == [e.label for e in test]) > 0.75


def test_lengths_that_say_nothing_give_chance():
    def mute(rng, index):
        return TextExample(index, "x" * rng.randint(5, 30), "y" * rng.randint(5, 30), rng.randrange(3))

    test = drawn("b", 600, mute)
    assert np.mean(length_rule(drawn("a", 600, mute), test) == [e.label for e in test]) < 0.42


def test_the_rule_is_a_logistic_regression():
    from xtremex.tasks.lengths import PENALTY, _columns

    train, test = drawn("a", 200, labels=3), drawn("b", 80, labels=3)
    oracle = LogisticRegression(C=1 / (PENALTY * len(train)), fit_intercept=False, max_iter=2000)
    oracle.fit(_columns(train), [e.label for e in train])
    assert np.mean(oracle.predict(_columns(test)) == length_rule(train, test)) > 0.97
    assert np.array_equal(length_rule(train, test), length_rule(train, test))


def test_one_class_in_train_is_predicted_everywhere():
    train = [TextExample(i, "x" * (i + 1), None, 1) for i in range(4)]
    assert length_rule(train, train[:2]).tolist() == [1, 1]
