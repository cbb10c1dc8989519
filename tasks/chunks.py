"""Spans of tag sequences, counted for whole test sets at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["TagScheme"]

PREFIXES = "OBIES"


class TagScheme:
    """Reads spans off tags as conlleval and seqeval's default mode do: a stray ``I-PER`` opens a span.

    Tags are ``O`` or a prefix B, I, E, S and a type (``B-PER``; IO, IOB1, BIO and BIOES all read alike). A
    label set in which some tag other than ``O`` has no such prefix (parts of speech, plain IO types) is
    unprefixed: each run of one tag is a span, and only ``O`` is outside. Unlike seqeval, which reads the
    first letter of ``SCONJ`` as a prefix, the whole tag is the type then.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        named = [label for label in labels if label != "O"]
        prefixed = all(label[:2] in ("B-", "I-", "E-", "S-") and len(label) > 2 for label in named)
        types: dict[str, int] = {}
        prefix, kind = [], []
        for label in labels:
            inside = label != "O"
            prefix.append(PREFIXES.index(label[0]) if prefixed or not inside else PREFIXES.index("I"))
            kind.append(types.setdefault(label[2:] if prefixed else label, len(types)) if inside else -1)
        self._prefix = np.array(prefix)
        self._type = np.array(kind)

    def spans(self, tags: np.ndarray, sentence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First word, last word and type of every span, in order: three (S,) int64 arrays.

        ``tags`` (W,) are label indices of all words, ``sentence`` (W,) the sentence of each word, ascending.
        """
        if not len(tags):
            nothing = np.empty(0, dtype=np.int64)
            return nothing, nothing, nothing
        prefix, kind = self._prefix[tags], self._type[tags]
        outside, begin, _, end, single = (prefix == code for code in range(len(PREFIXES)))
        new = np.ones(len(tags), dtype=bool)  # a word that does not continue the one before it
        new[1:] = (sentence[1:] != sentence[:-1]) | (kind[1:] != kind[:-1])
        new[1:] |= begin[1:] | single[1:] | end[:-1] | single[:-1]
        closed = np.append(new[1:] | outside[1:], True)
        first = np.flatnonzero(new & ~outside)
        return first, np.flatnonzero(closed & ~outside), kind[first]

    def count(
        self, predicted: np.ndarray, gold: np.ndarray, sentence: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Spans per sentence: in common, predicted, gold; three (sentences,) int64 arrays."""
        sentences = int(sentence[-1]) + 1 if len(sentence) else 0
        first, last, kind = self.spans(predicted, sentence)
        first_gold, last_gold, kind_gold = self.spans(gold, sentence)
        _, mine, theirs = np.intersect1d(first, first_gold, assume_unique=True, return_indices=True)
        same = (last[mine] == last_gold[theirs]) & (kind[mine] == kind_gold[theirs])
        return (
            np.bincount(sentence[first[mine[same]]], minlength=sentences),
            np.bincount(sentence[first], minlength=sentences),
            np.bincount(sentence[first_gold], minlength=sentences),
        )
