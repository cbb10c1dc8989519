"""The image tower of a vision-language checkpoint of transformers (AltCLIP, SigLIP, MetaCLIP 2, ...), frozen.

What :mod:`.clip_tower` is for open_clip's checkpoints: an arm that started from such a checkpoint is scored on image-text
retrieval with the eyes, the preprocessing and the text projection that were published with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters import _compat
from ..adapters.checkpoints import find
from ..adapters.describe import first_line
from ..adapters.families import Family, family_of
from ..adapters.layouts import LAYOUTS, PARTS
from ..adapters.pretrained import headless, read_config, read_folder
from ..errors import ArtifactError, SuiteError
from . import pictures
from .tower import ImageTower

__all__ = ["TransformersTower"]


class TransformersTower(ImageTower):
    """Pictures and pooled sentence vectors into the checkpoint's own space, (B, D) float32 of unit length.

    ``text_features(encoder(...).pooled)`` is what the library's ``get_text_features`` gives for the same encoder,
    ``image_features`` what ``get_image_features`` gives for pictures under the checkpoint's image processor, normalised.
    """

    def __init__(self, model: Any, projection: nn.Sequential, processor: Any, dim: int) -> None:
        super().__init__()
        self.model = model
        self.projection = projection
        self.processor = processor
        self.dim = dim

    def text_features(self, pooled: Tensor) -> Tensor:
        """Sentence vectors before the projection (B, H) -> (B, D) of unit length, float32 even under autocast."""
        with torch.autocast(pooled.device.type, enabled=False):
            return functional.normalize(self.projection(pooled.float()), dim=-1)

    def pixels(self, keys: Sequence[str]) -> Tensor:
        """Pictures by key -> (B, 3, S, S) float32, scaled, cut and centred by the checkpoint's image processor."""
        size = self.model.config.vision_config.image_size
        shown = [pictures.opened(key, size) for key in keys]
        return self.processor(images=shown, return_tensors="pt")["pixel_values"]

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels as the processor gives them -> (B, D) of unit length, float32."""
        found = self.model.get_image_features(pixel_values=pixels)
        return functional.normalize(getattr(found, "pooler_output", found).float(), dim=-1)

    @classmethod
    def load(
        cls, checkpoint: str, *, revision: str | None = None, pooling: str | None = None, **_: Any
    ) -> Self:
        """The frozen tower of a checkpoint, in float32 and evaluation mode; the text encoder is not kept.

        Args:
            checkpoint: what :class:`~xtremex.adapters.huggingface.HuggingFaceEncoder` loads.
            revision: of a hub id, as there.
            pooling: the encoder's; the projection was trained on the model's own, so no other is accepted. Further options
                of the adapter say nothing about pictures.

        Raises:
            SuiteError: a hub id without revision, a folder with one, a model without pictures, another pooling.
            ArtifactError: no image tower in the checkpoint, missing weights, no ``preprocessor_config.json``.
        """
        _compat.prepare()
        layout = LAYOUTS["huggingface"]
        # exactly the files that the adapter asks for: anything more would be looked for on the network
        folder, _commit = find(checkpoint, revision, layout.description, (*layout.weights, PARTS))
        config = read_config(folder, checkpoint, False)
        family = family_of(config, checkpoint)
        if not family.projections or not hasattr(config, "vision_config"):
            raise SuiteError(
                f"`{checkpoint}` ({config.model_type}) is no model of pictures and texts",
                "remove `images = true` from the backbone",
            )
        if config.model_type == "siglip2":
            raise SuiteError(
                f"`{checkpoint}` (siglip2) looks at pictures of any shape (NaFlex), which are not prepared here",
                "take a SigLIP 2 of one resolution (its model_type is siglip), or remove `images = true`",
            )
        if pooling not in (None, family.pooling):
            raise SuiteError(
                f"`{checkpoint}` projects its own sentence vectors (`{family.pooling}`), not those of pooling `{pooling}`",
                "remove the option `pooling`, or `images = true`",
            )
        model = _whole(folder, config, family, checkpoint)
        projection = nn.Sequential(*(model.get_submodule(path) for path in family.projections))
        for path in (family.body, *family.projections):  # what remains of the model is what looks at pictures
            model.set_submodule(path.split(".")[0], nn.Identity())
        # a projection that the checkpoint leaves out (SigLIP So400m i18n) keeps the towers' common width
        widths = [part.out_features for part in projection if isinstance(part, nn.Linear)]
        dim = (widths or [config.vision_config.hidden_size])[-1]
        return cls(model, projection, _processor(folder, checkpoint), dim).eval().requires_grad_(False)


def _whole(folder: Path, config: Any, family: Family, checkpoint: str) -> Any:
    """The whole model as the library loads it; no weight behind pictures or projections may be random."""
    from transformers import AutoModel

    model, report = read_folder(AutoModel, folder, config, checkpoint)
    if headless(config):  # what the library drew in its place
        for path in family.projections:
            model.set_submodule(path, nn.Identity())
    absent = {str(key) for key in (*report["missing_keys"], *report["mismatched_keys"])}
    read = () if headless(config) else tuple(f"{path}." for path in family.projections)
    lost = sorted(
        name
        for name in absent
        if name.startswith(read)
        or not name.startswith((f"{family.body.split('.')[0]}.", "logit_scale", "logit_bias"))
    )
    if lost:
        raise ArtifactError(
            f"`{checkpoint}` lacks {len(lost)} weights of its image tower and projections: {', '.join(lost[:5])}",
            "remove `images = true` from the backbone, or name the checkpoint with both towers",
        )
    return model


def _processor(folder: Path, checkpoint: str) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"`{checkpoint}` does not tell how its pictures are scaled and centred: {first_line(error)}",
            "add the preprocessor_config.json of the model",
        ) from error
