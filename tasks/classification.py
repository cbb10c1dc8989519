"""Classification of single sentences and of sentence pairs (NLI, paraphrase, topic)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ..adapters.base import Encoder
from ..models.heads import SentenceHead
from .base import Model, Outcomes, Task, TextExample
from .batching import EvaluationSets, inference
from .lengths import length_rule
from .pairs import PairFeature, pair_features, pair_scores

__all__ = ["Classification"]


class Classification:
    """``TextExample`` -> one of ``task.labels``; metric ``accuracy`` = sum(correct) / sum(1)."""

    name = "classification"
    metrics: tuple[str, ...] = ("accuracy",)
    options: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._sets = EvaluationSets()

    def head(self, encoder: Encoder, task: Task) -> nn.Module:
        return SentenceHead(encoder.info, len(task.labels))

    def features(
        self, examples: Sequence[TextExample], task: Task, encoder: Encoder
    ) -> list[list[PairFeature]]:
        """One feature per example, cut to the token limit (longest text first)."""
        made = pair_features(
            [example.text for example in examples],
            [() if example.pair is None else (example.pair,) for example in examples],
            [example.label for example in examples],
            task,
            encoder,
        )
        return [[feature] for feature in made]

    def weight(self, example: TextExample) -> float:
        return 1.0

    def loss(self, encoder: Encoder, head: nn.Module, features: Sequence[PairFeature]) -> Tensor:
        """Cross-entropy, summed over ``features``; a float32 scalar."""
        scores = pair_scores(encoder, head, features)
        labels = scores.new_tensor([feature.label for feature in features]).long()
        return F.cross_entropy(scores, labels, reduction="sum")

    def evaluate(
        self, model: Model, task: Task, split: str, language: str, *, batch_tokens: int
    ) -> list[Outcomes]:
        test = self._sets.get(task, split, language, model.encoder, self.features)
        with inference(model) as (encoder, head):
            predicted = pair_scores(encoder, head, test.features, batch_tokens).argmax(dim=-1).cpu().numpy()
        gold = np.array([example.label for example in test.examples])
        ids = np.array([example.id for example in test.examples], dtype=np.int32)
        correct = (predicted == gold).astype(np.float64)
        names = tuple(task.labels[label] for label in predicted)
        return [Outcomes(language, "", ids, ids, {"accuracy": (correct, np.ones_like(correct))}, names)]

    def baselines(self, task: Task, split: str, language: str) -> dict[str, float]:
        """``largest class`` of the train labels, and a ``length rule`` fitted on train (``length_rule``)."""
        source = (task.train_languages or (task.source_language,))[0]
        train = task.source.load(task, "train", source)
        test = task.source.load(task, split, language)
        gold = np.array([example.label for example in test])
        counts = np.bincount([example.label for example in train], minlength=len(task.labels))
        return {
            "largest class": float(np.mean(gold == counts.argmax())),
            "length rule": float(np.mean(gold == length_rule(train, test))),
        }
