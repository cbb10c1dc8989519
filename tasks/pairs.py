"""What sentences, sentence pairs and choices share: inputs of one sentence vector each, and their scores.

``joint``: every scored pair is one input, ``separate``: every text is one input and the head compares two
vectors. A single sentence is compared with the zero vector under ``separate``, so that one head fits both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..adapters.base import Encoder
from ..models.heads import compare, sentence_vectors
from .base import Task
from .batching import Ids, Template, encode, token_batches, token_limit, tokenise

__all__ = ["PairFeature", "pair_features", "pair_scores"]

HEAD_ROWS = 4096
"""Pairs that go through a head at once; bounds the memory of large test sets."""


@dataclass(frozen=True, slots=True, eq=False)
class PairFeature:
    """One example: a text scored alone or with each of its seconds."""

    inputs: tuple[Ids, ...]
    """joint or single: one input per score; separate: the first text, then its seconds."""
    scores: int
    """Scored pairs: 1 for a sentence (pair), the number of choices for multiple choice."""
    label: int

    @property
    def length(self) -> int:
        return len(self.inputs) * max(map(len, self.inputs))


def pair_features(
    firsts: Sequence[str],
    seconds: Sequence[Sequence[str]],
    labels: Sequence[int],
    task: Task,
    encoder: Encoder,
) -> list[PairFeature]:
    """Tokenise texts with their seconds (none: a single sentence), cut to the token limit, longest first."""
    prefix, limit = encoder.info.text_prefix, token_limit(task, encoder)
    separate = encoder.info.pair_encoding == "separate"
    template = Template.of(encoder.tokenizer)
    first_ids = tokenise(encoder.tokenizer, [prefix + text for text in firsts])
    flat = [prefix + text if separate else text for group in seconds for text in group]
    second_ids = iter(tokenise(encoder.tokenizer, flat))
    made = []
    for first, group, label in zip(first_ids, seconds, labels, strict=True):
        others = [next(second_ids) for _ in group]
        if separate or not others:
            inputs = tuple(template.fit(ids, limit) for ids in (first, *others))
        else:
            inputs = tuple(template.fit_pair(first, ids, limit) for ids in others)
        made.append(PairFeature(inputs, max(1, len(others)), label))
    return made


def pair_scores(
    encoder: Encoder, head: nn.Module, features: Sequence[PairFeature], batch_tokens: int | None = None
) -> Tensor:
    """Scores (pairs, outputs) float32 of all pairs of ``features``, in order.

    With ``batch_tokens`` (evaluation) equal inputs are encoded once, in length-sorted batches; without it
    everything is one forward pass.
    """
    inputs = [ids for feature in features for ids in feature.inputs]
    if batch_tokens is None:
        vectors = sentence_vectors(encode(encoder, inputs), encoder.info)
    else:
        vectors = _distinct_vectors(encoder, inputs, batch_tokens)
    if encoder.info.pair_encoding == "joint":
        scores = [head(rows) for rows in vectors.split(HEAD_ROWS)]
    else:
        first, second = _positions(features)
        nothing = vectors.new_zeros(1, vectors.shape[1])
        vectors = torch.cat([vectors, nothing])  # a single sentence's second is position -1
        scores = [
            head(compare(vectors[u], vectors[v]))
            for u, v in zip(first.split(HEAD_ROWS), second.split(HEAD_ROWS), strict=True)
        ]
    return torch.cat(scores).float()


def _positions(features: Sequence[PairFeature]) -> tuple[Tensor, Tensor]:
    """Positions among all inputs of the two texts of each scored pair; -1 where there is no second text."""
    counts = np.array([feature.scores for feature in features])
    starts = np.cumsum([0] + [len(feature.inputs) for feature in features[:-1]])
    first = np.repeat(starts, counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    alone = np.repeat([len(feature.inputs) == 1 for feature in features], counts)
    return torch.from_numpy(first), torch.from_numpy(np.where(alone, -1, first + 1 + within))


def _distinct_vectors(encoder: Encoder, inputs: Sequence[Ids], batch_tokens: int) -> Tensor:
    distinct: dict[bytes, int] = {}
    kept = []
    where = np.empty(len(inputs), dtype=np.int64)
    for position, ids in enumerate(inputs):
        key = ids.tobytes()
        if key not in distinct:
            distinct[key] = len(kept)
            kept.append(ids)
        where[position] = distinct[key]
    batches = token_batches([len(ids) for ids in kept], batch_tokens)
    vectors = torch.cat(
        [sentence_vectors(encode(encoder, [kept[i] for i in batch]), encoder.info) for batch in batches]
    )
    order = np.empty(len(kept), dtype=np.int64)
    order[[i for batch in batches for i in batch]] = np.arange(len(kept))
    return vectors[torch.from_numpy(order[where])]
