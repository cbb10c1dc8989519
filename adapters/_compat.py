"""Lets transformers, timm and open_clip import beside a torchvision that was built for another torch.

The torchvision wheels of PyPI are CUDA builds. On a CPU-only torch their C++ library cannot be loaded, torchvision
swallows that, and its next line registers a fake kernel for an operator that was never declared: ``RuntimeError:
operator torchvision::nms does not exist``. Everything that imports torchvision then fails, transformers' models
included. Declaring the schemas of the missing operators first is enough: their kernels stay absent, and neither text
encoders nor image transforms call them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import cache
from typing import Any

__all__ = ["prepare"]

_OPERATORS = ("nms", "qnms")


@cache
def prepare() -> Any:
    """Call before the first import of transformers, timm, open_clip or torchvision; costs nothing when repeated.

    Also switches the tokenizers' thread pool off, unless ``TOKENIZERS_PARALLELISM`` is already set: its results do not
    depend on it, but forked workers would warn and busy cores would slow down.

    Returns:
        The torch library that holds the declarations (``cache`` keeps it alive, as it must be), or None where
        torchvision is absent or imports by itself.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if importlib.util.find_spec("torchvision") is None or importlib.util.find_spec("torch") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return None
    import torch

    # the failed import left half of torchvision's modules behind
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    importlib.import_module("torchvision")
    return library
