"""Caption sets: pictures with captions in several languages, as grounding reads them.

A set says what is shown together (pairs of captions), what must not meet in a batch (groups, whose members would be false
negatives of each other), and what is held out. OpenMoji is built in; :mod:`.captions_folder` reads a user's folder; whoever
has captions in memory makes :class:`Captions` of them. Importing this module loads no torch.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Literal, Protocol

from ..errors import DataError, SuiteError, unknown
from . import openmoji

__all__ = ["CaptionSet", "Captions", "OpenMoji", "Split", "derangement", "draw_pair"]

Split = Literal["train", "held-out"]

HELD_OUT = 0.1
"""Share of the groups that is held out, of sets without a split of their own."""
MOST_HELD_OUT = 1000
"""Groups; candidates of retrieval are compared with every caption."""
_TRIES = 100


class CaptionSet(Protocol):
    """Pictures by key, with captions. Two equal sets give equal items, in one order."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that captions are drawn from, in a fixed order."""
        ...

    def keys(self, split: Split) -> tuple[str, ...]:
        """The pictures of a split that have a pair of captions, in a fixed order."""
        ...

    def group(self, key: str) -> str:
        """Pictures of one group share a caption or are the same: they never meet in a batch, nor in two splits."""
        ...

    def captions(self, key: str) -> Mapping[str, Sequence[str]]:
        """Language -> captions of a picture, one or more; languages without any are absent."""
        ...

    def shown(self, key: str) -> str:
        """The picture itself as :mod:`.pictures` takes it: a path, or the name of a drawing."""
        ...

    def fingerprint(self) -> str:
        """Changes when captions or pictures change; the same on every machine."""
        ...


@dataclass(frozen=True)
class OpenMoji:
    """The built-in set: drawings with one name a language (:mod:`.openmoji`). Held out is its test split."""

    languages: tuple[str, ...] = openmoji.LANGUAGES

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in openmoji.LANGUAGES:
                raise unknown("picture-name language", language, openmoji.LANGUAGES, "languages")

    def keys(self, split: Split) -> tuple[str, ...]:
        return _drawings("test" if split == "held-out" else "train")

    def group(self, key: str) -> str:
        return openmoji.base(key)

    def captions(self, key: str) -> dict[str, tuple[str, ...]]:
        return {language: (_names(language)[key],) for language in self.languages}

    def shown(self, key: str) -> str:
        return key

    def fingerprint(self) -> str:
        return openmoji.fingerprint()


@lru_cache(maxsize=3)
def _drawings(split: str) -> tuple[str, ...]:
    return tuple(key for key in openmoji.keys() if openmoji.split(key) == split)


@lru_cache(maxsize=len(openmoji.LANGUAGES))
def _names(language: str) -> dict[str, str]:
    return openmoji.names(language)


@dataclass(eq=False)
class Captions:
    """A set in memory. Groups are made here: pictures that share a caption, whatever its language, or a content.

    Pictures without a pair of captions are left out and counted: of a set in several languages those with one language
    only, of a set in one language those with one caption only.

    Raises:
        DataError: no picture has a pair, or none a pair of different texts, too few groups are left to hold some out, or
            one group holds more than half of the pictures.
    """

    name: str
    """For messages: ``folder /data/flickr``."""
    of: Mapping[str, Mapping[str, Sequence[str]]]
    """Key -> language -> captions. Keys are the same on every machine."""
    contents: Mapping[str, str]
    """Key -> digest of the picture, or whatever pins it."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Key -> what :mod:`.pictures` takes, where that is not the key itself."""
    languages: tuple[str, ...] = ()
    """In the order of the number of captions, most first, where none are given."""

    def __post_init__(self) -> None:
        counts = Counter(
            language for own in self.of.values() for language, texts in own.items() for _ in texts
        )
        self.languages = self.languages or tuple(sorted(counts, key=lambda name: (-counts[name], name)))
        for language in self.languages:
            if language not in counts:
                raise unknown(f"caption language of {self.name}", language, counts, "languages")
        self.of = {
            key: {name: tuple(own[name]) for name in self.languages if own.get(name)}
            for key, own in sorted(self.of.items())
        }
        paired = {key for key, own in self.of.items() if self._has_pair(own)}
        self.left_out = len(self.of) - len(paired)
        """Pictures without a pair of captions."""
        if not paired:
            raise DataError(
                f"{self.name}: {_no_pair(self.languages, len(self.of))}",
                "an item of grounding is a picture with two captions: in two languages, or, where a set has only one, "
                "two of that language",
            )
        if all(len(set(_texts(self.of[key]))) == 1 for key in paired):
            raise DataError(
                f"{self.name}: the captions of every picture are one and the same text",
                "a pair of equal captions teaches nothing; is the right column read in every language?",
            )
        self._groups = _grouped(
            {key: (f"picture {self.contents[key]}", *_texts(self.of[key])) for key in sorted(paired)}
        )
        groups = sorted(set(self._groups.values()), key=lambda group: sha256(group.encode()).digest())
        held_out = min(MOST_HELD_OUT, max(2, round(HELD_OUT * len(groups))))
        if len(groups) < 2 * held_out:
            raise DataError(
                f"{self.name}: {len(paired)} pictures with a pair of captions make {len(groups)} distinct groups, too "
                "few to train on some and hold others out",
                "pictures that share a caption, or are the same picture, are one group; add pictures",
            )
        self._held_out = frozenset(groups[:held_out])

    def _has_pair(self, own: Mapping[str, Sequence[str]]) -> bool:
        return len(own) > 1 if len(self.languages) > 1 else any(len(texts) > 1 for texts in own.values())

    def keys(self, split: Split) -> tuple[str, ...]:
        held_out = split == "held-out"
        return tuple(key for key, group in self._groups.items() if (group in self._held_out) == held_out)

    def group(self, key: str) -> str:
        return self._groups[key]

    def captions(self, key: str) -> Mapping[str, Sequence[str]]:
        return self.of[key]

    def shown(self, key: str) -> str:
        return self.places.get(key, key)

    def fingerprint(self) -> str:
        return self._digest

    @cached_property
    def _digest(self) -> str:
        said = [[key, self.contents[key], own] for key, own in self.of.items()]
        return sha256(json.dumps([self.languages, said], ensure_ascii=True).encode()).hexdigest()


def _no_pair(languages: Sequence[str], pictures: int) -> str:
    if len(languages) == 1:
        return f"all captions are in `{languages[0]}`, and none of {pictures} pictures has two"
    return f"none of {pictures} pictures has captions in two of {', '.join(languages)}"


def _texts(own: Mapping[str, Sequence[str]]) -> Iterable[str]:
    return (f"caption {text.casefold()}" for texts in own.values() for text in texts)


def _grouped(marks: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """key -> first key of its group: keys with a mark in common, directly or through others."""
    parent = {key: key for key in marks}

    def root(key: str) -> str:
        while parent[key] != key:
            key = parent[key] = parent[parent[key]]
        return key

    owner: dict[str, str] = {}
    for key, own in marks.items():
        for mark in own:
            first, second = sorted((root(owner.setdefault(mark, key)), root(key)))
            parent[second] = first
    return {key: root(key) for key in marks}


def draw_pair(draw: random.Random, captions: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Two captions of one picture: in two languages drawn at random, or two of the only language."""
    if len(captions) > 1:
        first, second = draw.sample(list(captions), 2)
        return _one(draw, captions[first]), _one(draw, captions[second])
    [texts] = captions.values()
    first, second = draw.sample(list(texts), 2)
    return first, second


def _one(draw: random.Random, texts: Sequence[str]) -> str:
    # with one caption nothing is drawn: the built-in set's items stay as they were when there was no choice
    return texts[0] if len(texts) == 1 else draw.choice(texts)


def derangement(captions: CaptionSet, draw: random.Random) -> dict[str, str]:
    """A permutation of the train pictures under which none keeps its group: the placebo's pictures.

    Raises ``SuiteError`` where one group is more than half of them.
    """
    keys = captions.keys("train")
    group = {key: captions.group(key) for key in keys}
    for _ in range(_TRIES):  # of OpenMoji about one in five passes
        shown = list(keys)
        draw.shuffle(shown)
        if all(group[key] != group[other] for key, other in zip(keys, shown, strict=True)):
            return dict(zip(keys, shown, strict=True))
    members: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        members[group[key]].append(key)
    largest = max(map(len, members.values()))
    if 2 * largest > len(keys):
        raise SuiteError(
            f"{largest} of {len(keys)} train pictures share captions with each other, so that no permutation shows "
            "something else for each",
            "give them captions of their own, or leave the arm `scrambled` out",
        )
    # groups side by side in random order, moved on by the largest: nobody lands in their own
    order = list(members)
    draw.shuffle(order)
    row = [key for name in order for key in draw.sample(members[name], len(members[name]))]
    return {key: row[(place + largest) % len(row)] for place, key in enumerate(row)}
