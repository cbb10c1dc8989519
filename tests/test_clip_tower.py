"""The image tower of an open_clip checkpoint, against open_clip itself, and the arms of a suite that it makes scorable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_suite import xtremex
from tiny_checkpoints import write
from tiny_clip import TOWERS, copy, open_clip, write_open_clip
from torch.nn.functional import normalize

from xtremex.adapters.contract import SENTENCES
from xtremex.adapters.open_clip import OpenClipEncoder
from xtremex.benchmark.plan import Numerics, make_plan
from xtremex.benchmark.suite import load_suite
from xtremex.errors import ArtifactError, DataError, SuiteError
from xtremex.models import openmoji
from xtremex.models.catalogue import backbones, parse_backbone
from xtremex.models.clip_tower import ClipTower
from xtremex.tasks.places import Places

SIGLIP_LOOK = {
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of every text tower; `siglip` is also one that looks at pictures in another way."""
    root = tmp_path_factory.mktemp("clip_tower")
    made = {kind: write_open_clip(root / kind, kind) for kind in TOWERS}
    describe(made["siglip"], lambda whole: whole["preprocess_cfg"].update(SIGLIP_LOOK))
    return made


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of several shapes, neither square nor of the tower's size, of coloured noise."""
    folder = tmp_path_factory.mktemp("photographs")
    draw = torch.Generator().manual_seed(3)
    for number, (height, width) in enumerate([(40, 70), (90, 45), (33, 32), (20, 20), (64, 128)]):
        noise = torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(folder / f"{number}.png")
    return [str(path) for path in sorted(folder.iterdir())]


def describe(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "open_clip_config.json"
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def theirs(folder: Path) -> tuple[Any, Any]:
    """open_clip's own model, and its transform for evaluation."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}", pretrained_text=False)
    return model.eval(), transform


def seen(model: Any, transform: Any, photographs: list[str]) -> torch.Tensor:
    with torch.no_grad():
        pixels = torch.stack([transform(Image.open(path)) for path in photographs])
        return normalize(model.encode_image(pixels), dim=-1)


@pytest.mark.parametrize("kind", TOWERS)
def test_both_sides_are_those_of_open_clip(folders, photographs, kind):
    tower, encoder = ClipTower.load(str(folders[kind])), OpenClipEncoder.load(str(folders[kind]))
    model, transform = theirs(folders[kind])
    padding = {"padding": "max_length", "max_length": encoder.info.max_length}
    batch = encoder.tokenizer(list(SENTENCES), truncation=True, return_tensors="pt", **padding)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        texts = tower.text_features(encoder(ids, mask).pooled)
        expected = normalize(model.encode_text(ids.masked_fill(mask == 0, encoder.padding)), dim=-1)
        images = tower.image_features(photographs)
    assert texts.dtype == images.dtype == torch.float32
    assert torch.allclose(texts, expected, atol=1e-5)
    assert torch.allclose(images, seen(model, transform, photographs), atol=1e-5)
    # the comparisons could fail
    assert (texts[0] - texts[1]).abs().max() > 1e-2 and (images[0] - images[1]).abs().max() > 1e-2


def test_a_tower_of_timm_is_built_without_a_network(folders, photographs, tmp_path):
    folder = copy(folders["siglip"], tmp_path / "timm")
    vision = {"image_size": 32, "timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"}
    describe(folder, lambda whole: whole["model_cfg"].update(vision_cfg=vision))
    model_cfg = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    model_cfg.pop("custom_text")
    torch.manual_seed(4)
    save_file(open_clip.CustomTextCLIP(**model_cfg).state_dict(), folder / "open_clip_model.safetensors")
    # as the published configurations have it; it must not be looked up again
    describe(folder, lambda whole: whole["model_cfg"]["vision_cfg"].update(timm_model_pretrained=True))
    images = ClipTower.load(str(folder)).image_features(photographs)
    assert torch.allclose(images, seen(*theirs(folder), photographs), atol=1e-5)


def test_only_the_image_tower_and_the_projection_are_kept_frozen(folders):
    tower = ClipTower.load(str(folders["xlm-roberta"]))
    assert {name.split(".")[0] for name in tower.state_dict()} == {"visual", "projection"}
    assert not tower.training and not any(p.requires_grad for p in tower.parameters())


def test_what_was_seen_is_remembered_and_does_not_depend_on_the_request(folders, photographs, tmp_path):
    tower = ClipTower.load(str(folders["clip"]))
    kept = copy(Path(photographs[0]).parent, tmp_path / "kept")
    keys = [str(kept / Path(path).name) for path in photographs]
    first = tower.image_features([keys[1], keys[0], keys[1]])
    assert first.shape == (3, 20) and torch.equal(first[0], first[2])
    assert torch.allclose(tower.image_features(keys)[:2], first[:2].flip(0), atol=1e-6)
    (kept / "0.png").unlink()
    assert torch.equal(tower.image_features([keys[1], keys[0], keys[1]]), first)
    with pytest.raises(DataError, match=r"0\.png: no such picture"):
        tower.image_features(keys[:1])
    assert tower.image_features([]).shape == (0, 20)


def test_float32_even_under_autocast(folders, photographs):
    tower, pooled = ClipTower.load(str(folders["clip"])), torch.randn(3, 32)
    images, texts = tower.image_features(photographs), tower.text_features(pooled)
    again = ClipTower.load(str(folders["clip"]))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(again.image_features(photographs), images)
        assert torch.equal(again.text_features(pooled), texts)
    assert tower.text_features(pooled.bfloat16()).dtype == torch.float32


def test_drawings_and_transparent_files_are_seen_on_white(folders, tmp_path):
    key = openmoji.keys()[0]
    tower = ClipTower.load(str(folders["clip"]))
    drawn = Image.fromarray(openmoji.picture(key, 32).permute(1, 2, 0).numpy())
    drawn.save(tmp_path / "drawn.png")
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (32, 32), "white").save(tmp_path / "white.png")
    names = ("drawn.png", "clear.png", "white.png")
    images = tower.image_features([key, *(str(tmp_path / name) for name in names)])
    assert torch.allclose(images[0], images[1], atol=1e-6)
    assert torch.allclose(images[2], images[3], atol=1e-6) and not torch.allclose(
        images[0], images[2], atol=1e-3
    )


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("visual.conv1.weight", "1 missing: conv1.weight"),
        ("text_projection", "1 missing: weight"),
    ],
)
def test_nothing_stays_random(folders, tmp_path, part, message):
    folder = copy(folders["clip"], tmp_path / "copy")
    edit(folder, lambda weights: weights.pop(part))
    with pytest.raises(ArtifactError, match=message):
        ClipTower.load(str(folder))


def test_a_checkpoint_without_its_image_tower_says_so(folders, tmp_path):
    OpenClipEncoder.load(str(folders["clip"])).save(tmp_path / "text")
    with pytest.raises(ArtifactError, match="holds a text tower only"):
        ClipTower.load(str(tmp_path / "text"))


def test_without_a_description_the_table_of_open_clip_tells_the_preprocessing(
    folders, photographs, tmp_path, monkeypatch
):
    """As the repositories of NLLB-CLIP-SigLIP are: weights, and an architecture that open_clip knows by name."""
    model, _ = theirs(folders["clip"])
    folder = copy(folders["clip"], tmp_path / "bare")
    model_cfg = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (folder / "open_clip_config.json").unlink()
    for name in ("nllb-clip-base-siglip", "unheard-of"):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, model_cfg)
    squashed = open_clip.image_transform(
        32, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash", interpolation="bicubic"
    )
    images = ClipTower.load(str(folder), model="nllb-clip-base-siglip").image_features(photographs)
    assert torch.allclose(images, seen(model, squashed, photographs), atol=1e-5)
    with pytest.raises(ArtifactError, match="knows 0 checkpoints of `unheard-of`"):
        ClipTower.load(str(folder), model="unheard-of")


# --- the arms of a suite ---------------------------------------------------------------------------


def test_the_catalogue_says_who_brings_a_tower():
    assert {b.name for b in backbones().values() if b.images} >= {"laion-xlmr-base", "siglip-i18n-base"}
    assert not backbones()["xlm-roberta-large"].images
    with pytest.raises(SuiteError, match="image towers of adapter `muse` cannot be read"):
        parse_backbone("mine", {"adapter": "muse", "checkpoint": "x", "images": True}, "suite.toml")


SUITE = """
name = "retention"
title = "A text arm and an arm of open_clip"
seeds = [0]
languages = ["en", "de"]
targets = ["pawsx", "multi30k"]

[[pairs]]
name = "tiny"
[pairs.arms]
text = {{ backbone = "tiny-text" }}
vision = {{ backbone = "tiny-clip" }}

[conditions]
mnli = ["mnli"]

[intermediate]
steps = 3
batch_size = 4
encoder_lr = 1e-3
head_lr = 1e-3

[target]
steps = 2
batch_size = 4
encoder_lr = 1e-3
head_lr = 1e-3

[backbones.tiny-text]
adapter = "huggingface"
checkpoint = "{text}"

[backbones.tiny-clip]
adapter = "open_clip"
checkpoint = "{clip}"
images = true
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("retention")
    text = write(folder / "text", "xlm-roberta")
    path = folder / "retention.toml"
    path.write_text(SUITE.format(text=text, clip=folders["xlm-roberta"]), encoding="utf-8")
    return path


def test_retention_is_planned_for_the_arm_that_brings_a_tower(suite, hub):
    def arms() -> set[str]:
        plan = make_plan(load_suite(str(suite), Places(hub)), Numerics())
        cells = [cell for cell in plan.cells if cell.task == "multi30k"]
        assert all(plan.jobs[cell.job].tower == "" for cell in cells)
        return {f"{cell.arm} {cell.condition}" for cell in cells}

    assert arms() == {"vision none", "vision mnli"}
    written = suite.read_text()
    suite.write_text(written.replace("images = true\n", ""))
    try:
        assert arms() == set()
    finally:
        suite.write_text(written)


@pytest.mark.timeout(300)
def test_retention_before_and_after_end_to_end(suite, hub, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("XTREMEX_CACHE", str(tmp_path))
    command = ["run", suite, "--data", hub, "--out", tmp_path, "--offline", "--workers", "1"]
    done = xtremex(*command, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "retention"
    record = json.loads((folder / "suite.json").read_text())
    runs = [run for run in record["runs"] if run["task"] == "multi30k"]
    assert {(run["arm"], run["condition"]) for run in runs} == {("vision", "none"), ("vision", "mnli")}
    reported = json.loads((folder / "report.json").read_text())["retention"]
    assert {(line["arm"], line["condition"]) for line in reported} == {("vision", "none"), ("vision", "mnli")}

    # before any training, captions and pictures stand to each other as in open_clip's own model
    found = pq.read_table(folder / "predictions" / "multi30k.predictions.parquet").to_pylist()
    scored = pq.read_table(folder / "outcomes" / "multi30k.parquet").to_pylist()
    before = [row["prediction"] for row in found if row["condition"] == "none" and row["language"] == "de"]
    in_five = [
        row["recall@5.num"] for row in scored if row["condition"] == "none" and row["language"] == "de"
    ]
    task = next(task for task in load_suite(str(suite), Places(hub)).targets if task.name == "multi30k")
    examples = task.source.load(task, "test", "de")
    model, transform = theirs(folders["xlm-roberta"])
    ids = OpenClipEncoder.load(str(folders["xlm-roberta"])).tokenizer(
        [example.caption for example in examples], padding=True, return_tensors="pt"
    )["input_ids"]
    images = seen(model, transform, [example.image for example in examples])
    with torch.no_grad():
        similarity = normalize(model.encode_text(ids), dim=-1) @ images.T
    assert before == [Path(examples[n].image).stem for n in similarity.argmax(1).tolist()]
    assert in_five == [float(n in row.topk(5).indices) for n, row in enumerate(similarity)]
    assert 0 < sum(in_five) < len(in_five)  # the comparison could fail
