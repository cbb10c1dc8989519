"""Tiny random checkpoints of whole vision-language and encoder-decoder models, as the hub has them: saved by the library's
own class of the whole, with image tower or decoder, each with a tokenizer of its family."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import tiny_checkpoints
import torch
from tiny_checkpoints import CORPUS, SMALL

from xtremex.adapters import _compat

_compat.prepare()

import transformers  # noqa: E402
from tokenizers import processors  # noqa: E402

VISION = {**SMALL, "image_size": 32, "patch_size": 16}
SIZE = 20
"""Dimensions of the image-text space; no other size of these models."""


@cache
def byte_bpe() -> Any:
    """CLIP's own pipeline, without merges: every letter a token, lower-cased."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={piece: k for k, piece in enumerate(pieces)}, merges=[], model_max_length=77
    )


@cache
def letters() -> dict[str, int]:
    found = sorted({letter for text in CORPUS for letter in text.lower()} - {" "})
    return {letter: k for k, letter in enumerate(["▁", *found])}


@cache
def gemma() -> Any:
    """SigLIP 2's pipeline: Gemma's, lower-cased, closed by ``<eos>``; padded on the left unless told otherwise."""
    specials = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}
    vocabulary: Any = specials | {letter: 5 + k for letter, k in letters().items()}
    tokenizer = transformers.Siglip2Tokenizer(vocab=vocabulary, merges=[], model_max_length=64)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)]
    )
    return tokenizer


@cache
def nllb() -> Any:
    """NLLB's pipeline: ``eng_Latn a </s>``."""
    specials = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    vocabulary: Any = specials | {letter: 4 + k for letter, k in letters().items()}
    return transformers.NllbTokenizer(vocab=vocabulary, merges=[], model_max_length=64)


@cache
def sentencepiece() -> bytes:
    """A sentencepiece model with T5's special tokens: padding 0, end 1, unknown 2."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*CORPUS, *(f"{text.lower()}." for text in CORPUS)] * 5),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def save_sentencepiece(folder: Path, kind: str) -> Any:
    """The files of ``SiglipTokenizer`` or ``T5Tokenizer`` as the hub has them, ``spiece.model`` and no tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(sentencepiece())
    if kind == "siglip":
        tokenizer = transformers.SiglipTokenizer(str(folder / "spiece.model"))
        tokenizer.save_pretrained(folder)
        return tokenizer
    return transformers.T5Tokenizer.from_pretrained(folder, extra_ids=0, additional_special_tokens=[])


def _text(tokenizer: Any, **values: Any) -> dict[str, Any]:
    ids = {
        name: getattr(tokenizer, name)
        for name in ("pad_token_id", "eos_token_id", "bos_token_id")
        if getattr(tokenizer, name) is not None
    }
    return {**SMALL, "vocab_size": len(tokenizer), **ids, **values}


def _composite(name: str, tokenizer: Any, **text: Any) -> Any:
    config = getattr(transformers, f"{name}Config")(
        text_config=_text(tokenizer, **text), vision_config=VISION, projection_dim=SIZE
    )
    return getattr(transformers, f"{name}Model")(config)


def _altclip(folder: Path) -> tuple[Any, Any]:
    tokenizer = tiny_checkpoints.unigram()
    text = {"max_position_embeddings": 66, "project_dim": 24, "attention_probs_dropout_prob": 0.1}
    return _composite("AltCLIP", tokenizer, **text), tokenizer


def _chinese_clip(folder: Path) -> tuple[Any, Any]:
    tokenizer = tiny_checkpoints.wordpiece()
    return _composite("ChineseCLIP", tokenizer, max_position_embeddings=64), tokenizer


def _clip(folder: Path) -> tuple[Any, Any]:
    return _composite("CLIP", byte_bpe()), byte_bpe()


def _metaclip2(folder: Path) -> tuple[Any, Any]:
    tokenizer = tiny_checkpoints.unigram()
    return _composite("MetaClip2", tokenizer), tokenizer


def _siglip(folder: Path) -> tuple[Any, Any]:
    tokenizer = save_sentencepiece(folder, "siglip")
    return _composite("Siglip", tokenizer, projection_size=SIZE), None


def _siglip2(folder: Path) -> tuple[Any, Any]:
    return _composite("Siglip2", gemma(), projection_size=SIZE), gemma()


def _nllb(folder: Path) -> tuple[Any, Any]:
    tokenizer = nllb()
    heads: dict[str, Any] = {
        f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 64))
    }
    config = transformers.M2M100Config(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        max_position_embeddings=64,
        **heads,
    )
    return transformers.M2M100ForConditionalGeneration(config), tokenizer


def _mt5(folder: Path) -> tuple[Any, Any]:
    tokenizer = save_sentencepiece(folder, "t5")
    config = transformers.MT5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    return transformers.MT5ForConditionalGeneration(config), tokenizer


MADE: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "altclip": _altclip,
    "chinese_clip": _chinese_clip,
    "clip": _clip,
    "metaclip_2": _metaclip2,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "m2m_100": _nllb,
    "mt5": _mt5,
}


def write(folder: Path, kind: str, **saving: Any) -> Path:
    """``saving`` goes to ``save_pretrained`` of the whole model, e.g. ``max_shard_size``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model, tokenizer = MADE[kind](folder)
        # biases and gains off their zeros and ones: no weight may be lost unseen
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        # but rows of padding never leave zero in training
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight.data[module.padding_idx] = 0
    model.save_pretrained(folder, **saving)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder
