"""What the server of fresh processes imports once, so that each of them need not: a library's seconds, nobody's state."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from .. import _compat

_LIBRARIES = ("torch", "transformers.modeling_utils", "transformers.tokenization_utils_tokenizers")


def _import() -> None:
    """Quietly: the server shares the screen of whoever started it. What fails here fails, and is told, in the process."""
    with open(os.devnull, "wb") as nowhere:
        kept = [os.dup(stream) for stream in (1, 2)]
        try:
            for stream in (1, 2):
                os.dup2(nowhere.fileno(), stream)
            for name in _LIBRARIES:
                with contextlib.suppress(Exception):
                    _compat.prepare()
                    importlib.import_module(name)
        finally:
            for stream, held in zip((1, 2), kept, strict=True):
                os.dup2(held, stream)
                os.close(held)


if "multiprocessing.forkserver" in sys.modules:
    _import()
