"""Multiple choice: every (context, choice) pair gets a score, the choices of one example compete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..adapters.base import Encoder
from ..models.heads import SentenceHead
from .base import ChoiceExample, Model, Outcomes, Task
from .batching import EvaluationSets, inference
from .pairs import PairFeature, pair_features, pair_scores

__all__ = ["MultipleChoice"]


class MultipleChoice:
    """``ChoiceExample`` -> index of a choice; metric ``accuracy``. Numbers of choices may differ."""

    name = "multiple-choice"
    metrics: tuple[str, ...] = ("accuracy",)
    options: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._sets = EvaluationSets()

    def head(self, encoder: Encoder, task: Task) -> nn.Module:
        return SentenceHead(encoder.info, 1)

    def features(
        self, examples: Sequence[ChoiceExample], task: Task, encoder: Encoder
    ) -> list[list[PairFeature]]:
        """One feature per example; the question, if any, stands behind the context."""
        made = pair_features(
            [f"{example.context} {example.question}".strip() for example in examples],
            [example.choices for example in examples],
            [example.label for example in examples],
            task,
            encoder,
        )
        return [[feature] for feature in made]

    def weight(self, example: ChoiceExample) -> float:
        return 1.0

    def loss(self, encoder: Encoder, head: nn.Module, features: Sequence[PairFeature]) -> Tensor:
        """Cross-entropy over the choices of each example, summed over ``features``; a float32 scalar."""
        scores = _table(pair_scores(encoder, head, features), features)
        labels = torch.tensor([feature.label for feature in features], device=scores.device)
        return F.cross_entropy(scores, labels, reduction="sum")

    def evaluate(
        self, model: Model, task: Task, split: str, language: str, *, batch_tokens: int
    ) -> list[Outcomes]:
        test = self._sets.get(task, split, language, model.encoder, self.features)
        with inference(model) as (encoder, head):
            scores = pair_scores(encoder, head, test.features, batch_tokens)
            predicted = _table(scores, test.features).argmax(dim=-1).cpu().numpy()
        gold = np.array([example.label for example in test.examples])
        ids = np.array([example.id for example in test.examples], dtype=np.int32)
        correct = (predicted == gold).astype(np.float64)
        metrics = {"accuracy": (correct, np.ones_like(correct))}
        return [Outcomes(language, "", ids, ids, metrics, tuple(map(str, predicted)))]

    def baselines(self, task: Task, split: str, language: str) -> dict[str, float]:
        """``chance`` (1/k), and ``longest choice`` or ``shortest choice`` where it beats chance."""
        examples = task.source.load(task, split, language)
        chance = float(np.mean([1 / len(example.choices) for example in examples]))
        rules = {
            "longest choice": _length_accuracy(examples, max),
            "shortest choice": _length_accuracy(examples, min),
        }
        return {"chance": chance} | {name: score for name, score in rules.items() if score > chance}


def _table(scores: Tensor, features: Sequence[PairFeature]) -> Tensor:
    """Flat scores (pairs, 1) as (examples, most choices); -inf where an example has fewer choices."""
    counts = torch.tensor([feature.scores for feature in features], device=scores.device)
    present = torch.arange(int(counts.max()), device=scores.device) < counts[:, None]
    table = scores.new_full(present.shape, float("-inf"))
    table[present] = scores.squeeze(-1)
    return table


def _length_accuracy(examples: Sequence[ChoiceExample], pick: Callable[[Sequence[int]], int]) -> float:
    """Expected accuracy of choosing by length; a tie is a draw among the tied."""
    correct = []
    for example in examples:
        lengths = [len(choice) for choice in example.choices]
        tied = [i for i, length in enumerate(lengths) if length == pick(lengths)]
        correct.append((example.label in tied) / len(tied))
    return float(np.mean(correct))
