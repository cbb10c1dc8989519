"""Sentence retrieval: find the translation of each sentence among all translations (Tatoeba in XTREME)."""

from __future__ import annotations

import numpy as np

from ..adapters.base import Encoder
from ..errors import DataError, SuiteError, nearest
from .base import Model, Outcomes, PairExample, Task
from .pooling import SentenceVectors, distinct, view_names
from .similarity import Neighbours, Similarity, between, margins, neighbours, trigrams

__all__ = ["Retrieval"]

_SIMILARITIES = ("cosine", "margin")
_DIRECTIONS = ("to-source", "from-source")


class Retrieval:
    """Nearest neighbour by cosine; accuracy is the share of sentences whose translation comes first.

    Each sentence of the test language looks for its translation in the source language, as in XTREME (Hu et
    al. 2020, §3.1); nothing is trained. Equal translations are one candidate, so that a repeated sentence is
    not an error.

    Options: ``views`` (see ``pooling.view_names``), ``similarity`` = "cosine" or "margin" (ratio margin over
    ``neighbours`` = 4 sentences), ``direction`` = "to-source" or "from-source".
    """

    name = "retrieval"
    metrics = ("accuracy",)
    options = ("views", "similarity", "neighbours", "direction")

    def __init__(self) -> None:
        self._vectors = SentenceVectors()

    def views(self, task: Task, encoder: Encoder) -> tuple[str, ...]:
        """The views that ``evaluate`` returns, the primary one first."""
        return view_names(task, encoder)

    def evaluate(
        self, model: Model, task: Task, split: str, language: str, *, batch_tokens: int
    ) -> list[Outcomes]:
        """One ``Outcomes`` per view, one row per pair; predictions are ids of the retrieved pair."""
        examples = _pairs(task, split, language)
        texts, text_of = distinct([str(e.text) for e in examples])
        translations, translation_of = distinct([str(e.translation) for e in examples])
        theirs = self._vectors(model, task, texts, batch_tokens=batch_tokens)
        ours = self._vectors(model, task, translations, batch_tokens=batch_tokens, shared=True)
        results = []
        for view in view_names(task, model.encoder):
            if _direction(task) == "to-source":
                found = _nearest(task, between(theirs[view], ours[view]))[text_of]
                gold, carrier = translation_of, translation_of
            else:
                found = _nearest(task, between(ours[view], theirs[view]))[translation_of]
                gold, carrier = text_of, text_of
            results.append(_outcomes(examples, language, view, found, gold, carrier))
        return results

    def baselines(self, task: Task, split: str, language: str) -> dict[str, float]:
        """Accuracy of character trigrams (shared names, numbers and loan words), by the task's own
        procedure."""
        examples = _pairs(task, split, language)
        texts, text_of = distinct([str(e.text) for e in examples])
        translations, translation_of = distinct([str(e.translation) for e in examples])
        if _direction(task) == "from-source":
            texts, text_of, translations, translation_of = translations, translation_of, texts, text_of
        found = _nearest(task, trigrams(texts, translations))[text_of]
        return {"character trigrams": float((found == translation_of).mean())}


def _pairs(task: Task, split: str, language: str) -> list[PairExample]:
    examples = task.source.load(task, split, language)
    for example in examples:
        if example.text is None or example.translation is None:
            raise DataError(
                f"task `{task.name}`, {split}, `{language}`: example {example.id} has one side only",
                "retrieval needs pairs; a task with distractors is of kind `mining`",
            )
    return examples


def _option(task: Task, name: str, known: tuple[str, ...]) -> str:
    value = task.options.get(name, known[0])
    if value not in known:
        raise SuiteError(
            f"task `{task.name}`: options.{name} cannot be `{value}`", nearest(str(value), known)
        )
    return value


def _direction(task: Task) -> str:
    return _option(task, "direction", _DIRECTIONS)


def _nearest(task: Task, similarity: Similarity) -> np.ndarray:
    """(N,) position of the best candidate of each query; of equal ones the first."""
    if _option(task, "similarity", _SIMILARITIES) == "cosine":
        return neighbours(similarity.rows, similarity.queries, similarity.candidates, 1).position[:, 0]
    found: Neighbours = margins(similarity, int(task.options.get("neighbours", 4)))[0]
    return np.take_along_axis(found.position, found.value.argmax(1)[:, None], 1)[:, 0]


def _outcomes(
    examples: list[PairExample],
    language: str,
    view: str,
    found: np.ndarray,
    gold: np.ndarray,
    carrier: np.ndarray,
) -> Outcomes:
    ids = np.array([e.id for e in examples], dtype=np.int32)
    first: dict[int, int] = {}
    for example, candidate in zip(examples, carrier.tolist(), strict=True):
        first.setdefault(candidate, example.id)
    correct = (found == gold).astype(np.float64)
    return Outcomes(
        language,
        view,
        ids,
        ids,
        {"accuracy": (correct, np.ones(len(ids)))},
        tuple(str(first[candidate]) for candidate in found.tolist()),
    )
