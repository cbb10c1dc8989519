"""How answers are compared: SQuAD 1.1's exact match and token F1, with a variant for unspaced scripts."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

__all__ = ["SEGMENTATIONS", "normalise", "score_answer"]

SEGMENTATIONS = ("whitespace", "characters")

ARTICLES = re.compile(r"\b(a|an|the)\b")
ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
UNSPACED = re.compile(
    # Thai, Lao, Burmese, Khmer; kana; CJK ideographs with their extensions and compatibility forms
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def normalise(text: str, segmentation: str = "whitespace") -> list[str]:
    """The tokens of an answer.

    ``whitespace`` is the official SQuAD 1.1 rule, which XTREME applies to every language: lower case, without
    ASCII punctuation and the English articles, split at whitespace. ``characters`` also drops the punctuation
    of every script (Unicode category P) and makes each character of a script without spaces (Chinese,
    Japanese, Thai, Lao, Khmer, Burmese) a token, in the manner of MLQA's mixed segmentation.
    """
    text = text.lower().translate(ASCII_PUNCTUATION)
    if segmentation == "characters":
        text = "".join(c for c in text if not unicodedata.category(c).startswith("P"))
    text = ARTICLES.sub(" ", text)
    if segmentation == "characters":
        text = UNSPACED.sub(r" \1 ", text)
    return text.split()


def score_answer(
    predicted: str, golds: Sequence[str], segmentation: str = "whitespace"
) -> tuple[float, float]:
    """``(exact match, F1)``, each the best over ``golds``; no golds: the answer is none (``""``)."""
    tokens = normalise(predicted, segmentation)
    wanted = [normalise(gold, segmentation) for gold in golds] or [[]]
    return float(any(tokens == gold for gold in wanted)), max(_f1(tokens, gold) for gold in wanted)


def _f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    common = sum((Counter(predicted) & Counter(gold)).values())
    return 2 * common / (len(predicted) + len(gold))
