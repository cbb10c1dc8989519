"""Text encoders of transformers checkpoints, loaded by the library itself and refused where a weight would stay random.

Text encoders of composite and encoder-decoder models are loaded as the *whole* model without its other modules, never by
a class of their own: ``AltCLIPTextModel.from_pretrained`` and ``ChineseCLIPTextModel.from_pretrained`` of a full
checkpoint look for other names than it has, find none, and leave every weight random with a warning (transformers 5.23).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ArtifactError
from .checkpoints import BUFFERS, refuse_wrong_weights
from .describe import first_line, quiet
from .families import Family, family_of

__all__ = ["blueprint", "empty", "headless", "load_model", "read_config", "read_folder", "without_pooler"]

HEADS = frozenset(
    "cls lm_head lm_predictions mask_predictions predictions pooler classifier qa_outputs head vocab_projector "
    "vocab_transform vocab_layer_norm decoder final_logits_bias".split()
)
"""First component of weights that hang behind an encoder: pre-training heads and poolers. Leaving them out is harmless."""


def read_config(folder: Path, checkpoint: str, trust_remote_code: bool) -> Any:
    """The configuration of a transformers folder; ``ArtifactError`` where it is of no known type."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except StrictDataclassError as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"the config.json of `{checkpoint}` is wrong: {reason}", "mend it") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"`{checkpoint}`: {first_line(error)}", "check its config.json") from error


def load_model(folder: Path, config: Any, checkpoint: str, trust_remote_code: bool) -> Any:
    """The text encoder in ``folder``, float32, with exactly the stored weights; its modules have the names of the whole.

    Raises:
        SuiteError: a model whose text encoder cannot be taken out (``families``).
        ArtifactError: no complete safetensors, or missing, unexpected or misshapen weights.
    """
    from transformers import MODEL_MAPPING, AutoModel

    family, kind = family_of(config, checkpoint), MODEL_MAPPING.get(type(config), None)
    if family.kept:
        loader, options = _text_only(kind, family), {}
    else:
        loader, options = AutoModel, without_pooler(kind) | {"trust_remote_code": trust_remote_code}
    model, report = read_folder(loader, folder, config, checkpoint, **options)
    harmless = _harmless(model)
    refuse_wrong_weights(
        model,
        checkpoint,
        missing=map(str, report["missing_keys"]),
        misshapen=map(str, report["mismatched_keys"]),
        unexpected=(key for key in report["unexpected_keys"] if not harmless(key)),
    )
    return _untied(model, family)


def read_folder(
    loader: Any, folder: Path, config: Any, checkpoint: str, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """What ``loader.from_pretrained`` makes of a folder in float32, from safetensors only, and its report of the weights.

    The report is for the caller to judge: what is missing was drawn at random. ``ArtifactError`` where nothing can be read.
    """
    from safetensors import SafetensorError

    try:
        with quiet():
            return loader.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"the weights of `{checkpoint}` cannot be loaded: {first_line(error)}",
            "only complete safetensors are read (no pointers of git LFS); a repository without them often has them at "
            "another revision",
        ) from error


def blueprint(model: Any) -> tuple[Any, ...]:
    """What ``empty`` needs to build such a model: its configuration, its class and the constructor's keywords, picklable."""
    if family_of(model.config, model.name_or_path).kept:
        return model.config, None, {}
    # a class of a repository's own was loaded as it came, with its pooler
    pooled = getattr(model, "pooler", None) is not None
    return model.config, type(model), {} if pooled else without_pooler(type(model))


def empty(config: Any, kind: Any, options: dict[str, bool]) -> Any:
    """A model with the modules of the one that ``blueprint`` was taken from, whatever its weights."""
    from transformers import MODEL_MAPPING

    family = family_of(config, config.name_or_path)
    if not family.kept:
        return kind(config, **options)
    return _untied(_text_only(MODEL_MAPPING[type(config)], family)(config), family)


def without_pooler(kind: Any) -> dict[str, bool]:
    """Constructor keywords that leave the pooler out: it is random in most checkpoints, and nothing reads it."""
    accepts = inspect.isclass(kind) and "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


def headless(config: Any) -> bool:
    """Whether the text tower has no projection, as SigLIP So400m i18n says; transformers 5.23 does not read it, and would
    draw a random one."""
    return any(getattr(part, "no_head", False) for part in (config, getattr(config, "text_config", None)))


def _text_only(kind: Any, family: Family) -> Any:
    """The library's class of the whole model, without the modules and scalars that are not its text encoder's.

    It has the library's name and module, so that it is loaded, renamed and saved as the whole would be.
    """

    def __init__(self: Any, config: Any) -> None:
        kind.__init__(self, config)
        parts = (*self.named_children(), *self.named_parameters(recurse=False))
        self.left_out = {name for name, _ in parts} - family.kept
        for name in self.left_out:
            delattr(self, name)
        if headless(config):
            for path in family.projections:
                self.set_submodule(path, nn.Identity())

    def _init_weights(self: Any, module: nn.Module) -> None:
        if module is not self:  # the library would reach for the modules left out
            kind._init_weights(self, module)

    ties = kind._tied_weights_keys or {}
    body = {
        "__init__": __init__,
        "_init_weights": _init_weights,
        "_tied_weights_keys": {name: to for name, to in ties.items() if name.split(".")[0] in family.kept},
        "__module__": kind.__module__,
    }
    return type(kind.__name__, (kind,), body)


def _untied(model: Any, family: Family) -> Any:
    """One name for the token embeddings: tensors with two cannot be stored as safetensors."""
    if family.tied:
        delattr(model, family.tied)
    return model


def _harmless(model: Any) -> Callable[[str], bool]:
    """Whether a stored tensor that the model has no place for may be dropped."""
    own = {name for name, _ in model.named_children()}
    others = HEADS | getattr(model, "left_out", set())
    prefix = f"{model.base_model_prefix}."

    def harmless(key: str) -> bool:
        parts = key.removeprefix(prefix).split(".")
        if parts[-1] in BUFFERS or (parts[0] in others and parts[0] not in own):
            return True
        return "pooler" in parts and hasattr(model, "left_out")  # of towers that older classes built with one

    return harmless
