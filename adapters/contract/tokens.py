"""Checks of the tokenizer: offsets into the text, pre-split words, pairs of texts, the language token."""

from __future__ import annotations

from typing import Any

import torch

from .bench import TOLERANCE, Bench, Failed, Skipped, difference, every, expect
from .texts import PAIR, SCRIPTS, SENTENCES, visible

__all__ = ["language_code", "offsets", "pairs", "words"]

OPENING = ("bos_token_id", "cls_token_id")
CLOSING = ("eos_token_id", "sep_token_id")


def offsets(bench: Bench) -> str:
    tokenizer = bench.encoder.tokenizer

    def come_back(text: str) -> int:
        coded = tokenizer(text, return_offsets_mapping=True)
        spans = [span for span in coded["offset_mapping"] if span[1] > span[0]]
        expect(spans == sorted(spans), f"offsets run backwards: {spans}")
        expect(all(0 <= a < b <= len(text) for a, b in spans), f"offsets leave the text: {spans}")
        end = 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            kept = [start + place for place in visible(word)]
            if not kept:
                continue
            first, last = coded.char_to_token(kept[0]), coded.char_to_token(kept[-1])
            expect(None not in (first, last), f"no token holds the ends of `{word}`")
            found = text[coded["offset_mapping"][first][0] : coded["offset_mapping"][last][1]]
            expect(_bare(found) == _bare(word), f"`{word}` comes back from its tokens as `{found}`")
        return len(text.split())

    found = _every_script(come_back)
    return f"{sum(found)} words in {len(SCRIPTS)} scripts come back"


def words(bench: Bench) -> str:
    tokenizer = bench.encoder.tokenizer

    def have_tokens(text: str) -> int:
        given = text.split()
        coded = tokenizer(given, is_split_into_words=True, return_offsets_mapping=True)
        ids = [word for word in coded.word_ids() if word is not None]
        expect(ids == sorted(ids), f"word ids run backwards: {ids}")
        lost = [word for k, word in enumerate(given) if k not in ids and visible(word)]
        expect(not lost, f"words without a token: {', '.join(lost)}")
        held: dict[int, list[tuple[int, int]]] = {}
        for word, span in zip(coded.word_ids(), coded["offset_mapping"], strict=True):
            if word is not None:
                held.setdefault(word, []).append(span)
        for k, spans in held.items():
            word = given[k]
            inside = all(0 <= start <= end <= len(word) for start, end in spans)
            expect(inside, f"offsets {spans} leave the word `{word}`; they must count from its start")
            found = word[min(start for start, _ in spans) : max(end for _, end in spans)]
            expect(_bare(found) == _bare(word), f"the tokens of the word `{word}` hold only `{found}`")
        return len(given)

    found = _every_script(have_tokens)
    return f"each of {sum(found)} words in {len(SCRIPTS)} scripts has its tokens, in order"


def _every_script(test: Any) -> list[Any]:
    try:
        return every(test, SCRIPTS.values())
    except Failed as reason:
        script = next((name for name, text in SCRIPTS.items() if reason.example in text), "")
        raise Failed(f"{reason} ({script})", reason.example) from None


def _bare(text: str) -> str:
    return "".join(text[place] for place in visible(text))


def pairs(bench: Bench) -> str:
    encoder = bench.encoder
    info, tokenizer = encoder.info, encoder.tokenizer
    if info.pair_encoding == "separate":
        raise Skipped("info.pair_encoding = separate: the two texts of a pair are encoded apart")
    a, b, c = PAIR
    padded: dict[str, Any] = {"padding": "max_length", "max_length": info.pad_to} if info.pad_to else {}
    results = []
    # only the text that is *not* looked at may differ: a causal encoder looks back, others look both ways
    looked_at, variants = (1, [(a, b), (c, b)]) if info.causal else (0, [(a, b), (a, c)])
    for pair in variants:
        coded = tokenizer(*pair, **padded)
        parts = coded.sequence_ids()
        expect({0, 1} <= set(parts), "the tokenizer does not tell the texts of a pair apart (sequence_ids)")
        ids, mask = (
            torch.tensor([coded[name]], device=bench.device) for name in ("input_ids", "attention_mask")
        )
        chosen = torch.tensor([part == looked_at for part in parts], device=bench.device)
        results.append(bench.forward(ids, mask).hidden_states[-1][0, chosen])
    expect(results[0].shape == results[1].shape, "the tokens of one text depend on the other text")
    expect(
        difference(*results) > TOLERANCE,
        "attention does not cross the pair; info.pair_encoding should be `separate`",
    )
    return f"attention crosses the pair, {_separator(tokenizer, a, b)} between the texts"


def _separator(tokenizer: Any, a: str, b: str) -> str:
    """The special tokens between the texts of a pair; a tokenizer that closes single texts must put some there."""
    single, pair = tokenizer(a), tokenizer(a, b)
    parts = single.sequence_ids()
    after = len(parts) - parts[::-1].index(0)
    closing = tokenizer.convert_ids_to_tokens(single["input_ids"][after:])
    parts = pair.sequence_ids()
    start, stop = len(parts) - parts[::-1].index(0), parts.index(1)
    between = tokenizer.convert_ids_to_tokens(pair["input_ids"][start:stop])
    if between:
        return f"with {' '.join(between)}"
    if closing:
        raise Failed(
            f"nothing stands between the texts of a pair, though {' '.join(closing)} closes a single text: a reader of "
            "the ids cannot tell where the second text starts",
            f"{a} | {b}",
        )
    raise Skipped(
        "attention crosses the pair; but this tokenizer closes no text and puts nothing between two, so that a pair "
        "reads as one text"
    )


def language_code(bench: Bench) -> str:
    encoder = bench.encoder
    tokenizer, declared = encoder.tokenizer, encoder.info.language_code
    named = {getattr(tokenizer, name, None) for name in (*OPENING, *CLOSING, "pad_token_id")}

    def frame(text: str) -> tuple[set[int], set[int]]:
        """Ids before a text and behind it that come from none of its characters."""
        coded = tokenizer(text)
        ids, parts = coded["input_ids"], coded.sequence_ids()
        if 0 not in parts:  # nothing left of the text, so all that stands there may be either
            return set(ids), set(ids)
        start, stop = parts.index(0), len(parts) - parts[::-1].index(0)
        return set(ids[:start]), set(ids[stop:])

    if declared is not None:
        number = tokenizer.get_vocab().get(declared)
        expect(number is not None, f"info.language_code = {declared}, which is no token of this tokenizer")

        def opened(text: str) -> None:
            expect(
                number in set.union(*frame(text)),
                f"info.language_code = {declared}, but a text is encoded without it",
            )

        every(opened)
        return f"{declared} stands with every text, whatever its language"
    frames = [frame(text) for text in SENTENCES]
    doubtful: set[int] = set()
    for roles, ids in zip((OPENING, CLOSING), zip(*frames, strict=True), strict=True):
        common = set.intersection(*ids) - named
        codes = _tokens(tokenizer, common)
        if all(getattr(tokenizer, role, None) is None for role in roles):
            doubtful |= common
            continue
        expect(not common, f"{codes} stands with every text; info.language_code must say so")
    if doubtful:
        raise Skipped(
            f"{_tokens(tokenizer, doubtful)} stands with every text, and the tokenizer names no token that opens or closes "
            "one (bos_token, eos_token, ...): whether it is a language cannot be told"
        )
    return "none declared, none put to texts"


def _tokens(tokenizer: Any, ids: set[int]) -> str:
    return ", ".join(tokenizer.convert_ids_to_tokens(sorted(ids)))
