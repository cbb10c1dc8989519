"""AltCLIP's text tower (Chen et al. 2022): XLM-R Large, whose first token falls into CLIP's space.

Read are the full ``AltCLIPModel`` checkpoints of the hub (``BAAI/AltCLIP*``), of which the image tower is left out. Never
read them with transformers' own ``AltCLIPTextModel.from_pretrained``: it looks for names without ``text_model.``, finds
none and leaves every weight random, with a warning (transformers 5.23).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import ArtifactError
from . import _compat
from .base import Encoded, EncoderInfo
from .checkpoints import fast_tokenizer, find, load_exactly, read_json, read_weights, write_checkpoint
from .describe import describe, fits
from .huggingface import HuggingFaceEncoder
from .layouts import LAYOUTS

__all__ = ["AltClipEncoder"]

(WEIGHTS,) = LAYOUTS["altclip"].weights
OTHERS = ("vision_model.", "visual_projection.", "logit_scale", "text_model.roberta.pooler.")
"""What a checkpoint holds besides the text tower, and a pooler that nothing reads."""
SHAPE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
"""Keys of ``text_config`` that XLM-R's configuration has too; the names and meanings are the same."""


class AltClipEncoder(nn.Module):
    """XLM-R, a layer norm (``pre_LN``), and two linear maps: ``transformation`` and ``text_projection``.

    ``hidden_states`` are XLM-R's own; ``pooled`` is the first token after the norm, before any projection;
    ``projected`` is what ``AltCLIPModel.get_text_features`` gives.
    """

    def __init__(
        self,
        transformer: HuggingFaceEncoder,
        norm: nn.LayerNorm,
        transformation: nn.Linear,
        projection: nn.Linear,
        described: dict[str, Any],
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.norm = norm
        self.transformation = transformation
        self.projection = projection
        self.described = described
        self.tokenizer = transformer.tokenizer
        self.info = transformer.info

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        out: Encoded = self.transformer(input_ids, attention_mask)
        pooled = self.norm(out.hidden_states[-1][:, 0])
        return out._replace(pooled=pooled, projected=self.projection(self.transformation(pooled)))

    def save(self, folder: Path) -> None:
        """Write AltCLIP's layout (safetensors, tokenizer, config), text tower only, and ``xtremex.json``."""
        files = {"config.json": self.described}
        write_checkpoint(folder, self.tokenizer, WEIGHTS, self._parts().state_dict(), files, self.info)

    def _parts(self) -> nn.ModuleDict:
        """The trained modules under the checkpoint's names."""
        inside = {
            "roberta": self.transformer.model,
            "pre_LN": self.norm,
            "transformation": self.transformation,
        }
        return nn.ModuleDict({"text_model": nn.ModuleDict(inside), "text_projection": self.projection})

    @classmethod
    def load(cls, checkpoint: str, *, revision: str | None = None) -> Self:
        """Load in float32 and eval mode, from safetensors only.

        Args:
            checkpoint: hub id (``BAAI/AltCLIP-m18``) or a folder with the same files.
            revision: commit hash, tag or branch of a hub id; required there.

        Raises:
            SuiteError: a hub id without revision, or a folder with one.
            ArtifactError: not AltCLIP's layout, no safetensors, missing, unexpected or misshapen weights, or a tokenizer
                that does not belong to them.
        """
        _compat.prepare()
        folder, commit = find(checkpoint, revision, LAYOUTS["altclip"].description, [WEIGHTS])
        described = read_json(folder / "config.json")
        if described.get("model_type") != "altclip":
            raise ArtifactError(
                f"the config.json of `{checkpoint}` has the model_type `{described.get('model_type')}`, not `altclip`",
                "`huggingface` loads plain transformers encoders, `open_clip` those of open_clip",
            )
        model, norm, transformation, projection = _networks(folder)
        tokenizer = fast_tokenizer(str(folder), model.config)
        fits(tokenizer, model, checkpoint)
        if (folder / "xtremex.json").is_file():
            info = EncoderInfo(**read_json(folder / "xtremex.json")["info"])
        else:
            info = describe(model, tokenizer, commit)
            info = dataclasses.replace(info, objective="image-contrastive", pooling="cls")
        inside = HuggingFaceEncoder(model, tokenizer, info)
        encoder = cls(inside, norm, transformation, projection, described)
        stored = read_weights(folder, [WEIGHTS])
        weights = {name: tensor for name, tensor in stored.items() if not name.startswith(OTHERS)}
        load_exactly(encoder._parts(), weights, checkpoint)
        return encoder.eval()


def _networks(folder: Path) -> tuple[Any, nn.LayerNorm, nn.Linear, nn.Linear]:
    """The parts of the tower, still random. ``AltRobertaModel`` is XLM-R with other names for its modules."""
    from transformers import AltCLIPConfig, XLMRobertaConfig, XLMRobertaModel

    whole = AltCLIPConfig.from_pretrained(folder)
    text: Any = whole.text_config
    config = XLMRobertaConfig(**{key: getattr(text, key) for key in SHAPE})
    with torch.random.fork_rng(devices=[]):  # constructors draw weights, which are replaced at once
        return (
            XLMRobertaModel(config, add_pooling_layer=False),
            nn.LayerNorm(text.hidden_size, eps=text.layer_norm_eps),
            nn.Linear(text.hidden_size, text.project_dim),
            nn.Linear(text.project_dim, whole.projection_dim, bias=False),
        )
