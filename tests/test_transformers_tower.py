"""Image towers of transformers' vision-language checkpoints, against the library itself, and retention of such an arm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_composites
import torch
import transformers
from safetensors.torch import load_file, save_file
from small_suite import xtremex
from test_clip_tower import SUITE
from tiny_checkpoints import write
from torch.nn.functional import normalize

from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.errors import ArtifactError, SuiteError
from xtremex.models.catalogue import backbones, load_tower, parse_backbone
from xtremex.models.transformers_tower import TransformersTower

KINDS = ("altclip", "chinese_clip", "clip", "metaclip_2", "siglip")
TEXTS = ["The ship left the harbour", "Größe und Gewicht"]


def write_with_processor(folder: Path, kind: str) -> Path:
    """As on the hub: weights, tokenizer and ``preprocessor_config.json``."""
    tiny_composites.write(folder, kind)
    if kind.startswith("siglip"):
        processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    else:
        square = {"height": 32, "width": 32}
        processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("towers")
    return {kind: write_with_processor(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from PIL import Image

    root, draw, found = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0), []
    for size in ((40, 60), (64, 33), (32, 32)):
        path = root / f"{size[0]}x{size[1]}.png"
        coarse = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path)
        found.append(str(path))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_are_those_of_the_library(folders, photographs, kind):
    from PIL import Image

    place = str(folders[kind])
    tower, encoder = TransformersTower.load(place), HuggingFaceEncoder.load(place)
    whole = transformers.AutoModel.from_pretrained(place).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(place)
    padding = {"padding": "max_length", "max_length": encoder.info.max_length}
    batch = encoder.tokenizer(TEXTS, truncation=True, return_tensors="pt", **padding)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    pictures = [Image.open(path).convert("RGB") for path in photographs]
    with torch.no_grad():
        texts, images = tower.text_features(encoder(ids, mask).pooled), tower.image_features(photographs)
        reads = {} if encoder.info.attends_padding else {"attention_mask": mask}
        said = whole.get_text_features(input_ids=ids, **reads).pooler_output
        seen = whole.get_image_features(**processor(images=pictures, return_tensors="pt")).pooler_output
    assert torch.allclose(texts, normalize(said, dim=-1), atol=1e-5)
    assert torch.allclose(images, normalize(seen, dim=-1), atol=1e-5)
    # the tiny SigLIPs project texts only, to another size than their pictures have; the published ones to the same
    assert texts.shape[1] == tower.dim and images.shape[1] == (32 if kind.startswith("siglip") else tower.dim)
    # the comparisons could fail
    assert (texts[0] - texts[1]).abs().max() > 1e-3 and (images[0] - images[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_encoder_is_not_kept_and_nothing_is_trained(folders, kind):
    tower = TransformersTower.load(str(folders[kind]))
    assert not any("embeddings.word" in name or "token_embedding" in name for name in tower.state_dict())
    assert not tower.training and not any(p.requires_grad for p in tower.parameters())
    again = tower.text_features(torch.randn(2, 32).bfloat16())
    assert again.dtype == torch.float32


def test_what_cannot_be_a_tower_is_refused(folders, tmp_path):
    plain = write(tmp_path / "plain", "xlm-roberta")
    with pytest.raises(SuiteError, match="no model of pictures and texts"):
        TransformersTower.load(str(plain))
    with pytest.raises(SuiteError, match=r"its own sentence vectors \(`cls`\), not those of pooling `mean`"):
        TransformersTower.load(str(folders["altclip"]), pooling="mean")
    with pytest.raises(SuiteError, match="pictures of any shape"):
        TransformersTower.load(str(tiny_composites.write(tmp_path / "naflex", "siglip2")))
    blind = write_with_processor(tmp_path / "blind", "altclip")
    weights = load_file(blind / "model.safetensors")
    fewer = {name: tensor for name, tensor in weights.items() if not name.startswith("visual_projection")}
    save_file(fewer, blind / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"lacks 1 weights .*visual_projection\.weight"):
        TransformersTower.load(str(blind))
    save_file(weights, blind / "model.safetensors", metadata={"format": "pt"})
    (blind / "preprocessor_config.json").unlink()
    with pytest.raises(ArtifactError, match=r"(?s)scaled and centred.*preprocessor_config\.json"):
        TransformersTower.load(str(blind))


def test_the_ladders_some_vision_arm_is_scored_on_pictures(folders):
    assert all(backbones()[name].images for name in ("altclip", "altclip-m9", "altclip-m18"))
    entry = {"adapter": "huggingface", "checkpoint": str(folders["altclip"]), "images": True}
    assert isinstance(load_tower(parse_backbone("mine", entry, "suite.toml")), TransformersTower)
    with pytest.raises(SuiteError, match="image towers of adapter `mclip` cannot be read"):
        parse_backbone("mine", {"adapter": "mclip", "checkpoint": "x", "images": True}, "suite.toml")


@pytest.mark.timeout(300)
def test_retention_before_and_after_end_to_end(folders, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("XTREMEX_CACHE", str(tmp_path))
    text = write(tmp_path / "text", "xlm-roberta")
    suite = tmp_path / "retention.toml"
    content = SUITE.format(text=text, clip=folders["altclip"]).replace('"open_clip"', '"huggingface"')
    suite.write_text(content, encoding="utf-8")
    out = tmp_path / "runs"
    done = xtremex("run", suite, "--data", hub, "--out", out, "--offline", "--workers", "1")
    assert done.returncode == 0, done.stderr
    reported = json.loads((out / "retention" / "report.json").read_text())["retention"]
    assert {(line["arm"], line["condition"]) for line in reported} == {("vision", "none"), ("vision", "mnli")}


def test_every_vision_language_checkpoint_of_the_catalogue_is_scored_on_pictures():
    """All that `huggingface` loads with images: those of one resolution are `siglip`, also where they are SigLIP 2."""
    named = ("altclip", "chinese-clip", "siglip", "metaclip2")
    found = {
        n: b.images for n, b in backbones().items() if b.adapter == "huggingface" and n.startswith(named)
    }
    assert len(found) == 16 and all(found.values()), found


def test_a_siglip_without_head(folders, tmp_path):
    """SigLIP So400m i18n: the library draws a head that the checkpoint has not."""
    folder = write_with_processor(tmp_path, "siglip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["no_head"] = True
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    for part in ("weight", "bias"):
        weights.pop(f"text_model.head.{part}")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    pooled = torch.randn(2, 32)
    assert torch.equal(TransformersTower.load(str(folder)).text_features(pooled), normalize(pooled, dim=-1))
