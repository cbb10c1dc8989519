"""Sentence vectors for tasks in which nothing is trained: several views (layer x pooling) from one forward
pass.

The gains of retrieval depend on the layer (Phang et al. 2020 were scored at a fixed one), so a task can ask
for all.
"""

from __future__ import annotations

import re
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters.base import Encoded, Encoder
from ..errors import SuiteError, nearest
from .base import Model, Task
from .batching import Ids, Template, encode, token_batches, token_limit, tokenise

__all__ = ["PRIMARY", "SentenceVectors", "distinct", "evaluating", "view_names"]

PRIMARY = "layer=last,pool=native"
"""The encoder's own sentence vector, ``Encoded.pooled``: the one view every encoder has, and the one scores
are quoted in."""

_NAME = re.compile(r"layer=(last|\d+),pool=(native|mean|cls)")
_REMEMBERED_TEXTS = 20_000
_REMEMBERED_TOKENS = 2_000_000
_SAMPLE = 65_536


def view_names(task: Task, encoder: Encoder) -> tuple[str, ...]:
    """The views that ``task.options["views"]`` asks for, the primary one first.

    ``"primary"`` (default): the encoder's own sentence vector. ``"layers"``: besides it the mean over tokens
    of every layer. ``"all"``: the mean and the first token ("cls") of every layer. A list names views one by
    one: ``layer=0`` is the embeddings, ``layer=last`` the last layer, pooling ``mean``, ``cls`` or (last
    layer only) ``native``. A mean runs over all attended tokens, special tokens included, as in XTREME and
    jiant. Raises ``SuiteError`` for a view that the encoder does not have.
    """
    asked = task.options.get("views", "primary")
    layers = [*map(str, range(encoder.info.layers)), "last"]
    where = f"task `{task.name}`: options.views"
    if isinstance(asked, str):
        pools = {"primary": (), "layers": ("mean",), "all": ("mean", "cls")}
        if asked not in pools:
            raise SuiteError(f"{where}: `{asked}` is no set of views", nearest(asked, pools))
        return (PRIMARY, *(f"layer={layer},pool={pool}" for pool in pools[asked] for layer in layers))
    known = [PRIMARY, *(f"layer={layer},pool={pool}" for layer in layers for pool in ("mean", "cls"))]
    for name in asked:
        if name not in known:
            raise SuiteError(f"{where}: this encoder has no view `{name}`", nearest(str(name), known))
    return (PRIMARY, *(name for name in dict.fromkeys(asked) if name != PRIMARY))


def distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Distinct texts in order of first appearance, and the position (N,) of each text among them.

    Equal texts get one vector: two copies in different batches differ in the last bits, and a tie between
    them would be decided by rounding.
    """
    found = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    return list(found), np.array([found[text] for text in texts], dtype=np.int64)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode of every submodule is restored afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


class SentenceVectors:
    """Turns texts into unit vectors; a kind holds one, which remembers tokens, and vectors that other
    languages share."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[tuple[object, ...], list[Ids]] = OrderedDict()
        self._model: weakref.ref[Model] | None = None
        self._checksum = 0.0
        self._vectors: dict[tuple[object, ...], dict[str, Tensor]] = {}

    def __call__(
        self, model: Model, task: Task, texts: Sequence[str], *, batch_tokens: int, shared: bool = False
    ) -> dict[str, Tensor]:
        """View name -> (N, H) float32 vectors of unit length, on the encoder's device, in the order of
        ``texts``.

        ``shared`` says that other languages will ask for the same texts (the source-language side of a
        parallel test set): their vectors are kept until another ``Model`` comes or its weights are seen to
        change. Whole lists are kept, never single texts, so that batches (and with them the last bits) do not
        depend on what was asked before.
        """
        names = view_names(task, model.encoder)
        if not shared or len(texts) > _REMEMBERED_TEXTS:
            return self._encode(model.encoder, task, texts, names, batch_tokens)
        checksum = _checksum(cast(nn.Module, model.encoder))
        if self._model is None or self._model() is not model or self._checksum != checksum:
            self._vectors.clear()
            self._model, self._checksum = weakref.ref(model), checksum
        address = (names, token_limit(task, model.encoder), batch_tokens, tuple(texts))
        if address not in self._vectors:
            self._vectors[address] = self._encode(model.encoder, task, texts, names, batch_tokens)
        return self._vectors[address]

    def pooled(self, model: Model, task: Task, texts: Sequence[str], *, batch_tokens: int) -> Tensor:
        """(N, H) float32 native sentence vectors at the encoder's own length, in the order of ``texts``."""
        return self._encode(model.encoder, task, texts, (PRIMARY,), batch_tokens, normalise=False)[PRIMARY]

    def _encode(
        self,
        encoder: Encoder,
        task: Task,
        texts: Sequence[str],
        names: tuple[str, ...],
        batch_tokens: int,
        normalise: bool = True,
    ) -> dict[str, Tensor]:
        inputs = self._tokenised(encoder, texts, token_limit(task, encoder))
        batches = token_batches([len(ids) for ids in inputs], batch_tokens)
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        with evaluating(cast(nn.Module, encoder)):
            for batch in batches:
                encoded = encode(encoder, [inputs[position] for position in batch])
                for name in names:
                    vectors = _pool(encoded, name).float()
                    parts[name].append(functional.normalize(vectors, dim=-1) if normalise else vectors)
        order = torch.as_tensor(np.argsort(np.concatenate(batches), kind="stable"))
        return {name: torch.cat(rows)[order.to(rows[0].device)] for name, rows in parts.items()}

    def _tokenised(self, encoder: Encoder, texts: Sequence[str], limit: int) -> list[Ids]:
        info = encoder.info
        address = (info.tokenizer_id, info.text_prefix, limit, tuple(texts))
        if address not in self._tokens:
            template = Template.of(encoder.tokenizer)
            ids = tokenise(encoder.tokenizer, [info.text_prefix + text for text in texts])
            self._tokens[address] = [template.fit(row, limit) for row in ids]
            held = sum(len(row) for rows in self._tokens.values() for row in rows)
            while held > _REMEMBERED_TOKENS and len(self._tokens) > 1:
                held -= sum(len(row) for row in self._tokens.popitem(last=False)[1])
        self._tokens.move_to_end(address)
        return self._tokens[address]


def _pool(encoded: Encoded, name: str) -> Tensor:
    """(B, H) vectors of one view."""
    if name == PRIMARY:
        return encoded.pooled
    match = _NAME.fullmatch(name)
    assert match is not None, name
    states = encoded.hidden_states[-1 if match[1] == "last" else int(match[1])]
    if match[2] == "cls":
        return states[:, 0]
    mask = encoded.mask.unsqueeze(-1).float()
    return (states.float() * mask).sum(1) / mask.sum(1).clamp(min=1)


def _checksum(module: nn.Module) -> float:
    """A number that an optimizer step changes: the sum of at most 65,536 evenly spaced values of every
    parameter."""
    total = torch.zeros((), dtype=torch.float64)
    for parameter in module.parameters():
        values = parameter.detach().reshape(-1)
        total += values[:: max(1, len(values) // _SAMPLE)].double().sum().cpu()
    return float(total)
