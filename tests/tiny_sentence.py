"""Tiny random checkpoints of sentence-transformers, written by the library's own ``save``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny_checkpoints
import torch

from xtremex.adapters import _compat

_compat.prepare()

import transformers  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.sentence_transformer import modules  # noqa: E402

KINDS = ("e5", "distilbert", "labse", "qwen")


def transformer(folder: Path, kind: str) -> Path:
    """The transformer inside: XLM-R, DistilBERT or BERT."""
    if kind != "distilbert":
        return tiny_checkpoints.write(folder, "bert" if kind == "labse" else "xlm-roberta")
    tokenizer = tiny_checkpoints.wordpiece()
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
    )
    transformers.DistilBertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_sentence(folder: Path, kind: str) -> Path:
    """Stacks as on the hub.

    Kinds: ``e5`` mean and norm, with a default prompt; ``distilbert`` mean and a dense layer without activation, as
    clip-ViT-B-32-multilingual-v1, trained on 48 tokens; ``labse`` first token, dense layer with tanh, and norm;
    ``qwen`` last token, layer norm, dropout and a dense layer without bias.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        inside = modules.Transformer(str(transformer(folder.with_name(f"{folder.name}-inside"), kind)))
        stack: dict[str, list[Any]] = {
            "e5": [modules.Pooling(32, "mean"), modules.Normalize()],
            "distilbert": [modules.Pooling(32, "mean"), modules.Dense(32, 20, activation_function=None)],
            "labse": [modules.Pooling(32, "cls"), modules.Dense(32, 32), modules.Normalize()],
            "qwen": [
                modules.Pooling(32, "lasttoken"),
                modules.LayerNorm(32),
                modules.Dropout(0.1),
                modules.Dense(32, 20, bias=False, activation_function=torch.nn.GELU()),
            ],
        }
        model = SentenceTransformer(modules=[inside, *stack[kind]], device="cpu")
        # biases and gains off their zeros and ones: no weight may be lost unseen
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    if kind == "e5":
        model.prompts = {"query": "query: ", "passage": "passage: "}
        model.default_prompt_name = "query"
    if kind == "distilbert":
        model.max_seq_length = 48
    model.save(str(folder), create_model_card=False)
    return folder
