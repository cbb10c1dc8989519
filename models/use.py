"""How an arm's encoder is used where its pair asks something else of it than it does by itself.

Arms of a pair differ in what they were trained with: 77 positions or 512, first token or mean, dropout or none. A suite's
policy settles what all of them are used with (``benchmark/policy.py``); a ``Use`` is what that changes in one arm.
Importing this module loads no torch: plans hold uses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from ..errors import SuiteError

if TYPE_CHECKING:
    from torch import nn

    from ..adapters.base import Encoder, EncoderInfo

__all__ = ["Use", "applied", "used"]


@dataclass(frozen=True)
class Use:
    """What a pair's policy changes in an encoder; None: as the encoder is. False where it changes nothing."""

    max_length: int | None = None
    """Longest input in tokens, special tokens included; padding still goes to ``info.pad_to``."""
    pair_encoding: Literal["joint", "separate"] | None = None
    pooling: Literal["mean", "cls"] | None = None
    """What heads read as a sentence vector: mean or first token of the last states, in place of the native vector."""
    dropout: float | None = None
    """Every dropout probability of the encoder and its heads while they train; ``info.dropout`` is but the headline rate."""
    text_prefix: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in vars(self).values())


def used(info: EncoderInfo, use: Use, name: str) -> EncoderInfo:
    """The ``info`` of the encoder ``name`` as tasks and heads see it under ``use``.

    Raises ``SuiteError`` where the encoder cannot be used so: the catalogue's facts, which the plan believed, were wrong
    or absent.
    """
    check_facts = f"type: xtremex check {name}; and state what it prints under `facts` of the backbone"
    if use.max_length is not None and use.max_length > info.max_length:
        raise SuiteError(
            f"encoder `{name}` accepts {info.max_length} tokens, and its pair is used with {use.max_length}",
            f"lower `max_length` under [pairs.policy], or {check_facts}",
        )
    if use.pair_encoding == "joint" and info.pair_encoding == "separate":
        raise SuiteError(
            f"encoder `{name}` reads the two texts of a pair apart, and its pair is used with joint input",
            'write pair_encoding = "shared" under [pairs.policy]',
        )
    if use.pooling == "cls" and info.causal:
        raise SuiteError(
            f"encoder `{name}` is causal: its first token sees no other, so `cls` is the same for every text",
            'write pooling = "mean" (or "native") under [pairs.policy]',
        )
    changes: dict[str, Any] = {k: v for k, v in vars(use).items() if v is not None and k != "pooling"}
    return dataclasses.replace(info, **changes, sentence=use.pooling or info.sentence)


@contextmanager
def applied(encoder: Encoder, use: Use, name: str) -> Iterator[None]:
    """``encoder`` (named ``name`` in messages) used as ``use`` says; as it was afterwards.

    Raises ``SuiteError`` as :func:`used`, for ``cls`` where no special token stands first, and for dropout asked of an
    encoder that has none anywhere.
    """
    from ..adapters.pooling import check_pooling

    before = encoder.info
    after = used(before, use, name)
    if use.pooling is not None:
        check_pooling(use.pooling, encoder.tokenizer, before, name)
    places = [] if use.dropout is None else _dropout(cast("nn.Module", encoder))
    if use.dropout and not places:
        raise SuiteError(
            f"encoder `{name}` has no dropout anywhere, and its pair is used with dropout {use.dropout:g}",
            'write dropout = "shared" under [pairs.policy]: the smallest of the arms',
        )
    try:
        encoder.info = after
        for module, attribute, _ in places:
            setattr(module, attribute, use.dropout)
        yield
    finally:
        encoder.info = before
        for module, attribute, rate in places:
            setattr(module, attribute, rate)


def _dropout(encoder: nn.Module) -> list[tuple[nn.Module, str, float]]:
    """(module, attribute, probability) of all dropout: its modules, and the numbers that functional dropout is called with.

    transformers' attention classes and torch's own keep such a number as ``dropout``, ``attention_dropout``,
    ``activation_dropout`` or a like name. Whole layers left out (``layerdrop``) are another thing and stay.
    """
    from torch.nn.modules.dropout import _DropoutNd

    found = []
    for module in encoder.modules():
        if isinstance(module, _DropoutNd):
            found.append((module, "p", module.p))
        found += [
            (module, key, value)
            for key, value in vars(module).items()
            if "dropout" in key and isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
    return found
