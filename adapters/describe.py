"""What adapters over transformers read off a loaded model and its tokenizer: ``EncoderInfo``, and whether the two fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import ArtifactError, SuiteError
from .base import EncoderInfo
from .families import PLAIN, Family
from .fast_tokenizers import language_code, left_out

__all__ = ["describe", "first_line", "fits", "quiet", "tokenizer_id"]


HEADS = {
    "ForMaskedLM": "mlm",
    "BertForPreTraining": "mlm",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
}
"""End of the name of a class with its pre-training head -> objective."""


def fits(tokenizer: Any, model: Any, checkpoint: str) -> None:
    rows = model.get_input_embeddings().num_embeddings
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if not len(tokenizer.all_special_ids) < largest + 1 <= rows:
        raise ArtifactError(
            f"the tokenizer of `{checkpoint}` has ids up to {largest}, its model embeds {rows}",
            "the folder mixes files of two models, or its tokenizer.json is missing",
        )
    if tokenizer.pad_token_id is None:
        raise ArtifactError(
            f"the tokenizer of `{checkpoint}` has no padding token", "set pad_token in its configuration"
        )


def describe(model: Any, tokenizer: Any, revision: str | None, family: Family = PLAIN) -> EncoderInfo:
    """What ``model``, which gives the token states, and its tokenizer say about themselves; ``family`` adds the rest."""
    config = model.config
    longest = getattr(config, "max_position_embeddings", None) or min(
        tokenizer.model_max_length, family.max_length or tokenizer.model_max_length
    )
    reserved = [
        module.padding_idx
        for name, module in model.named_modules()
        if name.endswith("position_embeddings")
        and isinstance(module, nn.Embedding)
        and module.padding_idx is not None
    ]
    if reserved:  # RoBERTa counts positions from padding_idx + 1
        longest -= reserved[0] + 1
    dropouts = ("hidden_dropout_prob", "hidden_dropout", "dropout", "dropout_rate", "attention_dropout")
    return EncoderInfo(
        family=family.architecture or config.model_type,
        objective=family.objective or _objective(config),
        tokenizer_id=tokenizer_id(tokenizer),
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        max_length_trained=min(longest, tokenizer.model_max_length),
        max_length=longest,
        causal=_is_causal(model),
        attends_padding=family.attends_padding,
        pad_to=longest if family.attends_padding else None,
        pooling=family.pooling,
        language_code=language_code(tokenizer),
        cleaning=left_out(family, tokenizer),
        dropout=next((float(getattr(config, name)) for name in dropouts if hasattr(config, name)), 0.0),
        revision=revision,
    )


def _is_causal(model: Any) -> bool:
    """Whether a token's state ignores what follows it. Tried, because configurations do not say it reliably.

    Raises:
        SuiteError: a network that does not run on ids and a mask alone.
    """
    rows = model.get_input_embeddings().num_embeddings
    # several third tokens, because two may have equal embeddings, and then nothing follows from equal states
    ids = torch.tensor([[1, 2, third] for third in range(3, 11)]) % rows
    model.eval()
    try:
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    except Exception as error:  # whatever a network raises that wants more, such as a language
        raise SuiteError(
            f"the network ({model.config.model_type}) does not run on ids and a mask alone: {first_line(error)}",
            "such a model needs an adapter of its own (docs/add-a-backbone.md)",
        ) from error
    before, third = ((part - part[:1]).abs().amax(dim=(1, 2)) for part in (states[:, :2], states[:, 2:]))
    return bool((third > 1e-6).any() and before[third > 1e-6].max() <= 1e-6)


def _objective(config: Any) -> str:
    """What a plain encoder was pre-trained for, by the class it was saved from; ``unknown`` where that tells nothing."""
    for head, objective in HEADS.items():
        if any(name.endswith(head) for name in getattr(config, "architectures", None) or ()):
            return objective
    return "unknown"


def tokenizer_id(tokenizer: Any) -> str:
    """Class and digest of all that turns text into ids; equal for copies of one tokenizer in two repositories."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "model")
    content = json.dumps([described[part] for part in parts], sort_keys=True)
    return f"{described['model']['type'].lower()}:{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no report of unused heads: what matters in it is raised as an error here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
