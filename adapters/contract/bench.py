"""What the checks share: one encoder on the bench, its saved copy, comparison, and the shortest counter-example."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base import Encoded
from .texts import SENTENCES

__all__ = [
    "TOLERANCE",
    "Bench",
    "Failed",
    "Skipped",
    "compare",
    "difference",
    "encode",
    "every",
    "expect",
    "outputs",
]

TOLERANCE = 1e-4
"""Largest difference, relative to the largest state, that reordered float32 sums may cause."""
SEED = 20_260_000
"""Seeds of the loads count from here; one that nobody would choose shows whether a load sets its own."""
TRIES = 60
"""Further runs of a failed check that look for a shorter text; they cost time only where something is wrong."""


class Failed(Exception):
    """A promise that was not kept. ``example`` is the shortest text found that shows it, or empty."""

    def __init__(self, message: str, example: str = "") -> None:
        super().__init__(message)
        self.example = example


class Skipped(Exception):
    pass


class Bench:
    """One encoder under test, in eval mode; what several checks need of it is made once."""

    def __init__(self, encoder: Any, again: Callable[[], Any] | None = None) -> None:
        self.encoder = encoder
        self.again = again
        self.device = _device(encoder)
        self.reseeded = False
        """Whether a load set the seed of torch's generator, on which all other randomness stands."""
        self._folders = tempfile.TemporaryDirectory()

    def close(self) -> None:
        self._folders.cleanup()

    @cached_property
    def saved(self) -> Path:
        """A folder that the encoder's own ``save`` wrote."""
        folder = Path(self._folders.name) / "saved"
        self.encoder.save(folder)
        return folder

    @cached_property
    def reloaded(self) -> Any:
        """The encoder of ``saved``."""
        return self.load(1)

    def loaded_again(self) -> Any:
        """A second encoder of the same weights, loaded while torch's generator stands somewhere else."""
        return self.load(2, self.again)

    def load(self, place: int, how: Callable[[], Any] | None = None) -> Any:
        """What ``how`` loads, by default the encoder of ``saved``, on the device of the encoder under test.

        Loads of different ``place`` find torch's generator in different places.
        """
        seed = SEED + place
        with torch.random.fork_rng(devices=self.accelerators):
            torch.manual_seed(seed)
            copy = how() if how else type(self.encoder).load(str(self.saved))
            self.reseeded |= torch.initial_seed() != seed
        return copy.eval().to(self.device)

    @property
    def accelerators(self) -> list[torch.device]:
        """Devices with a generator of their own."""
        return [self.device] if self.device.type == "cuda" else []

    def generators(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self.accelerators)]

    def encode(self, texts: Iterable[str], length: int = 0, limit: int = 0) -> tuple[Tensor, Tensor]:
        return encode(self.encoder, texts, length, limit)

    def forward(self, ids: Tensor, mask: Tensor) -> Encoded:
        with torch.no_grad():
            return self.encoder(ids, mask)


def _device(encoder: Any) -> torch.device:
    tensor = next(
        (tensor for tensors in (encoder.parameters(), encoder.buffers()) for tensor in tensors), None
    )
    return torch.device("cpu") if tensor is None else tensor.device


def encode(encoder: Any, texts: Iterable[str], length: int = 0, limit: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, T) of ``texts`` on the encoder's device, cut at ``limit`` tokens.

    They are padded to the longest text, or to ``length``, or to what the encoder demands.
    """
    target = encoder.info.pad_to or length
    batch = encoder.tokenizer(
        list(texts),
        padding="max_length" if target else "longest",
        truncation=True,
        max_length=target or limit or encoder.info.max_length,
        return_tensors="pt",
    )
    device = _device(encoder)
    return batch["input_ids"].to(device), batch["attention_mask"].to(device)


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise Failed(message)


def difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference, relative to the largest value of ``a`` (but not to less than 1)."""
    scale = max(1.0, float(a.abs().max()))
    return float((a - b).abs().max()) / scale


def outputs(out: Encoded) -> dict[str, Tensor]:
    """Name -> tensor of all that a forward pass gives, the mask left out."""
    named = {f"hidden_states[{k}]": states for k, states in enumerate(out.hidden_states)}
    named["pooled"] = out.pooled
    return named if out.projected is None else {**named, "projected": out.projected}


def compare(what: str, one: Encoded, other: Encoded, rows: tuple[int, int], tokens: int) -> float:
    """Largest difference between row ``rows[0]`` of one pass and ``rows[1]`` of another: states of the first ``tokens``
    tokens, and the sentence vectors. ``Failed`` where it exceeds ``TOLERANCE``."""
    worst = 0.0
    theirs = outputs(other)
    for name, ours in outputs(one).items():
        a, b = ours[rows[0]], theirs[name][rows[1]]
        if a.dim() == 2:
            a, b = a[:tokens], b[:tokens]
        found = difference(a, b)
        # not `found > TOLERANCE`: that is false for nan
        expect(found <= TOLERANCE, f"{name} changes by {found:.1e} {what} (allowed: {TOLERANCE:.0e})")
        worst = max(worst, found)
    return worst


def every(test: Callable[[str], Any], texts: Iterable[str] = SENTENCES) -> list[Any]:
    """What ``test`` says of each text, shortest text first; a failure is told of the shortest text that still fails."""
    found = []
    for text in sorted(texts, key=len):
        try:
            found.append(test(text))
        except Exception as reason:
            raise _shortest(test, text, reason) from None
    return found


def _shortest(test: Callable[[str], Any], text: str, reason: Exception) -> Exception:
    """The failure of the shortest text found within ``text``: one of its words, then cut from both ends."""
    left = TRIES

    def fails(shorter: str) -> Exception | None:
        nonlocal left
        left -= 1
        try:
            test(shorter)
        except type(reason) as found:
            return found
        except Exception:
            pass  # another fault, for instance of a text too short for this check
        return None

    for word in sorted(set(text.split()) - {text}, key=len):
        if left > 0 and (found := fails(word)):
            text, reason = word, found
            break
    shrunk = True
    while shrunk and len(text) > 1 and left > 0:
        shrunk = False
        for shorter in (text[: len(text) // 2], text[len(text) // 2 :], text[:-1], text[1:]):
            # a text that starts with a space or with a mark without its letter may show another fault
            whole = shorter.strip() == shorter and unicodedata.category(shorter[0])[0] != "M"
            if whole and left > 0 and (found := fails(shorter)):
                text, reason, shrunk = shorter, found, True
                break
    if isinstance(reason, Failed):
        return Failed(str(reason), text)
    return Failed(f"{type(reason).__name__}: {reason}", text)
