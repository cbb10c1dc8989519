"""From token states to a sentence vector."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import SuiteError, nearest
from .base import EncoderInfo

__all__ = ["Pooling", "check_pooling", "pool"]

Pooling = Literal["mean", "cls", "eos", "last"]


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """States (B, T, H) under ``mask`` (B, T) -> (B, H).

    ``mean`` over the tokens; ``cls`` the first; ``eos`` the closing token; ``last`` the last position, be it padding.
    Another name is a ``SuiteError``.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[:, -1]
    if pooling == "eos":
        # CLIP looks for the *first* closing token, which in a pair of texts, that it never sees, closes the first text
        end = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
        return states[torch.arange(len(states), device=states.device), end]
    if pooling != "mean":
        raise SuiteError(f"unknown pooling `{pooling}`", nearest(pooling, get_args(Pooling)))
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def check_pooling(pooling: str, tokenizer: Any, info: EncoderInfo, checkpoint: str) -> None:
    """``SuiteError`` for a pooling that is unknown, or that would read a token of the text's own."""
    if pooling not in get_args(Pooling):
        raise SuiteError(
            f"unknown pooling `{pooling}` for `{checkpoint}`", nearest(pooling, get_args(Pooling))
        )
    marks = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    lacking = {
        "cls": not marks[0] and "its tokenizer puts no special token before a text",
        "eos": not marks[-1] and "its tokenizer puts no special token after a text",
        "last": info.pad_to is None and "its inputs have no fixed length",
    }
    if reason := lacking.get(pooling):
        raise SuiteError(
            f"`{checkpoint}` cannot be pooled by `{pooling}`: {reason}", 'pooling = "mean" reads every token'
        )
