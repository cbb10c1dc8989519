"""Tiny random checkpoints in the true file layout, with real fast tokenizers: XLM-R, BERT and DeBERTa-v2."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from xtremex.adapters import _compat

_compat.prepare()

import transformers  # noqa: E402
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

CORPUS = [
    "The ship left the harbour in the evening and came back in the morning",
    "Größe und Gewicht müssen übereinstimmen",
    "Корабль прибыл в порт вчера вечером",
    "船は昨日の夜 横浜港に到着しました",
]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@cache
def unigram():
    """XLM-R's pipeline, trained once (two trainings may differ): NFKC, spaces as metaspace, `<s> a </s> </s> b </s>`."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
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


def write(folder: Path, kind: str) -> Path:
    """A checkpoint as the hub has it: saved with its pre-training heads, which an encoder does not load."""
    tokenizer = wordpiece() if kind == "bert" else unigram()
    common = {**SMALL, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "xlm-roberta":
            config = transformers.XLMRobertaConfig(**common, max_position_embeddings=66)
            model = transformers.XLMRobertaForMaskedLM(config)
        elif kind == "bert":
            config = transformers.BertConfig(**common, max_position_embeddings=64)
            model = transformers.BertForPreTraining(config)
        else:
            config = transformers.DebertaV2Config(
                **common,
                max_position_embeddings=64,
                relative_attention=True,
                position_buckets=8,
                norm_rel_ebd="layer_norm",
                share_att_key=True,
                pos_att_type="p2c|c2p",
                position_biased_input=False,
                type_vocab_size=0,
            )
            model = transformers.DebertaV2ForMaskedLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
