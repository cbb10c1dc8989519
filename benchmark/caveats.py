"""What stands between the arms of a pair and a fair comparison, from what the loaded encoders said of themselves.

The words go into ``suite.json`` and from there into the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..models.use import Use
from .policy import ASKED_AS, ASPECTS, Terms
from .schema import Pair, Policy

__all__ = ["caveats", "differing", "policy_words", "used"]

Info = Mapping[str, Any]
"""The fields of an ``EncoderInfo``; those of an older artifact may lack the newer ones."""

MATCHED = (
    "family",
    "tokenizer_id",
    "hidden_size",
    "layers",
    "max_length",
    "pair_encoding",
    "pooling",
    "causal",
    "dropout",
)
"""What the arms of a matched pair have in common; where they do not, the pair's note says so."""

TITLES = {
    "max_length": "longest input",
    "pair_encoding": "pairs of texts",
    "pooling": "sentence vector",
    "dropout": "dropout",
    "text_prefix": "text prefix",
}


def used(info: Info, use: Use) -> dict[str, Any]:
    """The encoder's information as its arm was used."""
    return dict(info) | {aspect: value for aspect, value in vars(use).items() if value is not None}


def differing(infos: Mapping[str, Info], terms: Terms) -> list[str]:
    """What the arms of a pair still differ in when they are used on its terms."""
    arms = [used(info, terms.uses[arm]) for arm, info in infos.items()]
    return [key for key in MATCHED if len({arm[key] for arm in arms}) > 1]


def policy_words(pair: Pair, terms: Terms, infos: Mapping[str, Info]) -> list[dict[str, Any]]:
    """Per aspect what the suite asked and what every arm got, in words; in the order of ``ASPECTS``."""
    return [
        {
            "aspect": TITLES[aspect],
            "asked": str(getattr(pair.policy, ASKED_AS.get(aspect, aspect))),
            "settled": aspect not in terms.unsettled,
            "arms": {arm: _got(aspect, info, terms.uses[arm]) for arm, info in infos.items()},
        }
        for aspect in ASPECTS
    ]


def _got(aspect: str, info: Info, use: Use) -> str:
    """``77 tokens (accepts 512)``: the value in use, and the encoder's own where that is another."""
    native = info.get(aspect)
    if getattr(use, aspect) is None:
        return _in_use(aspect, info, use)
    own = f"accepts {native:,}" if aspect == "max_length" else f"its own: {_value(aspect, native)}"
    return f"{_in_use(aspect, info, use)} ({own})"


def _in_use(aspect: str, info: Info, use: Use) -> str:
    words = _value(aspect, used(info, use).get(aspect))
    scaled = aspect == "pooling" and use.pooling is None and info.get("pooled_unit_norm")
    return f"{words}, of unit length times 10" if scaled else words


def _value(aspect: str, value: Any) -> str:
    if aspect == "max_length":
        return f"{value:,} tokens"
    if aspect == "text_prefix":
        return f'"{value}"' if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def caveats(pair: Pair, terms: Terms, infos: Mapping[str, Info], longest: int) -> list[dict[str, str]]:
    """``{"arm", "aspect", "text"}`` of all that a reader of the pair's numbers must know; arm "" is the whole pair.

    Args:
        infos: arm -> what its loaded encoder says of itself.
        longest: tokens of the longest input that a task of the suite asks for.
    """
    found = []
    for arm, info in infos.items():
        texts = _of_arm(info, used(info, terms.uses[arm]), longest)
        found += [{"arm": arm, "aspect": aspect, "text": text} for aspect, text in texts.items()]
    texts = _of_pair(pair, terms, infos)
    return found + [{"arm": "", "aspect": aspect, "text": text} for aspect, text in texts.items()]


def _of_arm(info: Info, in_use: Info, longest: int) -> dict[str, str]:
    texts = {}
    if info.get("causal"):
        texts["causal"] = (
            "causal mask: a token sees nothing to its right, which costs tagging and span reading, whose heads read "
            "single tokens"
        )
    if info.get("attends_padding"):
        padded = f" (every input is padded to {info['pad_to']} tokens)" if info.get("pad_to") else ""
        texts["attends_padding"] = f"attends to its padding{padded}: a text's vectors depend on its length"
    reach, trained = min(in_use["max_length"], longest), info["max_length_trained"]
    if reach > trained:
        texts["max_length_trained"] = f"trained on inputs of up to {trained} tokens, used up to {reach}"
    if in_use["max_length"] < longest:
        texts["max_length"] = (
            f"reads {in_use['max_length']} tokens, where tasks of the suite ask for up to {longest}: longer texts are "
            "cut, contexts of questions are read in more windows"
        )
    if info.get("language_code"):
        texts["language_code"] = (
            f"its tokenizer puts `{info['language_code']}` before every text, whatever the language"
        )
    if info.get("cleaning"):
        texts["cleaning"] = (
            f"its library cleans texts first ({info['cleaning']}); here it reads them as they are, to keep offsets"
        )
    return texts


def _of_pair(pair: Pair, terms: Terms, infos: Mapping[str, Info]) -> dict[str, str]:
    texts = {}
    for line, aspect in zip(policy_words(pair, terms, infos), ASPECTS, strict=True):
        in_use = {_in_use(aspect, info, terms.uses[arm]) for arm, info in infos.items()}
        said = []
        if len(in_use) > 1:
            listed = ", ".join(f"{arm} {words}" for arm, words in line["arms"].items())
            said.append(f"the {TITLES[aspect]} differs: {listed}")
        if aspect in terms.unsettled and (said or line["asked"] != str(_default(aspect))):
            names = terms.unsettled[aspect]
            said.append(
                f"`{line['asked']}` could not be settled, because the catalogue states no such fact of "
                f"{', '.join(f'`{name}`' for name in names)} (`xtremex check {names[0]}` prints it)"
            )
        if said:
            texts[aspect] = "; ".join(said)
    if len({info["tokenizer_id"] for info in infos.values()}) > 1:
        texts["tokenizer_id"] = "the tokenizer differs: the arms cut texts into other tokens"
    return texts


def _default(aspect: str) -> Any:
    return getattr(Policy(), ASKED_AS.get(aspect, aspect))
