"""The masked-LM head of a transformers checkpoint, for masked language modelling as an intermediate task.

An encoder is loaded without its pre-training head. Here the head is fetched from the same checkpoint: the library's
own ``...ForMaskedLM`` with the encoder taken out of it, so that every architecture's head is computed by its own code.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ArtifactError
from . import _compat

__all__ = ["CheckpointHead", "checkpoint_head"]


class CheckpointHead(nn.Module):
    """Token states (N, H) and input embeddings (V, E) -> scores (N, V), as the checkpoint's own head computes them.

    Where the head's decoder is tied to the input embeddings (nearly everywhere), it is tied to those handed in:
    the encoder's own, as they are now. An untied decoder is a part of the head.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        body = getattr(model, model.base_model_prefix)
        decoder = model.get_output_embeddings()
        self._body = _NoBody()
        setattr(model, model.base_model_prefix, self._body)
        self.bias: nn.Parameter | None = None
        self.tied = isinstance(decoder, nn.Linear) and decoder.weight is body.get_input_embeddings().weight
        if self.tied:
            self.bias = decoder.bias
            _replace(model, decoder, nn.Identity())
        self.model = model

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        # DeBERTa's newer head reads the table of its body
        self._body.embeddings.word_embeddings.weight = embeddings
        try:
            scores = self.model(inputs_embeds=states.unsqueeze(0)).logits[0]
        finally:
            self._body.embeddings.word_embeddings.weight = None
        return functional.linear(scores, embeddings, self.bias) if self.tied else scores


class _NoBody(nn.Module):
    """Stands where the encoder stood: its last states are what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = SimpleNamespace(word_embeddings=SimpleNamespace(weight=None))

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=inputs_embeds)  # type: ignore[arg-type]


def checkpoint_head(checkpoint: str, revision: str | None) -> CheckpointHead | None:
    """A fresh copy of the head that a folder or a hub id (at ``revision``) was pre-trained with, float32.

    None where the checkpoint has no complete one: sentence encoders, what ``save`` wrote after fine-tuning, networks
    that came from no checkpoint, and those of a repository's own code. Draws nothing from torch's global generator.
    Raises ``ArtifactError`` for a checkpoint that can no longer be read.
    """
    folder = bool(checkpoint) and Path(checkpoint).is_dir()
    if not folder and revision is None:
        return None
    pinned = {} if folder else {"revision": revision}
    _compat.prepare()
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForMaskedLM

    try:
        try:
            config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False, **pinned)
        except ValueError:  # only the repository's own code knows this configuration
            return None
        if type(config) not in AutoModelForMaskedLM._model_mapping:  # the library's only table of them
            return None
        configs = [config]
        if getattr(config, "legacy", False):
            # DeBERTa-v3's weights lie under the newer names, which its config does not say
            configs.append(copy(config))
            configs[1].legacy = False
        heads = (_loaded(checkpoint, config, pinned) for config in configs)
        return next((head for head in heads if head is not None), None)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"the masked-LM head of `{checkpoint}` cannot be read: {error}", "restore the checkpoint"
        ) from error


def _loaded(checkpoint: str, config: Any, pinned: dict[str, Any]) -> CheckpointHead | None:
    from transformers import AutoModelForMaskedLM

    from .describe import quiet

    with torch.random.fork_rng(devices=[]), quiet():
        model, report = AutoModelForMaskedLM.from_pretrained(
            checkpoint,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            **pinned,
        )
    body = f"{model.base_model_prefix}."
    missing = [key for key in report["missing_keys"] if not str(key).startswith(body)]
    return None if missing else CheckpointHead(model)


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for module in root.modules():
        for name, child in module.named_children():
            if child is old:
                setattr(module, name, new)
