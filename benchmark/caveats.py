"""What stands between the arms of a pair and a fair comparison, from what the loaded encoders said of themselves.

The words go into ``suite.json`` and from there into the report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..models.use import Use
from .policy import ASKED_AS, ASPECTS, TITLES, Terms
from .schema import Pair, Policy

__all__ = ["caveats", "differing", "policy_words", "used"]

Info = Mapping[str, Any]
"""The fields of an ``EncoderInfo``; those of an older artifact may lack the newer ones."""

MATCHED = {
    "family": "family",
    "tokenizer_id": "tokenizer",
    "hidden_size": "hidden size",
    "layers": "layers",
    **{aspect: TITLES[aspect] for aspect in ("max_length", "pair_encoding", "pooling")},
    "causal": "causal masking",
    "dropout": TITLES["dropout"],
}
"""What the arms of a matched pair have in common, in words; where they do not, the pair's note says so."""

TOKEN_KINDS = {"tagging": "tagging", "spans": "span reading", "masked-lm": "masked language modelling"}
"""Task kinds whose heads read single tokens, in words."""


def used(info: Info, use: Use) -> dict[str, Any]:
    """The encoder's information as its arm was used."""
    return dict(info) | {aspect: value for aspect, value in vars(use).items() if value is not None}


def differing(infos: Mapping[str, Info], terms: Terms) -> list[str]:
    """What the arms of a pair still differ in when they are used on its terms, in words."""

    def value(arm: str, info: Info, key: str) -> Any:
        use = terms.uses[arm]
        return _in_use(key, info, use) if key == "pooling" else used(info, use)[key]

    return [
        words
        for key, words in MATCHED.items()
        if len({value(arm, info, key) for arm, info in infos.items()}) > 1
    ]


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
    words, own = _in_use(aspect, info, use), _in_use(aspect, info, Use())
    if getattr(use, aspect) is None:
        # equal headline rates do not say that attention and activations have equal ones
        return f"{words} (as trained)" if aspect == "dropout" else words
    if words == own:
        return words
    return (
        f"{words} (accepts {info['max_length']:,})" if aspect == "max_length" else f"{words} (its own: {own})"
    )


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


def caveats(
    pair: Pair, terms: Terms, infos: Mapping[str, Info], longest: int, kinds: Collection[str]
) -> list[dict[str, str]]:
    """``{"arm", "aspect", "text"}`` of all that a reader of the pair's numbers must know; arm "" is the whole pair.

    Args:
        infos: arm -> what its loaded encoder says of itself.
        longest: tokens of the longest input that a task of the suite asks for.
        kinds: kinds of the suite's tasks: what costs only others is not told.
    """
    found = []
    for arm, info in infos.items():
        texts = _of_arm(info, terms.uses[arm], longest, kinds)
        found += [{"arm": arm, "aspect": aspect, "text": text} for aspect, text in texts.items()]
    texts = _of_pair(pair, terms, infos)
    return found + [{"arm": "", "aspect": aspect, "text": text} for aspect, text in texts.items()]


def _of_arm(info: Info, use: Use, longest: int, kinds: Collection[str]) -> dict[str, str]:
    texts = {}
    in_use = used(info, use)
    imposed = [aspect for aspect in ASPECTS if _imposed(aspect, info, in_use, use, longest)]
    if imposed:
        said = "; ".join(f"{TITLES[aspect]} {_got(aspect, info, use)}" for aspect in imposed)
        texts["policy"] = f"used otherwise than by itself, by the pair's policy: {said}"
    if info.get("causal"):
        costs = " and ".join(words for kind, words in TOKEN_KINDS.items() if kind in kinds)
        suffered = f", which costs {costs}, whose heads read single tokens" if costs else ""
        texts["causal"] = f"causal mask: a token sees nothing to its right{suffered}"
    if info.get("attends_padding"):
        padded = f" (every input is padded to {info['pad_to']} tokens)" if info.get("pad_to") else ""
        texts["attends_padding"] = f"attends to its padding{padded}: a text's vectors depend on its length"
    reach, trained = min(in_use["max_length"], longest), info["max_length_trained"]
    if reach > trained:
        texts["max_length_trained"] = f"trained on inputs of up to {trained} tokens, used up to {reach}"
    if in_use["max_length"] < longest:
        windows = ", contexts of questions are read in more windows" if "spans" in kinds else ""
        texts["max_length"] = (
            f"reads {in_use['max_length']} tokens, where tasks of the suite ask for up to {longest}: longer texts are "
            f"cut{windows}"
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


def _imposed(aspect: str, info: Info, in_use: Info, use: Use, longest: int) -> bool:
    """Whether the policy changes what an arm is by itself; a limit that no task comes near changes nothing."""
    if aspect == "max_length":
        return in_use["max_length"] < min(info["max_length"], longest)
    return _in_use(aspect, info, use) != _in_use(aspect, info, Use())


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
