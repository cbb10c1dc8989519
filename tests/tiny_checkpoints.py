"""Tiny random checkpoints of plain encoders in the true file layout, with real fast tokenizers."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from xtremex.adapters import _compat

_compat.prepare()

import transformers  # noqa: E402
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

CORPUS = [
    "The ship left the harbour in the evening and came back in the morning",
    "Größe und Gewicht müssen übereinstimmen",
    "Корабль прибыл в порт вчера вечером",
    "船は昨日の夜 横浜港に到着しました",
]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@cache
def unigram():
    """XLM-R's pipeline: NFKC, spaces as metaspace, `<s> a </s> </s> b </s>`.

    Its pieces are counted here: two trainings with the library may differ, and so would tests in two processes.
    """
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = Counter(f"▁{word}" for text in CORPUS for word in unicodedata.normalize("NFKC", text).split())
    letters = Counter("".join(words.elements()))
    parts = Counter(
        word[i:j] for word in words.elements() for i in range(len(word)) for j in range(i + 2, len(word) + 1)
    )
    room = 120 - len(specials) - len(letters)
    kept = sorted(parts.items(), key=lambda item: (-item[1] * len(item[0]), item[0]))[:room]
    pieces = dict(kept) | letters
    total = sum(pieces.values())
    scores = [(piece, math.log(count / total)) for piece, count in sorted(pieces.items())]
    tokenizer = Tokenizer(models.Unigram([*((name, 0.0) for name in specials), *scores], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
    }
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", mask_token="<mask>", model_max_length=64, **names
    )


@cache
def wordpiece():
    """BERT's pipeline: token type 1 for the second text of a pair."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=specials, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", model_max_length=64, **names
    )


def _plain(name: str, **values: Any) -> Callable[[dict[str, Any]], Any]:
    """A masked language model of transformers with these values beside the common ones."""

    def build(common: dict[str, Any]) -> Any:
        config = getattr(transformers, f"{name}Config")(**common, **values)
        return getattr(transformers, f"{name}{'ForPreTraining' if name == 'Bert' else 'ForMaskedLM'}")(config)

    return build


MADE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "xlm-roberta": _plain("XLMRoberta", max_position_embeddings=66),
    "bert": _plain("Bert", max_position_embeddings=64),
    "deberta-v2": _plain(
        "DebertaV2",
        max_position_embeddings=64,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        type_vocab_size=0,
    ),
    "distilbert": _plain("DistilBert", max_position_embeddings=64),
    "modernbert": _plain(
        "ModernBert", max_position_embeddings=64, local_attention=16, cls_token_id=0, sep_token_id=2
    ),
    "eurobert": _plain("EuroBert", max_position_embeddings=64, num_key_value_heads=2),
    "jina_embeddings_v3": _plain("JinaEmbeddingsV3", max_position_embeddings=64),
}
"""Plain encoders by ``model_type``: mBERT and LaBSE are ``bert``, mE5 and XLM-V ``xlm-roberta``, mmBERT ``modernbert``."""


def write(folder: Path, kind: str) -> Path:
    """A checkpoint as the hub has it: saved with its pre-training heads, which an encoder does not load."""
    tokenizer = wordpiece() if kind in ("bert", "distilbert") else unigram()
    common = {**SMALL, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if kind == "distilbert":
        names = ("dim", "n_layers", "n_heads", "hidden_dim")
        common |= dict(zip(names, SMALL.values(), strict=True))
        common = {name: value for name, value in common.items() if name not in SMALL}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MADE[kind](common)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
