"""Bitext mining: find the translation pairs in two lists of sentences that also hold unpaired ones (BUCC in
XTREME)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..adapters.base import Encoder
from ..errors import DataError
from .base import Model, Outcomes, PairExample, Task
from .pooling import SentenceVectors, distinct, view_names
from .similarity import Similarity, between, margins, trigrams

__all__ = ["Mining", "best_threshold", "mine"]


class Mining:
    """Ratio margin, greedy one-to-one matching, and a threshold that the test labels never see.

    Candidates are the best of each sentence's ``neighbours`` (4) cosine neighbours, from both sides; they are
    accepted in order of their margin, each sentence once (Artetxe and Schwenk 2019, "max" retrieval). The
    threshold is the one with the best F1 on the ``dev`` split *of the same language*, whichever split is
    scored. Equal sentences of one side are one candidate, as BUCC prescribes.

    Metrics: one row per sentence of the test language, distractors included; ``f1`` has numerator 2·tp and
    denominator predicted + gold, so that its ratio of sums is the F1 over all pairs. ``precision`` and
    ``recall`` likewise. Options: ``views`` (see ``pooling.view_names``; a threshold for each),
    ``neighbours``.
    """

    name = "mining"
    metrics = ("f1", "precision", "recall")
    options = ("views", "neighbours")

    def __init__(self) -> None:
        self._vectors = SentenceVectors()

    def views(self, task: Task, encoder: Encoder) -> tuple[str, ...]:
        """The views that ``evaluate`` returns, the primary one first."""
        return view_names(task, encoder)

    def evaluate(
        self, model: Model, task: Task, split: str, language: str, *, batch_tokens: int
    ) -> list[Outcomes]:
        """One ``Outcomes`` per view; a prediction is the id of the mined translation, or empty."""
        corpora = [_Corpus.of(task, part, language) for part in ("dev", split)]
        vectors = [
            (
                self._vectors(model, task, corpus.texts, batch_tokens=batch_tokens),
                self._vectors(model, task, corpus.translations, batch_tokens=batch_tokens, shared=True),
            )
            for corpus in corpora
        ]
        results = []
        for view in view_names(task, model.encoder):
            dev, test = (between(texts[view], translations[view]) for texts, translations in vectors)
            results.append(_score(task, language, view, corpora[0], dev, corpora[1], test))
        return results

    def baselines(self, task: Task, split: str, language: str) -> dict[str, float]:
        """The primary metric of character trigrams under the same procedure, threshold from dev included."""
        dev, test = (_Corpus.of(task, part, language) for part in ("dev", split))
        outcomes = _score(
            task,
            language,
            "",
            dev,
            trigrams(dev.texts, dev.translations),
            test,
            trigrams(test.texts, test.translations),
        )
        return {"character trigrams": outcomes.score(task.metrics[0] if task.metrics else "f1")}


class _Corpus(NamedTuple):
    """Both sides of one split and language."""

    ids: np.ndarray
    """(N,) int32 ids of the items that have a sentence in the test language: the rows of the outcomes."""
    texts: list[str]
    text_of: np.ndarray
    """(N,) position in ``texts``."""
    translations: list[str]
    gold: np.ndarray
    """(N,) position in ``translations`` of the row's translation, -1 for a distractor."""
    owner: list[int]
    """Translation -> id of the first item that has it."""

    @classmethod
    def of(cls, task: Task, split: str, language: str) -> _Corpus:
        examples: list[PairExample] = task.source.load(task, split, language)
        rows = [e for e in examples if e.text is not None]
        texts, text_of = distinct([e.text for e in rows if e.text is not None])
        translations, _ = distinct([e.translation for e in examples if e.translation is not None])
        position = {text: p for p, text in enumerate(translations)}
        gold = np.array(
            [-1 if e.translation is None else position[e.translation] for e in rows], dtype=np.int64
        )
        if not (gold >= 0).any():
            raise DataError(
                f"task `{task.name}`, {split}, `{language}`: no item has both a text and a translation",
                "mining needs pairs to be found, in dev (for the threshold) and in the split that is scored",
            )
        owner: dict[str, int] = {}
        for example in examples:
            if example.translation is not None:
                owner.setdefault(example.translation, example.id)
        ids = np.array([e.id for e in rows], dtype=np.int32)
        return cls(ids, texts, text_of, translations, gold, [owner[text] for text in translations])


def mine(similarity: Similarity, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Greedy one-to-one matching by ratio margin: for each query (N,) its candidate (-1: none) and the margin
    (-inf)."""
    forward, backward = margins(similarity, k)
    queries, candidates = np.arange(similarity.queries), np.arange(similarity.candidates)
    best_forward, best_backward = forward.value.argmax(1), backward.value.argmax(1)
    left = np.concatenate([queries, backward.position[candidates, best_backward]])
    right = np.concatenate([forward.position[queries, best_forward], candidates])
    margin = np.concatenate([forward.value[queries, best_forward], backward.value[candidates, best_backward]])
    matched = np.full(similarity.queries, -1, dtype=np.int64)
    score = np.full(similarity.queries, -np.inf)
    taken = np.zeros(similarity.candidates, dtype=bool)
    for pair in np.lexsort((right, left, -margin)).tolist():
        query, candidate = left[pair], right[pair]
        if matched[query] < 0 and not taken[candidate]:
            matched[query], score[query], taken[candidate] = candidate, margin[pair], True
    return matched, score


def best_threshold(matched: np.ndarray, score: np.ndarray, gold: np.ndarray) -> float:
    """The threshold whose accepted rows (``score >= threshold``) have the best F1 against ``gold`` (-1: no
    pair).

    Halfway between two neighbouring scores; of equally good ones the highest. Infinite when no match is
    right.
    """
    rows = np.flatnonzero(matched >= 0)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    ordered = score[rows]
    right = np.cumsum(matched[rows] == gold[rows])
    f1 = 2 * right / (np.arange(1, len(rows) + 1) + (gold >= 0).sum())
    # rows of one score are accepted together
    last = np.append(ordered[1:] < ordered[:-1], True)[: len(rows)]
    f1 = np.where(last, f1, -1.0)
    if not len(rows) or right[-1] == 0:
        return float("inf")
    best = int(f1.argmax())
    # with nothing rejected on dev the other end is 1, the margin of a pair no nearer than any neighbours
    following = ordered[best + 1] if best + 1 < len(rows) else min(1.0, ordered[best])
    return float((ordered[best] + following) / 2)


def _score(
    task: Task,
    language: str,
    view: str,
    dev: _Corpus,
    dev_similarity: Similarity,
    test: _Corpus,
    test_similarity: Similarity,
) -> Outcomes:
    k = int(task.options.get("neighbours", 4))
    matched, score = mine(dev_similarity, k)
    threshold = best_threshold(matched[dev.text_of], score[dev.text_of], dev.gold)
    matched, score = mine(test_similarity, k)
    found = np.where(score >= threshold, matched, -1)[test.text_of]
    predicted = (found >= 0).astype(np.float64)
    gold = (test.gold >= 0).astype(np.float64)
    right = ((found == test.gold) & (found >= 0)).astype(np.float64)
    every = {"f1": (2 * right, predicted + gold), "precision": (right, predicted), "recall": (right, gold)}
    return Outcomes(
        language,
        view,
        test.ids,
        test.ids,
        {name: every[name] for name in task.metrics or Mining.metrics},
        tuple("" if candidate < 0 else str(test.owner[candidate]) for candidate in found.tolist()),
    )
