"""What grounding did, on pictures that it never showed: which caption finds its picture, and its translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..adapters.base import Encoder
from .captions import CaptionSet
from .grounding import pooled
from .tower import ImageTower

__all__ = ["HeldOut", "Scores"]


class Scores(NamedTuple):
    """Shares of captions that find what they look for first. Equally near candidates count as nearer."""

    image: dict[str, float]
    """Language -> captions that find their picture among all held-out pictures."""
    translation: dict[str, float]
    """Language -> captions that find the same picture's caption in the source language, by cosine of the encoder's own
    sentence vectors; of a set in one language, the picture's other caption."""


class HeldOut:
    """The held-out pictures of a caption set, one of each group, with their first captions.

    Attributes:
        pictures: number of candidates; chance is ``1 / pictures``.
        source: the language that translations are looked for in: English where the set has it, else the first.
    """

    def __init__(self, captions: CaptionSet) -> None:
        first: dict[str, str] = {}
        for key in captions.keys("held-out"):
            first.setdefault(captions.group(key), key)
        keys = list(first.values())
        self.pictures = len(keys)
        self.shown = [captions.shown(key) for key in keys]
        self.source = "en" if "en" in captions.languages else captions.languages[0]
        self._texts: dict[str, dict[int, str]] = {name: {} for name in captions.languages}
        self._others: dict[int, str] = {}
        for place, key in enumerate(keys):
            for language, texts in captions.captions(key).items():
                self._texts[language][place] = texts[0]
                if len(texts) > 1:
                    self._others[place] = texts[1]

    def score(self, encoder: Encoder, tower: ImageTower, *, device: str, bf16: bool) -> Scores:
        """Both shares for every language with held-out captions; the encoder is left on ``device``, in evaluation mode."""
        assert isinstance(encoder, torch.nn.Module)
        encoder.to(device).eval()
        tower.to(device).eval()
        images = tower.image_features(self.shown).cpu()
        vectors = {
            language: self._vectors(encoder, own, device, bf16) for language, own in self._texts.items()
        }
        others = vectors[self.source]
        if len(vectors) == 1:
            others = self._vectors(encoder, self._others, device, bf16)
        image, translation = {}, {}
        for language, own in vectors.items():
            if own:
                with torch.inference_mode():
                    texts = tower.text_features(torch.stack(list(own.values())).to(device)).cpu()
                image[language] = _first(texts @ images.T, torch.tensor(list(own)))
            if language != self.source or len(vectors) == 1:
                both = [place for place in own if place in others]
                if both:
                    ours, theirs = (_unit([side[place] for place in both]) for side in (own, others))
                    translation[language] = _first(ours @ theirs.T, torch.arange(len(both)))
        return Scores(image, translation)

    def _vectors(
        self, encoder: Encoder, texts: Mapping[int, str], device: str, bf16: bool
    ) -> dict[int, Tensor]:
        return dict(zip(texts, pooled(encoder, list(texts.values()), device=device, bf16=bf16), strict=True))


def _unit(vectors: list[Tensor]) -> Tensor:
    return functional.normalize(torch.stack(vectors), dim=-1)


def _first(similarity: Tensor, gold: Tensor) -> float:
    """The share of rows whose own candidate is nearer than every other."""
    own = similarity.gather(1, gold[:, None])
    return ((similarity >= own).sum(1) == 1).float().mean().item()
