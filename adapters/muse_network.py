"""What multilingual USE is made of: packed tokens, states that are computed when asked for, and an n-gram convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BRANCH_WIDTH", "REACH", "NgramBranch", "Packed", "States"]

BRANCH_WIDTH = 256
REACH = 2
"""Most tokens of context that any window has on either side."""


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
