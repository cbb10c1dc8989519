"""Heads for the trained task kinds: float32, drawn from torch's global generator (the engine seeds it).

They compute in float32 even under autocast: among the scores of hundreds of tokens bfloat16, with its 8 bits, makes
ties, and the first place wins them. Only the masked-LM head is left to autocast: its product with the whole vocabulary
is a large part of a step.

With ``pair_encoding = "joint"`` attention has already crossed the two texts and heads read one vector per
input; with ``"separate"`` nothing has crossed, and heads read how two vectors compare: ``[u, v, |u - v|, u *
v]`` (InferSent, Conneau et al. 2017 sec. 3.1, in the order of Sentence-BERT with the product added).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters.base import Encoded, EncoderInfo

__all__ = [
    "CosineHead",
    "MaskedLMHead",
    "SentenceHead",
    "SpanHead",
    "TokenHead",
    "compare",
    "input_size",
    "mean_states",
    "sentence_vectors",
]

UNIT_NORM_SCALE = 10.0
"""Unit vectors of 512 dimensions have entries near 0.04: too faint for a fresh head's first hundred steps."""


def sentence_vectors(encoded: Encoded, info: EncoderInfo) -> Tensor:
    """The sentence vectors (B, H) that a head reads, as ``info.sentence`` says.

    Native ones are multiplied by 10 where they have unit norm.
    """
    if info.sentence == "mean":
        return mean_states(encoded)
    if info.sentence == "cls":
        return encoded.hidden_states[-1][:, 0]
    return encoded.pooled * UNIT_NORM_SCALE if info.pooled_unit_norm else encoded.pooled


def mean_states(encoded: Encoded) -> Tensor:
    """The mean (B, H) float32 of the last token states over the tokens that count."""
    mask = encoded.mask.unsqueeze(-1).float()
    return (encoded.hidden_states[-1] * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def compare(u: Tensor, v: Tensor) -> Tensor:
    """``[u, v, |u - v|, u * v]`` over the last dimension, broadcasting: (..., H) -> (..., 4H)."""
    u, v = torch.broadcast_tensors(u, v)
    return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)


def input_size(info: EncoderInfo) -> int:
    """Width of what heads read that see a pair of texts: H joint, 4H separate."""
    return info.hidden_size if info.pair_encoding == "joint" else 4 * info.hidden_size


class SentenceHead(nn.Module):
    """Sentence (pair) vectors (N, F) -> scores (N, outputs) float32: one tanh layer, as RoBERTa's classifier has.

    Dropout is the encoder's own, so that an encoder trained without dropout is not given one by its head.
    """

    def __init__(self, info: EncoderInfo, outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(info.dropout)
        self.dense = nn.Linear(input_size(info), info.hidden_size)
        self.out = nn.Linear(info.hidden_size, outputs)

    def forward(self, vectors: Tensor) -> Tensor:
        with torch.autocast(vectors.device.type, enabled=False):
            hidden = torch.tanh(self.dense(self.dropout(vectors.float())))
            return self.out(self.dropout(hidden))


class TokenHead(nn.Module):
    """Token states (..., H) -> scores (..., outputs) float32 by one linear layer.

    Tags (Devlin et al. 2019 sec. 5.3), and, under joint input, the start and end of a span (sec. 4.2).
    """

    def __init__(self, info: EncoderInfo, outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(info.dropout)
        self.out = nn.Linear(info.hidden_size, outputs)

    def forward(self, states: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            return self.out(self.dropout(states.float()))


class SpanHead(nn.Module):
    """Token states (B, T, H) and question vectors (B, H) -> scores (B, T, 2) float32 of starting and ending a span.

    For ``separate`` encoders: one tanh layer over ``[t, q, |t - q|, t * q]`` for every token state t and the
    mean q of its question's token states (``mean_states``), both layer-normalised. The mean, not the sentence
    vector: t and q must lie in one space to be compared. Measured with mUSE on ``mini-spans`` (40 steps of 16,
    two seeds): F1 .92 on dev against .67 with the sentence vector, zero-shot on German .80 against .54.
    """

    def __init__(self, info: EncoderInfo) -> None:
        super().__init__()
        self.dropout = nn.Dropout(info.dropout)
        self.state_norm = nn.LayerNorm(info.hidden_size)
        self.question_norm = nn.LayerNorm(info.hidden_size)
        self.dense = nn.Linear(4 * info.hidden_size, info.hidden_size)
        self.out = nn.Linear(info.hidden_size, 2)

    def forward(self, states: Tensor, questions: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            tokens, question = self.state_norm(states.float()), self.question_norm(questions.float())
            pairs = compare(tokens, question.unsqueeze(1))
            return self.out(self.dropout(torch.tanh(self.dense(self.dropout(pairs)))))


class CosineHead(nn.Module):
    """Cosines of sentence vectors, times a learned scale of at most 100 (Radford et al. 2021 sec. 2.3).

    The scale and nothing else: what is compared after training is the encoder's own sentence vectors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """(..., H) and (N, H) of any floating type -> (..., N), float32 even under autocast."""
        with torch.autocast(queries.device.type, enabled=False):
            queries, candidates = (functional.normalize(v.float(), dim=-1) for v in (queries, candidates))
            return self.logit_scale.exp().clamp(max=100.0) * (queries @ candidates.T)


class MaskedLMHead(nn.Module):
    """Token states (N, H) and the encoder's input embeddings (V, E) -> scores (N, V) of all tokens.

    Dense layer, GELU, layer norm, then the product with the embeddings (tied weights) and a bias: the head of BERT
    and of RoBERTa (Devlin et al. 2019; ``modeling.py`` and ``run_pretraining.py`` of google-research/bert). The
    embeddings are handed in and not held: they are a parameter of the encoder, trained and saved with it.
    """

    def __init__(self, info: EncoderInfo, vocabulary: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(info.hidden_size, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        hidden = self.norm(functional.gelu(self.dense(states.to(self.dense.weight.dtype))))
        return functional.linear(hidden, embeddings, self.bias)
