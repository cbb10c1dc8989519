"""Answer retrieval: a question looks for the sentence that answers it, among the sentences of all languages.

LAReQA (Roy et al. 2020, arXiv 2004.05484), a task of XTREME-R (Ruder et al. 2021, arXiv 2104.07412): the 1,190 questions
of XQuAD in eleven languages against one pool of the sentences of all eleven. An encoder whose vectors cluster by
language finds the sentences of the question's own language and misses the ten others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..adapters.base import Encoder
from ..models.heads import CosineHead, sentence_vectors
from .base import Model, Outcomes, SpanExample, Task
from .batching import Ids, Template, encode, token_batches, token_limit, tokenise
from .pooling import PRIMARY, SentenceVectors
from .sentences import holding, sentence_spans
from .similarity import Similarity, between, neighbours, trigrams

__all__ = ["AnswerFeature", "AnswerRetrieval"]

DEPTH = 20
"""mAP@20: the ranks that count."""
_POOLS = 4


@dataclass(frozen=True, slots=True, eq=False)
class AnswerFeature:
    """A question and the sentences of its paragraph."""

    inputs: tuple[Ids, ...]
    """The question, then every sentence, each with special tokens."""
    gold: int
    """Which sentence answers."""

    @property
    def length(self) -> int:
        return sum(map(len, self.inputs))


@dataclass(frozen=True)
class Pool:
    """The candidates of a split: distinct sentences of the paragraphs of one or more languages."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    """``language:paragraph:sentence``, where a sentence stands first."""
    relevant: dict[tuple[str, int], frozenset[int]]
    """(language, example id) -> positions in ``texts`` of the sentences that answer the example there."""

    @classmethod
    def of(cls, task: Task, split: str, languages: Sequence[str]) -> Pool:
        position: dict[str, int] = {}
        names: list[str] = []
        relevant = {}
        for language in languages:
            for example in task.source.load(task, split, language):
                spans = _spans(example)
                for number, (start, end) in enumerate(spans):
                    text = example.context[start:end]
                    if text not in position:
                        position[text] = len(names)
                        names.append(f"{language}:{example.cluster}:{number}")
                answering = (spans[holding(spans, at)] for at, _ in example.answers)
                relevant[language, example.id] = frozenset(
                    position[example.context[start:end]] for start, end in answering
                )
        return cls(tuple(position), tuple(names), relevant)


class AnswerRetrieval:
    """``SpanExample`` -> the sentences of the pool that hold its answer; metric ``map@20``: num = average precision,
    den = 1.

    The pool of the test split is the sentences of *all* languages of the task, and relevant are the answering
    sentences in each language that has the question (by example id, where the task is ``parallel``; else in the
    question's own language only). Other splits are searched by language. The average precision at 20 of a question is
    the sum of the precision at each rank up to 20 that holds a relevant sentence, over the number of relevant
    sentences (at most 20). Equal sentences are one candidate. Sentences are those that the data set marks (XQuAD-R),
    else those of ``sentences.sentence_spans``; an answer belongs to the sentence that it starts in. A candidate is
    its sentence alone (LAReQA's own baselines also read the paragraph around it).

    A dual encoder: vectors are the encoder's own (``Encoded.pooled``), or those that ``info.sentence`` names, compared by
    cosine. XTREME-R's are those of the first token: the encoder's option ``pooling = "cls"``, or that of a pair's policy.
    The head is one learned scale (``CosineHead``).

    The negatives of a question in training are the other sentences of its own paragraph. Negatives from the rest of
    the batch, as LAReQA and most dual encoders have them, would make the loss of a question depend on the questions
    beside it, and with them an optimizer step on how it is cut into micro-batches. A paragraph of one sentence
    teaches nothing. There are no options.
    """

    name = "answer-retrieval"
    metrics: tuple[str, ...] = ("map@20",)
    options: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._vectors = SentenceVectors()
        self._pools: OrderedDict[tuple[object, ...], Pool] = OrderedDict()

    def head(self, encoder: Encoder, task: Task) -> nn.Module:
        return CosineHead()

    def features(
        self, examples: Sequence[SpanExample], task: Task, encoder: Encoder
    ) -> list[list[AnswerFeature]]:
        """One feature per example; question and sentences are each cut to the token limit."""
        prefix, limit = encoder.info.text_prefix, token_limit(task, encoder)
        template = Template.of(encoder.tokenizer)
        spans = [_spans(example) for example in examples]
        texts = [
            [example.question, *(example.context[start:end] for start, end in found)]
            for example, found in zip(examples, spans, strict=True)
        ]
        rows = iter(tokenise(encoder.tokenizer, [prefix + text for group in texts for text in group]))
        return [
            [
                AnswerFeature(
                    tuple(template.fit(next(rows), limit) for _ in group),
                    holding(found, example.answers[0][0]),
                )
            ]
            for example, group, found in zip(examples, texts, spans, strict=True)
        ]

    def weight(self, example: SpanExample) -> float:
        return 1.0

    def loss(self, encoder: Encoder, head: nn.Module, features: Sequence[AnswerFeature]) -> Tensor:
        """Cross-entropy of the answering sentence among those of its paragraph, summed; a float32 scalar."""
        inputs = [ids for feature in features for ids in feature.inputs]
        vectors = iter(_vectors(encoder, inputs).split([len(feature.inputs) for feature in features]))
        losses = []
        for feature in features:
            question, *sentences = next(vectors)
            scores = head(question, torch.stack(sentences))
            losses.append(F.cross_entropy(scores, torch.tensor(feature.gold, device=scores.device)))
        return torch.stack(losses).sum()

    def evaluate(
        self, model: Model, task: Task, split: str, language: str, *, batch_tokens: int
    ) -> list[Outcomes]:
        """A prediction is the first candidate, as ``language:paragraph:sentence``."""
        examples: list[SpanExample] = task.source.load(task, split, language)
        pool = self._pool(task, split, language)
        questions = [example.question for example in examples]
        sentence = model.encoder.info.sentence
        view = PRIMARY if sentence == "native" else f"layer=last,pool={sentence}"
        asked = self._vectors(model, task, questions, batch_tokens=batch_tokens, views=(view,))[view]
        offered = self._vectors(
            model, task, pool.texts, batch_tokens=batch_tokens, shared=True, views=(view,)
        )[view]
        return [_outcomes(task, language, examples, pool, between(asked, offered))]

    def baselines(self, task: Task, split: str, language: str) -> dict[str, float]:
        """``random order``, in expectation; on the test split also ``character trigrams``.

        Trigrams find much in the question's own language, where questions repeat the words of their answers. A
        training run is held against its dev baselines to see whether it learnt anything at all; it may well have
        and still be behind trigrams there.
        """
        examples: list[SpanExample] = task.source.load(task, split, language)
        pool = self._pool(task, split, language)
        wanted = [len(_relevant(task, pool, language, example)) for example in examples]
        chance = {size: _chance(size, len(pool.texts)) for size in set(wanted)}
        found = {"random order": float(np.mean([chance[size] for size in wanted]))}
        if split == "test":
            similarity = trigrams([example.question for example in examples], pool.texts)
            found["character trigrams"] = _outcomes(task, language, examples, pool, similarity).score(
                "map@20"
            )
        return found

    def _pool(self, task: Task, split: str, language: str) -> Pool:
        languages = task.languages if split == "test" else (language,)
        address = (task.name, task.version, task.parallel, task.source.fingerprint(), split, languages)
        if address not in self._pools:
            self._pools[address] = Pool.of(task, split, languages)
            if len(self._pools) > _POOLS:
                self._pools.popitem(last=False)
        return self._pools[address]


def _spans(example: SpanExample) -> tuple[tuple[int, int], ...]:
    return example.sentences or sentence_spans(example.context)


def _vectors(encoder: Encoder, inputs: Sequence[Ids]) -> Tensor:
    """Sentence vectors (N, H) of ``inputs``, in batches of like length: questions are short, and the longest
    sentence of many paragraphs would pad them all."""
    lengths = [len(ids) for ids in inputs]
    batches = token_batches(lengths, sum(lengths))
    vectors = [
        sentence_vectors(encode(encoder, [inputs[i] for i in batch]), encoder.info) for batch in batches
    ]
    order = np.argsort(np.concatenate(batches), kind="stable")
    return torch.cat(vectors)[torch.from_numpy(order)]


def _relevant(task: Task, pool: Pool, language: str, example: SpanExample) -> frozenset[int]:
    """Positions in the pool of all sentences that answer a question."""
    languages = task.languages if task.parallel else (language,)
    found = [pool.relevant.get((other, example.id), frozenset()) for other in languages]
    return frozenset[int]().union(*found)


def _outcomes(
    task: Task, language: str, examples: Sequence[SpanExample], pool: Pool, similarity: Similarity
) -> Outcomes:
    found = neighbours(similarity.rows, similarity.queries, similarity.candidates, DEPTH).position
    wanted = [_relevant(task, pool, language, example) for example in examples]
    precision = [_average_precision(row, gold) for row, gold in zip(found.tolist(), wanted, strict=True)]
    return Outcomes(
        language,
        "",
        np.array([example.id for example in examples], dtype=np.int32),
        np.array([example.cluster for example in examples], dtype=np.int32),
        {"map@20": (np.array(precision, dtype=np.float64), np.ones(len(examples)))},
        tuple(pool.names[first] for first in found[:, 0].tolist()),
    )


def _average_precision(ranking: Sequence[int], relevant: frozenset[int]) -> float:
    hits, total = 0, 0.0
    for rank, candidate in enumerate(ranking, 1):
        if candidate in relevant:
            hits += 1
            total += hits / rank
    return total / min(len(relevant), DEPTH)


def _chance(relevant: int, candidates: int) -> float:
    """The expected average precision at 20 of a random order: rank k holds a relevant sentence with probability
    R / M, and so does each of the k - 1 before it with (R - 1) / (M - 1)."""
    others = (relevant - 1) / max(1, candidates - 1)
    ranks = range(1, min(DEPTH, candidates) + 1)
    return sum(relevant / candidates * (1 + (k - 1) * others) / k for k in ranks) / min(relevant, DEPTH)
