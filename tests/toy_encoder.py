"""A small random transformer with a WordPiece tokenizer: the least that satisfies the adapter protocol."""

from __future__ import annotations

from typing import Literal

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from xtremex.adapters.base import Encoded, EncoderInfo

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = (
    "the a is was it saw today in and of where who what house river dog tree car bottle window garden "
    "mountain letter paris london berlin rome madrid tokyo moscow cairo anna ben carla david emma frank grace henry"
).split()
PLACES_AND_WORDS = [*WORDS, "zeppelin", "x", "café", "北京", "42", "don't"]
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüßéè0123456789.,?!'-我住在北京上海東京กรุงเทพ"


def toy_tokenizer(specials: bool = True) -> PreTrainedTokenizerFast:
    """Whole words for ``WORDS``, single characters for everything else, invisible characters dropped."""
    pieces = dict.fromkeys([*SPECIALS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)])
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    if specials:
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


class ToyEncoder(nn.Module):
    """Two transformer layers of width 48; ``pair_encoding`` says how the kinds are to use it."""

    def __init__(
        self,
        pair_encoding: Literal["joint", "separate"] = "joint",
        *,
        max_length: int = 64,
        unit_norm: bool = False,
        pad_to: int | None = None,
        specials: bool = True,
        text_prefix: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tokens = nn.Embedding(256, 48)
            self.positions = nn.Parameter(torch.randn(max_length, 48) * 0.1)
            layer = nn.TransformerEncoderLayer(48, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.tokenizer = toy_tokenizer(specials)
        self.info = EncoderInfo(
            family="toy",
            objective="none",
            tokenizer_id=f"toy-{specials}",
            hidden_size=48,
            layers=1,
            max_length_trained=max_length,
            max_length=max_length,
            pooled_unit_norm=unit_norm,
            pair_encoding=pair_encoding,
            pad_to=pad_to,
            text_prefix=text_prefix,
        )
        self.calls: list[tuple[int, int]] = []
        """Shapes of the inputs of every forward pass."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        self.calls.append(tuple(input_ids.shape))
        embedded = self.tokens(input_ids) + self.positions[: input_ids.shape[1]]
        states = self.layers(embedded, src_key_padding_mask=attention_mask == 0)
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
        if self.info.pooled_unit_norm:
            pooled = nn.functional.normalize(pooled, dim=-1)
        return Encoded((embedded, states), attention_mask, pooled, None)


class WordReader(nn.Module):
    """Its token states are the token ids: without any context, to see what a kind does with positions."""

    def __init__(self, max_length: int, pair_encoding: Literal["joint", "separate"] = "joint") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.tokenizer = toy_tokenizer()
        self.info = EncoderInfo(
            family="reader",
            objective="none",
            tokenizer_id="toy-True",
            hidden_size=1,
            layers=1,
            max_length_trained=max_length,
            max_length=max_length,
            pair_encoding=pair_encoding,
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        states = input_ids.unsqueeze(-1) * self.weight
        return Encoded((states, states), attention_mask, states.mean(dim=1), None)
