"""A tiny byte-level transformer: any language, no download, weights drawn from a seed."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from xtremex.adapters.base import Encoded, EncoderInfo
from xtremex.errors import ArtifactError

SPECIALS = {"<pad>": 0, "<s>": 1, "</s>": 2}


def byte_tokenizer(max_length):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE({**SPECIALS, **{byte: 3 + i for i, byte in enumerate(alphabet)}}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **names)


class TinyEncoder(nn.Module):
    def __init__(self, info):
        super().__init__()
        self.info = info
        self.tokenizer = byte_tokenizer(info.max_length)
        width = info.hidden_size
        self.embedding = nn.Embedding(3 + 256, width)
        self.position = nn.Embedding(info.max_length, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
            for _ in range(info.layers)
        )

    def forward(self, input_ids, attention_mask):
        states = [self.embedding(input_ids) + self.position.weight[: input_ids.shape[1]]]
        for block in self.blocks:
            states.append(block(states[-1], src_key_padding_mask=attention_mask == 0))
        mask = attention_mask.unsqueeze(-1).to(states[-1].dtype)
        pooled = (states[-1] * mask).sum(1) / mask.sum(1)
        return Encoded(tuple(states), attention_mask, pooled, None)

    def save(self, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), Path(folder) / "model.safetensors")
        (Path(folder) / "info.json").write_text(json.dumps(asdict(self.info)))

    @classmethod
    def load(cls, checkpoint, *, revision=None, width: int = 64):
        if checkpoint == "seed-0":
            facts = {"hidden_size": width, "layers": 2, "max_length_trained": 512, "max_length": 512}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return cls(EncoderInfo(family="tiny", objective="none", tokenizer_id="bytes", **facts)).eval()
        if not (Path(checkpoint) / "info.json").is_file():
            raise ArtifactError(
                f"no encoder in `{checkpoint}`", 'use checkpoint = "seed-0", or a saved folder'
            )
        encoder = cls(EncoderInfo(**json.loads((Path(checkpoint) / "info.json").read_text())))
        try:
            encoder.load_state_dict(load_file(Path(checkpoint) / "model.safetensors"))
        except RuntimeError as error:
            raise ArtifactError(
                f"`{checkpoint}` holds other weights: {error}", "save the encoder again"
            ) from error
        return encoder.eval()
