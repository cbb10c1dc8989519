"""Image-text retrieval: recall in both directions, ties, several captions, and arms that have no eyes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy_encoder import WORDS, ToyEncoder
from toy_tasks import toy_task

from xtremex.errors import SuiteError, UnknownName
from xtremex.tasks.base import ImageExample, Model
from xtremex.tasks.imagetext import ImageText


class StubTower(nn.Module):
    """Random but fixed features of pictures and a random linear map of sentence vectors."""

    def __init__(self, seed: int = 0, *, blind: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.map = torch.randn(48, 8, generator=generator)
        self.blind = blind
        self.asked: list[str] = []

    def image_features(self, keys):
        self.asked = list(keys)
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(int(key, 16))) for key in keys]
        return nn.functional.normalize(torch.stack(rows) * (0 if self.blind else 1) + self.blind, dim=-1)

    def text_features(self, pooled):
        return nn.functional.normalize(pooled @ self.map, dim=-1)


def captions(count: int, per_picture: int = 1) -> list[ImageExample]:
    return [
        ImageExample(i, f"{0x1F600 + i // per_picture:X}", f"the {WORDS[i % len(WORDS)]} {i}")
        for i in range(count)
    ]


def score(examples, tower=None, encoder=None, metrics=ImageText.metrics):
    task = toy_task("image-text", {"test": examples}, metrics=metrics)
    model = Model(encoder or ToyEncoder(), tower=tower or StubTower())
    return ImageText().evaluate(model, task, "test", "de", batch_tokens=256)[0]


def cosines(examples, tower, encoder):
    texts = []
    for example in examples:
        encoding = encoder.tokenizer(example.caption, return_tensors="pt")
        with torch.no_grad():
            pooled = encoder.eval()(encoding["input_ids"], encoding["attention_mask"]).pooled
        texts.append(tower.text_features(pooled)[0])
    pictures = list(dict.fromkeys(e.image for e in examples))
    return (torch.stack(texts) @ tower.image_features(pictures).T).numpy(), pictures


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(1, 14), st.integers(1, 3), st.integers(0, 50))
def test_recall_equals_a_sort_in_both_directions(pictures, per_picture, seed):
    encoder, tower = ToyEncoder(), StubTower(seed)
    examples = captions(pictures * per_picture, per_picture)
    similarity, keys = cosines(examples, tower, encoder)
    outcome = score(examples, tower, encoder)
    for k in (1, 5, 10):
        right = [keys.index(e.image) in np.argsort(-similarity[row])[:k] for row, e in enumerate(examples)]
        assert outcome.metrics[f"recall@{k}"][0].tolist() == [float(r) for r in right]
        found = [
            any(examples[c].image == key for c in np.argsort(-similarity[:, p])[:k])
            for p, key in enumerate(keys)
        ]
        assert outcome.score(f"i2t-recall@{k}") == pytest.approx(np.mean(found))
        assert outcome.metrics[f"i2t-recall@{k}"][1].sum() == pytest.approx(len(keys))
    assert outcome.predictions == tuple(keys[p] for p in similarity.argmax(1))
    assert outcome.view == "" and outcome.example.tolist() == [e.id for e in examples]


def test_a_tower_that_sees_nothing_scores_nothing():
    """All pictures are equally near: a rank that counts only nearer ones would call this perfect."""
    outcome = score(captions(12), StubTower(blind=True))
    assert outcome.score("recall@1") == outcome.score("recall@5") == outcome.score("recall@10") == 0.0


def test_equal_captions_are_one_candidate_and_pictures_are_looked_at_once():
    tower = StubTower()
    examples = [ImageExample(i, key, "the dog") for i, key in enumerate(["1F600", "1F601", "1F600"])]
    outcome = score(examples, tower)
    assert tower.asked == ["1F600", "1F601"]
    assert sorted(outcome.metrics["recall@1"][0].tolist()) in ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    assert outcome.score("recall@5") == outcome.score("i2t-recall@1") == 1.0


def test_only_the_metrics_of_the_task_are_computed():
    assert list(score(captions(3), metrics=("recall@5",)).metrics) == ["recall@5"]
    with pytest.raises(UnknownName, match="did you mean `recall@5`"):
        score(captions(3), metrics=("recall@2",))


def test_an_arm_without_a_tower_is_told_so():
    task = toy_task("image-text", {"test": captions(3)})
    with pytest.raises(SuiteError, match="needs an arm with an image tower"):
        ImageText().evaluate(Model(ToyEncoder()), task, "test", "de", batch_tokens=64)


def test_chance_is_k_of_the_candidates():
    task = toy_task("image-text", {"test": captions(20, 2)}, metrics=("recall@5",))
    assert ImageText().baselines(task, "test", "de") == {"chance": 0.5}
    other = toy_task("image-text", {"test": captions(20, 2)}, metrics=("i2t-recall@1",))
    assert ImageText().baselines(other, "test", "de") == {"chance": 0.05}
    assert ImageText().views(task, ToyEncoder()) == ("",)


def test_modes_are_restored():
    encoder, tower = ToyEncoder().train(), StubTower().train()
    score(captions(4), tower, encoder)
    assert encoder.training and tower.training
