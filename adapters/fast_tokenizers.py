"""Fast tokenizers on the vocabularies of slow ones, and what both leave out or put before a text."""

from __future__ import annotations

import re
from typing import Any

from ..errors import SuiteError, unknown
from .families import Family

__all__ = ["language_code", "left_out", "rebuilt", "settled", "speaking"]

CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
"""Language tokens of NLLB: ISO 639-3 and script."""


def rebuilt(slow: Any) -> Any | None:
    """A fast tokenizer on the vocabulary of ``SiglipTokenizer``, the same but for its cleaning of the text, which moves
    the characters; None for any other class.

    SigLIP's vocabularies are those of T5 and mT5: padding 0, end 1, unknown 2. Texts are padded with the end token.
    """
    if type(slow).__name__ != "SiglipTokenizer":
        return None
    from tokenizers.models import Unigram
    from transformers import T5Tokenizer
    from transformers.convert_slow_tokenizer import SentencePieceExtractor

    parts: Any = SentencePieceExtractor(slow.vocab_file).extract(Unigram)
    return T5Tokenizer(
        vocab=parts["vocab"],
        _spm_precompiled_charsmap=parts.get("_spm_precompiled_charsmap"),
        extra_ids=0,
        additional_special_tokens=[],
        eos_token=str(slow.eos_token),
        unk_token=str(slow.unk_token),
        pad_token=str(slow.pad_token),
        model_max_length=slow.model_max_length,
    )


def left_out(family: Family, tokenizer: Any) -> str:
    """The part of the family's cleaning that ``tokenizer`` does not do (``EncoderInfo.cleaning``)."""
    if not family.cleaning:
        return ""
    if type(tokenizer.backend_tokenizer.model).__name__ == "Unigram":
        return family.cleaning
    # SigLIP 2, which also comes as model_type `siglip`, has Gemma's BPE, and only lower-cases
    folds = (
        tokenizer("A", add_special_tokens=False)["input_ids"]
        == tokenizer("a", add_special_tokens=False)["input_ids"]
    )
    return "" if folds else "lower"


def language_code(tokenizer: Any) -> str | None:
    """The language token that ``tokenizer`` puts before every text; None where it puts none."""
    first = tokenizer.convert_ids_to_tokens(tokenizer("a")["input_ids"][0])
    return first if CODE.fullmatch(first) else None


def speaking(tokenizer: Any, code: str, checkpoint: str) -> Any:
    """``tokenizer`` with the language token ``code`` before every text, and the first text of a pair closed as the second.

    NLLB's own class sets the first anew at each call, and runs the texts of a pair, which it never saw, together: no reader
    of the ids could tell where the second one starts. So this is a plain fast tokenizer.

    Raises:
        SuiteError: a tokenizer that puts no language code before a text.
        UnknownName: a language that it does not know.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    if language_code(tokenizer) is None:
        raise SuiteError(
            f"the tokenizer of `{checkpoint}` puts no language code before a text", "remove `language_code`"
        )
    codes = sorted(token for token in tokenizer.get_vocab() if CODE.fullmatch(token))
    if code not in codes:
        raise unknown("language code", code, codes)
    end = tokenizer.eos_token
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single=[code, "$A", end],
        pair=[code, "$A", end, "$B", end],
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in (code, end)],
    )
    names = [f"{name}_token" for name in ("bos", "eos", "sep", "cls", "unk", "pad", "mask")]
    found = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        extra_special_tokens=codes,
        **{name: getattr(tokenizer, name) for name in names},
    )
    return settled(found)


def settled(tokenizer: Any) -> Any:
    """``tokenizer`` as every task uses it: padding and cutting at the end, and reading the names of special tokens as text.

    A ``[SEP]`` that somebody wrote would otherwise be one, and nothing in the ids would tell it from the end of a text.
    """
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.split_special_tokens = True
    return tokenizer
