"""What the adapters of other layouts than transformers' share: a pinned folder, the configuration inside, exact weights."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import ArtifactError, SuiteError
from .base import EncoderInfo
from .describe import first_line
from .fast_tokenizers import language_code, rebuilt, settled, speaking
from .layouts import PICKED, SKIPPED, check_pinned
from .records import read_json, write_info

__all__ = [
    "fast_tokenizer",
    "find",
    "inner_config",
    "load_exactly",
    "read_json",
    "read_weights",
    "refuse_wrong_weights",
    "write_checkpoint",
]

BUFFERS = ("position_ids", "token_type_ids")
"""Buffers that old checkpoints stored and new classes compute."""

_XLM_R: dict[str, Any] = {
    "vocab_size": 250002,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
_NLLB: dict[str, Any] = {
    "vocab_size": 256206,
    "d_model": 1024,
    "max_position_embeddings": 1024,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "scale_embedding": True,
    "activation_function": "relu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def _stacks(layers: int, ffn: int) -> dict[str, Any]:
    """Depth and inner width of an encoder and a decoder of one size."""
    sizes = {"layers": layers, "ffn_dim": ffn}
    return {f"{part}_{key}": size for part in ("encoder", "decoder") for key, size in sizes.items()}


KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-roberta-base": ("XLMRobertaConfig", _XLM_R | _BASE),
    "xlm-roberta-large": ("XLMRobertaConfig", _XLM_R | _LARGE),
    "LaBSE": ("BertConfig", {"vocab_size": 501153}),  # BERT Base but for its vocabulary (Feng et al. 2022)
    "nllb-200-distilled-600M": ("M2M100Config", _NLLB | _stacks(12, 4096)),
    "nllb-200-distilled-1.3B": ("M2M100Config", _NLLB | _stacks(24, 8192)),
}
"""Class and values of the config.json of ``FacebookAI/xlm-roberta-*`` (Conneau et al. 2020),
``sentence-transformers/LaBSE`` and ``facebook/nllb-200-distilled-*`` (NLLB Team 2022). Most checkpoints name one of them,
and need no second repository, which nothing would pin."""
OWNERS = ("FacebookAI/", "sentence-transformers/", "facebook/")


def find(
    checkpoint: str, revision: str | None, markers: Sequence[str], weights: Sequence[str]
) -> tuple[Path, str | None]:
    """The folder of ``checkpoint`` and, for a hub id, the commit it is at.

    Args:
        checkpoint: a folder, which is read where it lies and without a network, or a hub id ``owner/name``.
        revision: commit, tag or branch of a hub id; required there, and resolved to its commit.
        markers: a folder without any of these files has another layout, e.g. ``open_clip_config.json``.
        weights: glob patterns of the weights that are downloaded with tokenizer and configuration, and nothing else.

    Raises:
        SuiteError: a hub id without revision, or a folder with one.
        ArtifactError: no such folder, none of ``markers`` in it, an id that is neither on the hub nor in its cache, or
            weights of a PEFT adapter (LoRA) beside those of the network.
    """
    # absolute: whoever asks for more of the checkpoint later may stand elsewhere
    folder = Path(checkpoint).expanduser().absolute()
    if folder.is_dir():
        if revision is not None:
            raise SuiteError(
                f"`{checkpoint}` is a local folder and has no revision `{revision}`",
                "remove `revision`; a folder is identified by the digest of its weights",
            )
        if not any((folder / marker).is_file() for marker in markers):
            raise ArtifactError(
                f"`{checkpoint}` has no {' or '.join(markers)}, so it has another layout than this adapter reads",
                f"it holds {_listed(folder)}; `xtremex list adapters` shows the other adapters",
            )
        return _whole(folder, checkpoint), None
    if checkpoint.startswith((".", "~", os.sep)) or checkpoint.count("/") > 1:
        raise ArtifactError(f"no folder `{checkpoint}`", "check the path; a hub id has the form owner/name")
    folder, commit = _download(checkpoint, revision, markers, weights)
    return _whole(folder, checkpoint), commit


def _whole(folder: Path, checkpoint: str) -> Path:
    """``folder``, unless there is more to the network than its own weights."""
    extra = [
        name for name in ("adapter_config.json", "adapter_model.safetensors") if (folder / name).is_file()
    ]
    if extra:
        raise ArtifactError(
            f"`{checkpoint}` holds an adapter of PEFT (LoRA) beside its weights, which would be ignored: {', '.join(extra)}",
            "merge the adapter into the weights and save both as one model (PEFT: merge_and_unload), or remove its files",
        )
    return folder


def _download(
    checkpoint: str, revision: str | None, markers: Sequence[str], weights: Sequence[str]
) -> tuple[Path, str | None]:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HFValidationError

    commit, failures = "", []
    for marker in markers:
        try:
            commit = Path(hf_hub_download(checkpoint, marker, revision=revision)).parent.name
            break
        except (OSError, HFValidationError) as error:
            failures.append(error)
    else:
        raise ArtifactError(
            f"`{checkpoint}` at revision `{revision or 'main'}` is no folder, and as a hub id it "
            f"{_lacking(failures[0], markers)}",
            f"check the spelling; with a network, type: hf download {checkpoint}"
            f"{f' --revision {revision}' if revision else ''} (and unset HF_HUB_OFFLINE); or give the path of a folder",
        ) from failures[0]
    check_pinned(checkpoint, revision, commit)
    picked = [*PICKED, *markers, *weights]
    folder = snapshot_download(
        checkpoint, revision=commit, allow_patterns=picked, ignore_patterns=list(SKIPPED)
    )
    return Path(folder), commit


def _lacking(error: Exception, markers: Sequence[str]) -> str:
    """What the hub's client complains of, in words that go on after "it"; the client itself says it at length."""
    from huggingface_hub import errors

    for kind, words in (
        (errors.LocalEntryNotFoundError, "is not in the local cache, with no network to look further"),
        (errors.GatedRepoError, "wants its terms accepted first"),
        (errors.RepositoryNotFoundError, "does not exist"),
        (errors.RevisionNotFoundError, "has no such revision"),
        (errors.EntryNotFoundError, f"has no {' or '.join(markers)}"),
        (errors.HFValidationError, "is malformed (owner/name)"),
    ):
        if isinstance(error, kind):
            return words
    return f"cannot be reached: {first_line(error)}"


def write_checkpoint(
    folder: Path,
    tokenizer: Any,
    weights_name: str,
    weights: Mapping[str, Tensor],
    files: Mapping[str, Any],
    info: EncoderInfo,
    adapter: str,
) -> None:
    """Write tokenizer, safetensors, JSON ``files`` and, last, ``xtremex.json``."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(contiguous, folder / weights_name, metadata={"format": "pt"})
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1))
    write_info(folder, info, adapter)


def fast_tokenizer(place: str, config: Any = None, *, trust_remote_code: bool = False) -> Any:
    """The fast tokenizer of a folder or hub id, padding on the right, as every task does, and parting pairs of texts.

    ``config`` tells its class where there is nothing but a ``tokenizer.json``, as in LAION's repositories.

    Raises:
        ArtifactError: none there, or a slow one, which has neither word ids nor offsets.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place, config=config, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"no tokenizer can be loaded from `{place}`: {first_line(error)}",
            "the checkpoint needs a tokenizer.json (PreTrainedTokenizerFast.save_pretrained writes one)",
        ) from error
    found = tokenizer if tokenizer.is_fast else rebuilt(tokenizer)
    if found is None:
        raise ArtifactError(
            f"the tokenizer of `{place}` ({type(tokenizer).__name__}) is slow: it has neither word ids nor character "
            "offsets",
            "add a tokenizer.json to the checkpoint",
        )
    if code := language_code(found):
        found = speaking(found, code, place)
    return settled(found)


def inner_config(places: Sequence[Path], name: str, checkpoint: str) -> Any:
    """The transformers configuration of the network inside, which such checkpoints only name.

    The first of ``places`` that holds a ``config.json`` of a plain encoder; else what ``name`` means: XLM-R, LaBSE, a
    path, or a hub id that is looked up unpinned. It gives only shapes, which are checked against the weights, and constants.
    """
    import transformers
    from transformers import CONFIG_MAPPING, AutoConfig

    for place in places:
        # a checkpoint's own config.json may describe the whole, in a type that transformers does not know
        kind = (
            read_json(place / "config.json").get("model_type") if (place / "config.json").is_file() else None
        )
        if kind in CONFIG_MAPPING:
            config = AutoConfig.from_pretrained(place)
            if not hasattr(config, "vision_config"):
                return config
    for owner in ("", *OWNERS):
        if name.startswith(owner) and name.removeprefix(owner) in KNOWN:
            kind, values = KNOWN[name.removeprefix(owner)]
            return getattr(transformers, kind)(**values)
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"`{checkpoint}` names the network inside as `{name}`, whose config.json cannot be found: "
            f"{first_line(error)}",
            f"put it into {places[0]}, or, with a network, type: hf download {name} config.json",
        ) from error


def read_weights(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of the first safetensors file of ``names`` that ``folder`` holds; pickled files are never opened."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise ArtifactError(
            f"`{folder}` has no {' or '.join(names)}; it holds {_listed(folder)}",
            "pickled weights (.bin, .pt) can run code when they are opened and are not read; from the hub, "
            "`xtremex fetch SUITE --convert` makes safetensors of them, or name a revision that has some (refs/pr/N of "
            "its conversion service)",
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", "download it again") from error


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], checkpoint: str) -> None:
    """Copy ``weights`` into ``module``, in the module's own types; what is missing would stay random, so it is refused.

    Buffers that old checkpoints stored and new classes compute are passed over.

    Raises:
        ArtifactError: a tensor is missing, too much, or of another shape.
    """
    own = module.state_dict()
    computed = (*BUFFERS, "embed_positions.weights")
    given = {name: tensor for name, tensor in weights.items() if name in own or not name.endswith(computed)}
    refuse_wrong_weights(
        module,
        checkpoint,
        missing=own.keys() - given.keys(),
        misshapen=(name for name in own.keys() & given.keys() if own[name].shape != given[name].shape),
        unexpected=given.keys() - own.keys(),
    )
    module.load_state_dict(given)


def refuse_wrong_weights(
    module: nn.Module,
    checkpoint: str,
    *,
    missing: Iterable[str],
    misshapen: Iterable[str],
    unexpected: Iterable[str],
) -> None:
    """``ArtifactError`` with the names of the tensors that do not fit ``module``, where there are any."""
    wrong = {"missing": sorted(missing), "misshapen": sorted(misshapen), "unexpected": sorted(unexpected)}
    if any(wrong.values()):
        listed = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for kind, names in wrong.items()
            if names
        )
        raise ArtifactError(
            f"`{checkpoint}` does not hold exactly the weights of {type(module).__name__}: {listed}",
            "another class or configuration belongs to these weights; they would have stayed random or been dropped",
        )


def _listed(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "nothing"
