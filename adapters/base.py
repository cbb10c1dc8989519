"""The adapter contract: what an encoder of any library must offer, and nothing about tasks, training or images.

An adapter is a ``torch.nn.Module`` class that satisfies :class:`Encoder`. ``xtremex check NAME`` runs the contract
kit on it (``adapters/contract``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

__all__ = ["Encoded", "Encoder", "EncoderInfo"]


@dataclass(frozen=True)
class EncoderInfo:
    """What a reader must know about an encoder before comparing it: its shape and its confounds."""

    family: str
    """Architecture family, e.g. ``xlm-roberta``, ``muse``."""
    objective: str
    """Pre-training objective: mlm, text-contrastive, image-contrastive, ..."""
    tokenizer_id: str
    """Identity of the tokenizer; arms of a pair must agree on it."""
    hidden_size: int
    layers: int
    """Number of states besides the embeddings: ``len(hidden_states) - 1``."""
    max_length_trained: int
    """Longest input, in tokens with special tokens, that pre-training saw."""
    max_length: int
    """Longest input, in tokens with special tokens, that ``forward`` accepts."""
    init_from: str | None = None
    """Name of the ancestor whose weights started this encoder."""
    causal: bool = False
    attends_padding: bool = False
    pad_to: int | None = None
    """Fixed length that every input must be padded to, or None."""
    pooling: str = "mean"
    """Native pooling behind ``Encoded.pooled``."""
    pooled_unit_norm: bool = False
    """Whether ``Encoded.pooled`` has unit length."""
    sentence: Literal["native", "mean", "cls"] = "native"
    """What heads read as a sentence vector: ``Encoded.pooled``, or the mean or first token of the last states. No adapter
    sets it: a suite does (``models/use.py``), to read the arms of a pair alike."""
    pair_encoding: Literal["joint", "separate"] = "joint"
    """``joint``: attention crosses a pair of texts; ``separate``: nothing crosses (sentence encoders)."""
    text_prefix: str = ""
    """Text put before a sentence for sentence vectors (``"query: "`` for E5)."""
    language_code: str | None = None
    """The language token that the tokenizer puts before *every* text, whatever its language (``eng_Latn`` for NLLB), or
    None where it puts none."""
    cleaning: str = ""
    """What the library's own tokenizer does to a text before (``lower``, ``canonicalize``, ...) and this adapter leaves
    out, because it would move the characters; empty for nothing."""
    dropout: float = 0.0
    licence: str = "unknown"
    revision: str | None = None


class Encoded(NamedTuple):
    """What one forward pass gives, in the encoder's floating type."""

    hidden_states: Sequence[Tensor]
    """``layers + 1`` tensors (B, T, H); ``[0]`` embeddings, ``[-1]`` after the final norm, before any projection."""
    mask: Tensor
    """(B, T) int64, 1 for tokens that count."""
    pooled: Tensor
    """(B, H) the encoder's native sentence vector, before any projection."""
    projected: Tensor | None
    """(B, D) the vector in a shared image-text space, or None."""


@runtime_checkable
class Encoder(Protocol):
    """The four members, on top of ``torch.nn.Module`` (``parameters``, ``state_dict``, ``train``, ``to`` ...).

    ``load`` is the constructor: ``checkpoint`` is a hub id, a local folder, or whatever the adapter documents;
    further keyword parameters are explicit in each adapter's signature and come from the catalogue's ``options``.
    """

    info: EncoderInfo
    tokenizer: PreTrainedTokenizerFast
    """A *fast* tokenizer: word ids and character offsets into the original text are required."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        """Encode ``input_ids`` (B, T) int64 under ``attention_mask`` (B, T), 1 = token, 0 = padding."""
        ...

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), tokenizer and configuration; ``load(str(folder))`` restores them bit for bit."""
        ...

    @classmethod
    def load(cls, checkpoint: str, *, revision: str | None = None) -> Self:
        """Build the encoder; refuses missing or unexpected weights with ``ArtifactError``."""
        ...
