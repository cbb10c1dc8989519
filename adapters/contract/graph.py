"""Which weights an output was computed from, read off autograd's graph: cheaper than a backward pass of each output."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["nodes", "weights_behind"]


def nodes(last: Any, stop: Any = None) -> set[Any]:
    """The nodes that lead to the node ``last``, itself included, without those reached only through ``stop``."""
    found: set[Any] = set()
    waiting = [last]
    while waiting:
        node = waiting.pop()
        if node is None or node is stop or node in found:
            continue
        found.add(node)
        waiting.extend(before for before, _ in node.next_functions)
    return found


def weights_behind(output: Tensor, module: nn.Module) -> set[str]:
    """Names of the trainable weights of ``module`` that ``output`` was computed from."""
    leaves = {id(node.variable) for node in nodes(output.grad_fn) if hasattr(node, "variable")}
    return {name for name, weight in module.named_parameters() if id(weight) in leaves}
