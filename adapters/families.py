"""Where the text encoder sits in composite and encoder-decoder models of transformers 5, and how its library reads it.

Facts per ``model_type``, read in the source of transformers 5.23 and compared with its outputs in
``tests/test_adapter_composites.py``. A model type that is not listed is a plain encoder, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import SuiteError

__all__ = ["FAMILIES", "PLAIN", "Family", "family_of"]


@dataclass(frozen=True)
class Family:
    """How the models of one ``model_type`` are read; the defaults are those of a plain encoder."""

    body: str = ""
    """Path of the module whose outputs are the token states; the whole model where empty."""
    pooling: str = "mean"
    """Native pooling behind the library's own text features; ``mean`` where it has none."""
    norm: str = ""
    """Path of a norm of the pooled vector."""
    projections: tuple[str, ...] = ()
    """Paths of the linear maps, in order, from the pooled vector into the image-text space."""
    tied: str = ""
    """Child of the whole model that holds the token embeddings, which the body shares."""
    attends_padding: bool = False
    """Trained on texts padded to ``max_position_embeddings``, without a mask."""
    architecture: str | None = None
    """Architecture of the body where the library has a name of its own for it (``EncoderInfo.family``)."""
    objective: str = ""
    """Pre-training objective; that of the class in ``config.architectures`` where empty."""
    cleaning: str = ""
    """What the library does to a text before its vocabulary is looked up (``EncoderInfo.cleaning``)."""
    max_length: int | None = None
    """Length of the texts in pre-training, for bodies without a table of positions."""

    @property
    def kept(self) -> frozenset[str]:
        """Children of the whole model that belong to its text encoder."""
        paths = (self.body, self.norm, self.tied, *self.projections)
        return frozenset(path.split(".")[0] for path in paths if path)


PLAIN = Family()
"""A model that is a text encoder and nothing else."""


def _clip(**facts: Any) -> Family:
    facts = {"body": "text_model", "projections": ("text_projection",), **facts}
    return Family(objective="image-contrastive", **facts)


_SIGLIP: dict[str, Any] = {
    "pooling": "last",
    "projections": ("text_model.head",),
    "attends_padding": True,
    "cleaning": "canonicalize",
}

FAMILIES = {
    "altclip": _clip(
        body="text_model.roberta",
        pooling="cls",
        norm="text_model.pre_LN",
        projections=("text_model.transformation", "text_projection"),
        architecture="xlm-roberta",
    ),
    "chinese_clip": _clip(pooling="cls", architecture="bert"),
    "clip": _clip(architecture="clip", pooling="eos"),
    "metaclip_2": _clip(architecture="metaclip_2", pooling="eos"),
    "siglip": _clip(architecture="siglip", **_SIGLIP),
    "siglip2": _clip(architecture="siglip2", **_SIGLIP),
    "m2m_100": Family(body="encoder", tied="shared", objective="translation"),
    # span corruption on texts of 1024 (Xue et al. 2021 sec. 3.2), T5 and umT5 of 512 tokens
    "mt5": Family(body="encoder", tied="shared", objective="span-corruption", max_length=1024),
    "t5": Family(body="encoder", tied="shared", objective="span-corruption", max_length=512),
    "umt5": Family(body="encoder", tied="shared", objective="span-corruption", max_length=512),
}
"""Composite and encoder-decoder models whose text encoder is known."""


def family_of(config: Any, checkpoint: str) -> Family:
    """The family of a transformers configuration.

    Raises:
        SuiteError: a composite or encoder-decoder model that is not in ``FAMILIES``, or a text tower that was cut out of one
            that is.
    """
    known = FAMILIES.get(config.model_type)
    if known is not None:
        return known
    whole = config.model_type.removesuffix("_text_model")
    if whole in FAMILIES:
        raise SuiteError(
            f"`{checkpoint}` ({config.model_type}) is a text tower alone; text towers are read from the whole model "
            f"({whole}), which tells how they are pooled and projected",
            "name the repository of the vision-language model that it was taken from",
        )
    parts = ("vision_config", "text_config", "audio_config")
    if getattr(config, "is_encoder_decoder", False) or any(hasattr(config, part) for part in parts):
        raise SuiteError(
            f"`{checkpoint}` ({config.model_type}) is not a plain text encoder, and where its text encoder sits is not "
            "known",
            f"known are {', '.join(sorted(FAMILIES))}; others need an adapter of their own (docs/add-a-backbone.md)",
        )
    return PLAIN
