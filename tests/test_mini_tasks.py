"""The twelve tasks of the mini suite: determinism, balance, disjointness, parallel items, gold that fits its text."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache

import numpy as np
import pytest

from xtremex.errors import UnknownName
from xtremex.models import openmoji
from xtremex.tasks import mini_intermediate, mini_targets
from xtremex.tasks.lengths import length_rule
from xtremex.tasks.mini import LANGUAGES, PICTURE_LANGUAGES, TASKS
from xtremex.tasks.validation import validate

TRAINED = [name for name, task in TASKS.items() if task.train_languages]
INTERMEDIATE = [name for name, task in TASKS.items() if task.roles == ("intermediate",)]
TARGETS = [name for name in TRAINED if name not in INTERMEDIATE]
BALANCED = ["mini-quantity", "mini-paraphrase", "mini-endings", "mini-inference", "mini-topic"]


@cache
def load(name, split, language="en"):
    return tuple(TASKS[name].source.load(TASKS[name], split, language))


def splits(name):
    if name in TRAINED:
        return ("train", "dev", "test")
    return ("dev", "test") if name == "mini-mining" else ("test",)


def said(example):
    """What a model reads of an example."""
    fields = ("text", "pair", "context", "question", "words", "caption", "choices")
    return tuple(getattr(example, field) for field in fields if hasattr(example, field))


def test_the_suite_is_complete():
    kinds = Counter(TASKS[name].kind for name in INTERMEDIATE)
    assert kinds == {"classification": 2, "multiple-choice": 1, "spans": 1, "tagging": 1}
    assert len(INTERMEDIATE) == 5 and len(TASKS) == 12
    assert Counter(task.kind for task in TASKS.values() if "target" in task.roles) == {
        "classification": 2, "spans": 1, "tagging": 1, "retrieval": 1, "mining": 1, "image-text": 1,
    }  # fmt: skip
    for name, task in TASKS.items():
        assert task.name == name and task.licence and task.description and task.version
        assert task.source.fingerprint()


@pytest.mark.parametrize("name", TASKS)
def test_every_split_and_language_is_valid(name):
    task = TASKS[name]
    for split in splits(name):
        languages = ("en",) if split == "train" or (split == "dev" and name in TRAINED) else task.languages
        for language in languages:
            examples = list(load(name, split, language))
            validate(examples, task, split, language)
            assert [example.id for example in examples] == sorted(example.id for example in examples)


@pytest.mark.parametrize("name", TASKS)
def test_sizes(name):
    if name in TRAINED:
        assert len(load(name, "train")) >= 240
        assert 60 <= len(load(name, "dev")) <= 100
    expected = {"mini-retrieval": 120, "mini-mining": 90, "mini-pictures": 100}
    language = TASKS[name].languages[0]
    assert len(load(name, "test", language)) == expected.get(name, 60)


@pytest.mark.parametrize("name", TASKS)
def test_languages(name):
    expected = {
        "mini-retrieval": LANGUAGES[1:],
        "mini-mining": LANGUAGES[1:],
        "mini-pictures": PICTURE_LANGUAGES,
    }
    assert TASKS[name].languages == (("en",) if name in INTERMEDIATE else expected.get(name, LANGUAGES))


@pytest.mark.parametrize("name", TASKS)
def test_generation_repeats_itself(name):
    module = mini_intermediate if name in INTERMEDIATE else mini_targets
    generate = getattr(module, name.removeprefix("mini-"))
    language = TASKS[name].languages[-1]
    assert (
        generate("test", language, 0) == generate("test", language, 0) == list(load(name, "test", language))
    )
    if name not in ("mini-retrieval", "mini-mining"):
        assert generate("test", language, 1) != generate("test", language, 0)


def test_generation_is_the_same_in_every_process():
    """Neither Python's string hashing nor the order of generation reaches the data."""
    code = (
        "import hashlib, sys\n"
        "from xtremex.tasks.mini import TASKS\n"
        "digest = {}\n"
        "for name in (TASKS if sys.argv[1] == 'forward' else reversed(TASKS)):\n"
        "    task = TASKS[name]\n"
        "    text = repr([task.source.load(task, 'test', x) for x in (task.languages[0], task.languages[-1])])\n"
        "    text += repr(task.source.load(task, 'train', 'en') if task.train_languages else '')\n"
        "    digest[name] = hashlib.sha256(text.encode()).hexdigest() + task.source.fingerprint()\n"
        "assert 'torch' not in sys.modules\n"
        "print(sorted(digest.items()))\n"
    )
    outputs = set()
    for seed, order in (("0", "forward"), ("1", "backward")):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        ran = subprocess.run(
            [sys.executable, "-c", code, order], env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        outputs.add(ran.stdout)
    assert len(outputs) == 1


@pytest.mark.parametrize("name", BALANCED)
def test_labels_are_balanced(name):
    for split in ("train", "dev", "test"):
        counts = Counter(example.label for example in load(name, split))
        assert max(counts.values()) - min(counts.values()) <= 1
        assert len(counts) == (4 if name == "mini-endings" else len(TASKS[name].labels))
        labels = [example.label for example in load(name, split)]
        assert labels != sorted(labels)


@pytest.mark.parametrize("name", TRAINED)
def test_sentences_of_splits_are_disjoint(name):
    read = [{said(example)[0] for example in load(name, split)} for split in ("train", "dev", "test")]
    assert not (read[0] & read[1] or read[0] & read[2] or read[1] & read[2])


@pytest.mark.parametrize(
    "name", ["mini-inference", "mini-entities", "mini-spans", "mini-quantity", "mini-reading"]
)
def test_names_of_splits_are_disjoint(name):
    """No territory or language of one split is ever read in another."""
    from xtremex.tasks.mini_names import Name, codes, render

    text = {
        split: " | ".join(" ".join(map(str, said(e))) for e in load(name, split))
        for split in ("train", "dev", "test")
    }
    if name == "mini-entities":
        text = {split: " | ".join(" ".join(e.words) for e in load(name, split)) for split in text}
    for split in text:
        own = [
            render(Name(kind, code), "en")
            for kind in ("territory", "language")
            for code in codes(kind, split)
        ]
        assert sum(f" {item} " in text[split].translate(MARKS) for item in own) > 10
        for other in text:
            if other != split:
                found = [
                    item for item in own if f" {item} " in text[other].translate(MARKS) and " " not in item
                ]
                # a word of one name may be a word of another ("Island"): names are compared whole
                assert not [item for item in found if not _inside(item, codes, render, Name, other)]


MARKS = str.maketrans({mark: " " for mark in ".,|?"})


def _inside(item, codes, render, name, split):
    kinds = ("territory", "language")
    return any(
        item in render(name(kind, code), "en").split() for kind in kinds for code in codes(kind, split)
    )


@pytest.mark.parametrize("name", ["mini-inference", "mini-topic"])
def test_test_labels_are_parallel(name):
    english = [(example.id, example.label) for example in load(name, "test")]
    for language in TASKS[name].languages:
        assert [(example.id, example.label) for example in load(name, "test", language)] == english


@pytest.mark.parametrize("language", LANGUAGES)
def test_inference_means_the_same_in_every_language(language):
    """The label follows from the text alone: count which of the two items occur among the three."""
    from xtremex.tasks.mini_names import Name, codes, render

    names = sorted(
        (
            render(Name(kind, code), language)
            for kind in ("territory", "language")
            for code in codes(kind, "test")
        ),
        key=len,
        reverse=True,
    )

    def items(text):
        found = []
        for name in names:
            while name in text:
                text = text.replace(name, "\x00", 1)
                found.append(name)
        return found

    for example in load("mini-inference", "test", language):
        three, two = items(example.text), items(example.pair)
        assert len(three) == 3 and len(two) == 2
        assert 2 - len(set(two) & set(three)) == example.label


@pytest.mark.parametrize("name", ["mini-inference", "mini-topic", "mini-quantity", "mini-paraphrase"])
def test_lengths_say_nothing(name):
    task = TASKS[name]
    train = load(name, "train")
    right = [
        np.mean(
            length_rule(train, load(name, "test", language))
            == [e.label for e in load(name, "test", language)]
        )
        for language in task.languages
    ]
    # one language has 60 examples: a standard error of 6 points
    assert np.mean(right) < 1 / len(task.labels) + 0.08
    assert max(right) < 1 / len(task.labels) + 0.22


def test_endings_cannot_be_told_by_length():
    for split in ("train", "dev", "test"):
        examples = load("mini-endings", split)
        longest = np.mean([e.label == int(np.argmax([len(c) for c in e.choices])) for e in examples])
        shortest = np.mean([e.label == int(np.argmin([len(c) for c in e.choices])) for e in examples])
        assert max(longest, shortest) < 0.36
        assert all(len(set(e.choices)) == 4 for e in examples)


def entity_spans(example):
    found, last = [], "O"
    for tag in example.tags:
        if tag != "O" and tag != last:
            found.append(tag)
        last = tag
    return sorted(found)


@pytest.mark.parametrize("language", LANGUAGES)
def test_entities_are_parallel_and_separate(language):
    english = [entity_spans(example) for example in load("mini-entities", "test")]
    assert [entity_spans(example) for example in load("mini-entities", "test", language)] == english
    tags = Counter(tag for spans in english for tag in spans)
    assert set(tags) == {"DATE", "LANGUAGE", "TERRITORY", "UNIT"} and min(tags.values()) > 25


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5. März 2026", ["5", ".", "März", "2026"]),
        ("2026年3月5日", ["2026", "年", "3", "月", "5", "日"]),
        ("Côte d'Ivoire, N'Ko", ["Côte", "d'Ivoire", ",", "N'Ko"]),
        ("21시간 및 Timor-Leste", ["21", "시간", "및", "Timor-Leste"]),
        ("امارات متحدهٔ عربی", ["امارات", "متحدهٔ", "عربی"]),
    ],
)
def test_words(text, words):
    assert mini_targets.split_words(text) == words


def test_no_letter_is_lost_in_words():
    for language in LANGUAGES:
        for example in load("mini-entities", "test", language):
            assert all(word.strip() == word and word for word in example.words)


@pytest.mark.parametrize("name", ["mini-spans", "mini-reading"])
def test_answers_stand_in_their_context(name):
    for language in TASKS[name].languages:
        for example in load(name, "test", language):
            ((start, answer),) = example.answers
            assert example.context[start : start + len(answer)] == answer
            assert 0 < len(answer) < len(example.context)


def test_asked_items_are_parallel():
    """The answer is the same member of the list in every language: dates and units have digits, names have none."""
    english = load("mini-spans", "test")
    for language in LANGUAGES:
        for one, other in zip(english, load("mini-spans", "test", language), strict=True):
            digits = [any(c.isdigit() for c in example.answers[0][1]) for example in (one, other)]
            assert digits[0] == digits[1]
    assert 0.2 < np.mean([any(c.isdigit() for c in example.question) for example in english]) < 0.6


def test_reading_needs_the_question():
    """In about half of the contexts a second value of the asked kind waits, and one event only is asked about."""
    rivals = []
    for example in load("mini-reading", "test"):
        key = {"Where": "takes place in", "When": "starts on", "How long": "lasts", "How far": "away"}
        phrase = next(phrase for start, phrase in key.items() if example.question.startswith(start))
        rivals.append(example.context.count(phrase))
        asked = [w for w in example.question.rstrip("?").split() if w in mini_intermediate._EVENTS]
        assert len(asked) == 1 and example.context.count(f"The {asked[0]} ") == 1
    assert set(rivals) == {1, 2} and 1.3 < np.mean(rivals) < 1.7


def test_paraphrases_keep_their_numbers():
    for example in load("mini-paraphrase", "dev"):
        numbers = [
            sorted(w for w in text.replace(".", "").split() if w.isdigit())
            for text in (example.text, example.pair)
        ]
        assert example.label == 0 or numbers[0] == numbers[1]


def test_intermediate_training_stays_out_of_target_tests():
    """What an intermediate task trains on, no target asks about in its test."""
    from xtremex.tasks.mini_names import Name, codes, render

    unseen = {render(Name("territory", code), "en") for code in codes("territory", "test")}
    for name in ("mini-quantity", "mini-paraphrase", "mini-reading"):
        text = " ".join(" ".join(map(str, said(e))) for e in load(name, "train")).translate(MARKS)
        assert not [place for place in unseen if f" {place} " in text]
    interface = {message for e in load("mini-topic", "test") for message in [e.text]}
    prose = {e.context for e in load("mini-endings", "train")}
    assert not interface & prose


def test_retrieval_and_mining_share_no_sentence():
    retrieval = {e.translation for e in load("mini-retrieval", "test", "de")}
    mining = {
        e.translation for split in ("dev", "test") for e in load("mini-mining", split, "de") if e.translation
    }
    assert len(retrieval) == 120 and not retrieval & mining


def test_mining_has_distractors_on_both_sides():
    for language in TASKS["mini-mining"].languages:
        for split, size in (("dev", 30), ("test", 90)):
            examples = load("mini-mining", split, language)
            assert len(examples) == size
            pairs = sum(e.text is not None and e.translation is not None for e in examples)
            lone = (sum(e.translation is None for e in examples), sum(e.text is None for e in examples))
            assert (pairs, *lone) == (size * 4 // 6, size // 6, size // 6)


def test_parallel_text_is_the_same_message():
    english = {e.id: e.translation for e in load("mini-retrieval", "test", "de")}
    for language in TASKS["mini-retrieval"].languages:
        assert {e.id: e.translation for e in load("mini-retrieval", "test", language)} == english


def test_pictures_are_those_that_grounding_leaves_out():
    english = load("mini-pictures", "test", "en")
    assert len({e.image for e in english}) == 100
    for language in PICTURE_LANGUAGES:
        examples = load("mini-pictures", "test", language)
        assert [(e.id, e.image) for e in examples] == [(e.id, e.image) for e in english]
        assert all(openmoji.split(e.image) == "test" for e in examples)
        assert all(e.caption == openmoji.names(language)[e.image] for e in examples)


def test_prose_enters_the_fingerprint(monkeypatch):
    from xtremex.tasks import mini_text

    source = TASKS["mini-endings"].source
    before = source.fingerprint()
    monkeypatch.setattr(mini_text, "prose_digest", lambda: "another")
    assert source.fingerprint() != before
    assert "pydoc_data=another" in source.fingerprint()


def test_wrong_requests_are_explained():
    with pytest.raises(UnknownName, match="split"):
        mini_targets.retrieval("train", "de", 0)
    with pytest.raises(UnknownName, match="split"):
        mini_targets.mining("train", "de", 0)
    with pytest.raises(UnknownName, match="language"):
        mini_intermediate.quantity("train", "de", 0)
    with pytest.raises(UnknownName, match="split `tset`"):
        mini_targets.inference("tset", "de", 0)
    with pytest.raises(UnknownName, match="language"):
        mini_targets.topic("test", "sw", 0)
