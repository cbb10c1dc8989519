"""Pickling of encoders: transformers leaves local functions in the modules' hooks, which cannot be pickled."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import torch
from torch import nn

from . import _compat

__all__ = ["Portable"]


class Portable(nn.Module):
    """A module that is pickled as its tensors, its frozen parameters, and the arguments of an empty one.

    Buffers that are not saved (positions, masks) go along, so that an empty module may be built on the meta device.
    """

    @abstractmethod
    def _blank_arguments(self) -> tuple[Any, ...]:
        """What ``_blank`` needs, all of it picklable."""

    @classmethod
    @abstractmethod
    def _blank(cls, *arguments: Any) -> Self:
        """A module of the same tensors, whatever their values."""

    def __reduce__(self) -> tuple[Any, ...]:
        saved = self.state_dict()
        state = {
            "tensors": saved,
            "buffers": {name: buffer for name, buffer in self.named_buffers() if name not in saved},
            "frozen": [name for name, parameter in self.named_parameters() if not parameter.requires_grad],
            "training": self.training,
        }
        return _rebuild, (type(self), self._blank_arguments(), state)


def _rebuild(kind: type[Portable], arguments: tuple[Any, ...], state: dict[str, Any]) -> Portable:
    _compat.prepare()
    with torch.random.fork_rng(devices=[]):  # constructors draw weights, which are replaced at once
        module = kind._blank(*arguments)
    module.load_state_dict(state["tensors"], assign=True)
    for name, buffer in state["buffers"].items():
        owner, _, leaf = name.rpartition(".")
        module.get_submodule(owner).register_buffer(leaf, buffer, persistent=False)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    return module.train(state["training"])
