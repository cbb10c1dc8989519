"""Multiple choice: choices compete within their example, in any number."""

from __future__ import annotations

import pytest
import torch
from toy_encoder import ToyEncoder
from toy_tasks import make, toy_task

from xtremex.tasks.base import ChoiceExample, Model
from xtremex.tasks.choice import MultipleChoice

MIXED = [
    ChoiceExample(0, "anna saw", ("it was rome", "it was a tree"), 0),
    ChoiceExample(1, "ben saw", ("a car", "it was london today", "house", "tree"), 1, "where was it?"),
    ChoiceExample(2, "emma saw", ("a car", "in tokyo", "house"), 2),
]


def test_the_question_stands_behind_the_context():
    encoder = ToyEncoder()
    groups = MultipleChoice().features(MIXED, toy_task("multiple-choice", {}), encoder)
    (feature,) = groups[1]
    wanted = [encoder.tokenizer("ben saw where was it?", choice)["input_ids"] for choice in MIXED[1].choices]
    assert [ids.tolist() for ids in feature.inputs] == wanted
    assert feature.length == 4 * max(map(len, wanted))


def test_separate_encodes_the_context_once():
    encoder = ToyEncoder("separate")
    groups = MultipleChoice().features(MIXED, toy_task("multiple-choice", {}), encoder)
    assert [len(feature.inputs) for (feature,) in groups] == [3, 5, 4]


@pytest.mark.parametrize("pair_encoding", ["joint", "separate"])
def test_examples_with_other_numbers_of_choices_do_not_disturb_each_other(pair_encoding):
    encoder, kind = ToyEncoder(pair_encoding).eval(), MultipleChoice()
    task = toy_task("multiple-choice", {"test": MIXED})
    torch.manual_seed(0)
    head = kind.head(encoder, task)
    features = [feature for group in kind.features(MIXED, task, encoder) for feature in group]
    alone = sum(kind.loss(encoder, head, [feature]) for feature in features)
    torch.testing.assert_close(kind.loss(encoder, head, features), alone, rtol=1e-4, atol=1e-4)
    (together,) = kind.evaluate(Model(encoder, head), task, "test", "en", batch_tokens=10_000)
    for position, example in enumerate(MIXED):
        single = toy_task("multiple-choice", {"test": [example]})
        (outcomes,) = kind.evaluate(Model(encoder, head), single, "test", "en", batch_tokens=10_000)
        assert outcomes.predictions[0] == together.predictions[position]
        assert int(outcomes.predictions[0]) < len(example.choices)


def test_permuting_the_choices_permutes_the_prediction():
    task = make("choice", train=1, test=30)
    encoder, kind = ToyEncoder(), MultipleChoice()
    examples = task.source.load(task, "test", "en")
    turned = [
        ChoiceExample(e.id, e.context, e.choices[1:] + e.choices[:1], (e.label - 1) % 3, e.question)
        for e in examples
    ]
    torch.manual_seed(0)
    model = Model(encoder, kind.head(encoder, task))
    (before,) = kind.evaluate(model, task, "test", "en", batch_tokens=512)
    (after,) = kind.evaluate(
        model, toy_task("multiple-choice", {"test": turned}), "test", "en", batch_tokens=512
    )
    assert [(int(p) - 1) % 3 for p in before.predictions] == [int(p) for p in after.predictions]
    assert before.score("accuracy") == after.score("accuracy")


def test_chance_is_the_mean_of_one_in_k():
    task = toy_task("multiple-choice", {"test": MIXED})
    baselines = MultipleChoice().baselines(task, "test", "en")
    assert baselines["chance"] == pytest.approx((1 / 2 + 1 / 4 + 1 / 3) / 3)


def test_choosing_by_length_is_listed_where_it_beats_chance():
    task = toy_task("multiple-choice", {"test": [MIXED[1]]})
    assert MultipleChoice().baselines(task, "test", "en") == {"chance": 0.25, "longest choice": 1.0}
    # label 2, the shortest, with one other as short
    tied = ChoiceExample(0, "x", ("long one", "abc", "abd"), 2)
    task = toy_task("multiple-choice", {"test": [tied]})
    assert MultipleChoice().baselines(task, "test", "en") == {
        "chance": pytest.approx(1 / 3),
        "shortest choice": 0.5,
    }
