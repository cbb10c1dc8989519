"""Batches cover everything once within their budget; padding changes nothing; test sets are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_encoder import ToyEncoder, toy_tokenizer
from toy_tasks import MemorySource, make

from xtremex.tasks.base import Model
from xtremex.tasks.batching import EvaluationSets, Template, encode, inference, token_batches, tokenise

lengths = st.lists(st.integers(1, 300), max_size=80)


@given(lengths, st.integers(1, 2000))
def test_batches_are_a_partition_within_the_budget(lengths, budget):
    batches = token_batches(lengths, budget)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(lengths, st.integers(1, 2000))
def test_batches_go_from_short_to_long_and_keep_the_order_of_equals(lengths, budget):
    order = [position for batch in token_batches(lengths, budget) for position in batch]
    assert order == sorted(range(len(lengths)), key=lambda position: (lengths[position], position))


@pytest.fixture(scope="module", params=[True, False], ids=["specials", "bare"])
def tokenizer(request):
    return toy_tokenizer(request.param)


texts = st.lists(
    st.sampled_from("the house was in paris and emma saw 42".split()), min_size=1, max_size=12
).map(" ".join)


@given(texts, texts)
def test_template_builds_what_the_tokenizer_builds(tokenizer, first, second):
    template = Template.of(tokenizer)
    one, two = tokenise(tokenizer, [first, second])
    assert template.wrap(one).tolist() == tokenizer(first)["input_ids"]
    assert template.wrap_pair(one, two).tolist() == tokenizer(first, second)["input_ids"]


@given(texts, texts, st.integers(8, 30))
def test_pairs_are_cut_to_the_limit_and_not_below(tokenizer, first, second, limit):
    template = Template.of(tokenizer)
    one, two = tokenise(tokenizer, [first, second])
    fitted = template.fit_pair(one, two, limit)
    whole = template.wrap_pair(one, two)
    assert len(fitted) == min(limit, len(whole))
    # "longest first": a text is only cut while it is (about) as long as the other
    kept = tokenizer(first, second, truncation="longest_first", max_length=limit)["input_ids"]
    assert len(kept) == len(fitted)
    if min(len(one), len(two)) <= (limit - 3) // 2 - 1:
        assert fitted.tolist() == kept


@given(texts, st.integers(3, 30))
def test_single_texts_lose_their_end(tokenizer, text, limit):
    (ids,) = tokenise(tokenizer, [text])
    fitted = Template.of(tokenizer).fit(ids, limit)
    assert fitted.tolist() == tokenizer(text, truncation=True, max_length=limit)["input_ids"]


def test_equal_texts_are_tokenised_alike_and_nothing_is_nothing(tokenizer):
    a, b, c = tokenise(tokenizer, ["in paris", "", "in paris"])
    assert np.array_equal(a, c) and len(b) == 0
    assert tokenise(tokenizer, []) == []


@pytest.mark.parametrize("pad_to", [None, 20])
def test_padding_does_not_change_a_text(pad_to):
    encoder = ToyEncoder(pad_to=pad_to).eval()
    rows = [np.arange(4, 4 + n, dtype=np.int32) for n in (3, 9, 6)]
    together = encode(encoder, rows)
    assert together.mask.sum(dim=1).tolist() == [3, 9, 6]
    assert together.pooled.shape[0] == 3 and together.mask.shape[1] == (pad_to or 9)
    for row, ids in enumerate(rows):
        alone = encode(encoder, [ids])
        assert torch.allclose(alone.pooled[0], together.pooled[row], atol=1e-5)


def test_inference_restores_every_modules_mode():
    encoder, head = ToyEncoder().train(), torch.nn.Linear(2, 2).eval()
    encoder.layers.eval()
    with inference(Model(encoder, head)):
        assert not encoder.training and not torch.is_grad_enabled()
    assert encoder.training and not encoder.layers.training and not head.training


def test_a_trained_kind_without_a_head_is_refused():
    with pytest.raises(TypeError, match="head"), inference(Model(ToyEncoder())):
        pass


def test_a_test_set_is_loaded_and_tokenised_once_per_tokenizer():
    sets, task = EvaluationSets(), make("single", train=1, test=5)
    assert isinstance(task.source, MemorySource)
    calls = []

    def features(examples, task, encoder):
        calls.append(len(examples))
        return [[Row(3)] for _ in examples]

    encoder = ToyEncoder()
    first = sets.get(task, "test", "en", encoder, features)
    assert sets.get(task, "test", "en", ToyEncoder(seed=5), features) is first
    assert (task.source.loads, calls) == (1, [5])
    for other in (ToyEncoder(max_length=16), ToyEncoder("separate"), ToyEncoder(specials=False)):
        assert sets.get(task, "test", "en", other, features) is not first
    assert sets.get(task, "dev", "en", encoder, features) is not first
    assert sets.get(make("single", train=1, test=5), "test", "en", encoder, features) is not first


def test_the_cache_forgets_what_was_used_longest_ago():
    sets, task = EvaluationSets(capacity=35), make("single", train=1, test=5)

    def features(examples, task, encoder):
        return [[Row(3)] for _ in examples]

    encoder = ToyEncoder()
    first = sets.get(task, "test", "en", encoder, features)
    sets.get(task, "dev", "en", encoder, features)
    assert sets.get(task, "test", "en", encoder, features) is first
    sets.get(task, "train", "en", encoder, features)  # 15 + 15 + 3 tokens fit
    assert sets.get(task, "test", "en", encoder, features) is first
    sets.get(make("tags", train=1, test=5), "test", "en", encoder, features)
    assert sets.get(task, "test", "en", encoder, features) is first
    loads = task.source.loads
    sets.get(task, "dev", "en", encoder, features)
    assert task.source.loads == loads + 1


class Row:
    def __init__(self, length):
        self.length = length


def test_owner_names_the_example_of_each_feature():
    def features(examples, task, encoder):
        return [[Row(1)] * (index % 3) for index, _ in enumerate(examples)]

    made = EvaluationSets().get(make("single", train=1, test=6), "test", "en", ToyEncoder(), features)
    assert made.owner.tolist() == [1, 2, 2, 4, 5, 5]
