"""The other side of the pickling check: a fresh process that opens an encoder and runs it."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from pathlib import Path

__all__ = ["run"]


def run(folder: str, threads: int, shim: bool) -> None:
    """Open ``encoder.pickle`` of ``folder``, run it on ``batch.pt``, write ``outputs.pt``, or the error to ``error.txt``."""
    place = Path(folder)
    # the caller's screen is not this process's: what libraries say on import would land in the middle of a table
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(quiet, stream.fileno())
    try:
        import torch

        torch.set_num_threads(threads)
        if shim:  # as the caller had it: transformers may not import without
            from .. import _compat

            _compat.prepare()
        from .bench import outputs

        with (place / "encoder.pickle").open("rb") as file:
            encoder = pickle.load(file)
        batch = torch.load(place / "batch.pt", weights_only=True)
        with torch.no_grad():
            out = outputs(encoder(batch["ids"], batch["mask"]))
        torch.save({name: tensor.contiguous() for name, tensor in out.items()}, place / "outputs.pt")
    except Exception as error:
        (place / "error.txt").write_text(
            "".join(traceback.format_exception_only(error)).strip().splitlines()[-1], encoding="utf-8"
        )
