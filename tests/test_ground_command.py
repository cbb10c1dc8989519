"""`xtremex ground`: folders that other libraries read, towers of every kind, and nothing half written."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_composites
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file
from small_suite import write_small, xtremex
from tiny_checkpoints import write
from tiny_clip import open_clip, write_open_clip
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, MT5EncoderModel

from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.adapters.open_clip import OpenClipEncoder
from xtremex.benchmark.ground import Request, ground
from xtremex.benchmark.ground_captions import captions_of
from xtremex.benchmark.suite import load_suite
from xtremex.errors import ArtifactError, DataError, SuiteError, UnknownName, XtremexError
from xtremex.models import openmoji
from xtremex.models.catalogue import load
from xtremex.models.clip_tower import ClipTower
from xtremex.models.eyes import read_eyes
from xtremex.models.recipe import network_of

timm = pytest.importorskip("timm")  # after the adapters' shim, without which it cannot be imported here

TEXTS = ["a dog in the garden", "Größe und Gewicht", "船は昨日の夜"]


def quiet() -> Console:
    return Console(file=open(os.devnull, "w"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ancestor") / "tiny", "xlm-roberta")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve coloured images with captions in two languages."""
    root = tmp_path_factory.mktemp("pictures")
    lines = []
    for number in range(12):
        Image.new("RGB", (40, 32), (20 * number, 255 - 20 * number, 90)).save(root / f"{number}.png")
        for language in ("en", "de"):
            lines.append({"image": f"{number}.png", "language": language, "caption": f"{language} {number}"})
    (root / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def remade(request: Request) -> str:
    """What the command says when it is asked again; nothing may be written."""
    console = Console(file=io.StringIO(), width=300)
    stamp = (request.out / "grounding.json").stat().st_mtime_ns
    ground(request, console)
    assert (request.out / "grounding.json").stat().st_mtime_ns == stamp
    return console.file.getvalue()  # type: ignore[attr-defined]


def request_for(out: Path, checkpoint: Path, captions: str = "openmoji", **further: Any) -> Request:
    small = {"steps": 2, "batch_size": 4, "image_size": 32, "dim": 16, "device": "cpu", "precision": "fp32"}
    return Request("huggingface", captions, out, **({"checkpoint": str(checkpoint)} | small | further))


@pytest.fixture(scope="module")
def arms(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three arms, on the built-in pictures."""
    out = tmp_path_factory.mktemp("arms") / "arms"
    return ground(request_for(out, checkpoint, encoder_lr=1e-2), quiet())


def theirs(place: Path) -> tuple[Any, Any, Any]:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{place}")
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{place}")


# --- the folder -----------------------------------------------------------------------------------


def test_every_arm_is_a_transformers_folder(arms, checkpoint):
    ancestor = HuggingFaceEncoder.load(str(checkpoint)).model.state_dict()
    seen = []
    for arm in ("text", "vision", "scrambled"):
        model = AutoModel.from_pretrained(arms / arm, add_pooling_layer=False)
        encoder = HuggingFaceEncoder.load(str(arms / arm))
        batch = AutoTokenizer.from_pretrained(arms / arm)(TEXTS, padding=True, return_tensors="pt")
        with torch.no_grad():
            expected = model(**batch).last_hidden_state
            states = encoder(batch["input_ids"], batch["attention_mask"]).hidden_states[-1]
        mask = batch["attention_mask"].bool()
        assert torch.allclose(states[mask], expected[mask], atol=1e-6)
        assert any(not torch.equal(tensor, ancestor[name]) for name, tensor in model.state_dict().items())
        seen.append(states[mask])
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("arm", ["vision", "scrambled"])
def test_open_clip_reads_the_arms_and_says_what_they_say(arms, arm, tmp_path):
    place = arms / arm / "open_clip"
    model, transform, tokenizer = theirs(place)
    tower, encoder = ClipTower.load(str(place)), HuggingFaceEncoder.load(str(arms / arm))
    key = openmoji.keys()[7]
    drawing = Image.fromarray(openmoji.picture(key, 32).permute(1, 2, 0).numpy())
    batch = encoder.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        texts = normalize(model.encode_text(tokenizer(TEXTS)), dim=-1)
        ours = tower.text_features(encoder(batch["input_ids"], batch["attention_mask"]).pooled)
        images = normalize(model.encode_image(transform(drawing)[None]), dim=-1)
    assert torch.allclose(texts, ours, atol=1e-5)
    assert torch.allclose(images, tower.image_features([key]), atol=1e-5)
    assert (texts[0] - texts[1]).abs().max() > 1e-3
    assert not (arms / "text" / "open_clip").exists()


def test_the_adapter_of_open_clip_reads_the_same_encoder(arms):
    plain = HuggingFaceEncoder.load(str(arms / "vision"))
    seeing = OpenClipEncoder.load(str(arms / "vision" / "open_clip"))
    assert plain.info == seeing.info
    assert (plain.info.objective, plain.info.init_from, plain.info.revision) == (
        "image-contrastive",
        "tiny",
        None,
    )
    batch = plain.tokenizer(TEXTS, TEXTS[::-1], padding=True, return_tensors="pt")
    with torch.no_grad():
        one, other = (e(batch["input_ids"], batch["attention_mask"]) for e in (plain, seeing))
    assert all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(one.hidden_states, other.hidden_states, strict=True)
    )


def test_the_record_says_what_was_done(arms):
    record = json.loads((arms / "grounding.json").read_text())
    assert record["settings"]["recipe"]["steps"] == 2 and record["settings"]["arms"] == list(record["arms"])
    for arm, said in record["arms"].items():
        assert len(said["losses"]) == 2
        assert set(said["image"]) == set(openmoji.LANGUAGES)
        assert set(said["translation"]) == set(openmoji.LANGUAGES) - {"en"}
        assert said["open_clip"] is (arm != "text")
    assert len({said["digest"] for said in record["arms"].values()} | {record["ancestor"]}) == 4
    held_out = {openmoji.base(key) for key in openmoji.keys() if openmoji.split(key) == "test"}
    assert record["pictures"] == len(held_out)


def test_the_tables_can_be_pasted_into_a_suite(arms, tmp_path):
    tables = (arms / "backbones.toml").read_text()
    parsed = tomllib.loads(tables)
    assert parsed["pairs"][0]["arms"]["vision"] == {"backbone": "tiny-vision-images"}
    start = '[[pairs]]\nname = "muse"'
    text = write_small(tmp_path).read_text()
    head, rest = text.split(start)
    rest = rest[rest.index("[conditions]") :]
    moved = shutil.copytree(arms, tmp_path / "moved")
    path = moved / "own.toml"
    path.write_text(head + tables + rest.replace("[grounding]\nsteps = 2\nbatch_size = 8\n", ""))
    suite = load_suite(str(path))
    assert {arm.backbone for pair in suite.pairs for arm in pair.arms.values()} == {
        "tiny-text",
        "tiny-vision-images",
        "tiny-scrambled-images",
    }
    for backbone in suite.backbones.values():
        assert Path(backbone.checkpoint).is_relative_to(moved), (
            "a folder that was moved is read where it lies"
        )
        load(backbone)
    assert str(arms) not in tables


def test_the_command_prints_a_table_and_does_nothing_twice(checkpoint, tmp_path):
    command = ["ground", "huggingface", "--checkpoint", checkpoint, "--captions", "openmoji", "--out", "made"]
    command += [
        "--arms",
        "vision",
        "--steps",
        "1",
        "--batch-size",
        "4",
        "--device",
        "cpu",
        "--precision",
        "fp32",
    ]
    done = xtremex(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["arm", "loss", "image", "top-1", "chance", "translation", "top-1"]
    assert lines[1].split()[0] == "vision" and lines[-1] == "made"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]
    assert "%|" not in done.stderr, "no bars of other libraries"
    stamp = (tmp_path / "made" / "grounding.json").stat().st_mtime_ns
    again = xtremex(*command, cwd=tmp_path)
    assert again.returncode == 0 and "nothing to do" in again.stderr and again.stdout == done.stdout
    assert (tmp_path / "made" / "grounding.json").stat().st_mtime_ns == stamp


def test_other_settings_overwrite_nothing(arms, checkpoint, tmp_path):
    with pytest.raises(SuiteError, match="recipe.steps is 2 there and 3 here"):
        ground(request_for(arms, checkpoint, encoder_lr=1e-2, steps=3), quiet())
    assert (arms / "grounding.json").is_file()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(SuiteError, match="nothing is overwritten|no folder that this version"):
        ground(request_for(tmp_path / "full", checkpoint), quiet())
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_what_decides_nothing_makes_no_other_arms(arms, checkpoint, tmp_path, monkeypatch):
    """The order of the arms, the name of the checkpoint's folder, a network with and without its kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_resnet").mkdir()  # no tower, whatever its name
    (tmp_path / "test_resnet" / "notes.txt").write_text("notes")
    named = shutil.copytree(checkpoint, tmp_path / "my model")
    same = request_for(arms, checkpoint, encoder_lr=1e-2)
    for changes in (
        {"arms": same.arms[::-1]},
        {"tower": "test_resnet"},
        {"checkpoint": str(named)},
    ):
        assert "nothing to do" in remade(replace(same, **changes)), changes


@pytest.mark.parametrize("what", ["missing", "changed"])
def test_damaged_arms_are_not_called_made(arms, checkpoint, tmp_path, what):
    copy = shutil.copytree(arms, tmp_path / "arms")
    request = request_for(copy, checkpoint, encoder_lr=1e-2)
    for name in ("backbones.toml", "vision/open_clip/open_clip_config.json"):  # made to be edited
        (copy / name).write_text((copy / name).read_text() + "\n")
    assert "nothing to do" in remade(request)
    weights = copy / "vision" / "model.safetensors"
    content = weights.read_bytes()
    if what == "missing":
        weights.unlink()
    else:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=f"were written: {what}: vision/model.safetensors\n") as caught:
        ground(request, quiet())
    assert "remove the folder" in caught.value.hint


def test_places_that_cannot_be_written_are_refused_first(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(SuiteError, match="in use"):
        ground(request_for(Path("."), checkpoint), quiet())
    (tmp_path / "link").symlink_to(tmp_path / "target")
    ground(request_for(tmp_path / "link", checkpoint, arms=("text",), steps=1), quiet())
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target" / "grounding.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link", "target"]


def test_what_comes_into_the_way_costs_no_finished_arms(checkpoint, tmp_path):
    out = tmp_path / "made"

    class Meanwhile(io.StringIO):
        def write(self, text: str) -> int:
            if "steps" in text:
                out.mkdir(exist_ok=True)
                (out / "thesis.tex").write_text("")
            return super().write(text)

    with pytest.raises(XtremexError, match="the finished arms are in") as caught:
        ground(request_for(out, checkpoint, arms=("text",), steps=1), Console(file=Meanwhile()))
    kept = tmp_path / f"made.{os.getpid()}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", kept.name]
    assert str(kept) in caught.value.hint and [path.name for path in out.iterdir()] == ["thesis.tex"]
    assert HuggingFaceEncoder.load(str(kept / "text")).info.objective == "text-contrastive"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_leaves_nothing(checkpoint, tmp_path, how):
    command = [sys.executable, "-m", "xtremex", "ground", "huggingface", "--checkpoint", str(checkpoint)]
    command += [
        "--captions",
        "openmoji",
        "--out",
        "made",
        "--steps",
        "100000",
        "--batch-size",
        "4",
        "--device",
        "cpu",
    ]
    program = "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    program += "sys.argv = sys.argv[2:]; runpy.run_module('xtremex', run_name='__main__', alter_sys=True)"
    started = [sys.executable, "-c", program, *command[1:]]
    process = subprocess.Popen(started, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".made.lock", ".made.unfinished"]
    with pytest.raises(XtremexError, match="another process is writing"):
        ground(request_for(tmp_path / "made", checkpoint), quiet())
    time.sleep(1)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2 and "was not written" in said, said
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_cleared(arms, checkpoint, tmp_path):
    (tmp_path / ".made.unfinished" / "text").mkdir(parents=True)
    (tmp_path / ".made.lock").write_text("")  # held by nobody any more
    ground(request_for(tmp_path / "made", checkpoint, arms=("text",), steps=1), quiet())
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


# --- towers ---------------------------------------------------------------------------------------


def timm_folder(place: Path, *, classes: int = 7) -> Path:
    """What timm's ``save_for_hf`` writes: weights with their classifier, and the preprocessing."""
    torch.manual_seed(3)
    network = timm.create_model("test_resnet", num_classes=classes)
    place.mkdir()
    save_file(network.state_dict(), place / "model.safetensors")
    look = {
        "input_size": [3, 40, 40],
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.2],
        "interpolation": "bilinear",
    }
    (place / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": look}))
    return place


@pytest.mark.parametrize("kind", ["timm", "open_clip"])
def test_a_frozen_tower_stays_as_it_was_and_is_written_beside_the_text(kind, checkpoint, folder, tmp_path):
    if kind == "timm":
        spec = f"timm:test_resnet@{timm_folder(tmp_path / 'timm@2x')}"
    else:
        spec = f"open_clip:{write_open_clip(tmp_path / 'clip@laion', 'clip')}"
    eyes = read_eyes(spec)
    request = request_for(tmp_path / "made", checkpoint, f"folder:{folder}", tower=spec)
    out = ground(request, quiet())
    model, transform, _ = theirs(out / "vision" / "open_clip")
    photograph = str(folder / "3.png")
    with torch.no_grad():
        seen = normalize(model.encode_image(transform(Image.open(photograph))[None]), dim=-1)
    assert torch.allclose(seen, eyes.features([photograph], "cpu"), atol=1e-5)
    before, after = eyes.visual.state_dict(), model.visual.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    settings = json.loads((out / "grounding.json").read_text())["settings"]
    assert str(tmp_path) not in json.dumps(settings), "the same arms wherever the tower lies"
    assert settings["recipe"].keys().isdisjoint({"dim", "image_size"}), "the tower has its own"
    assert "nothing to do" in remade(replace(request, dim=99, image_size=64))
    # only the text side learned, and in each arm something else
    digests = {
        arm: said["digest"] for arm, said in json.loads((out / "grounding.json").read_text())["arms"].items()
    }
    assert len(set(digests.values())) == 3


def test_frozen_eyes_of_timm_are_the_networks_own_features(folder, tmp_path):
    place = timm_folder(tmp_path / "timm")
    network = timm.create_model("test_resnet", num_classes=7).eval()
    network.load_state_dict(load_file(place / "model.safetensors"))
    network.reset_classifier(0)
    eyes = read_eyes(f"timm:test_resnet@{place}")
    assert eyes.preprocess_cfg["size"] == (40, 40) and eyes.preprocess_cfg["mean"] == (0.4, 0.5, 0.6)
    photograph = str(folder / "3.png")
    pixels = eyes.tower(torch.nn.Identity()).pixels([photograph])
    with torch.no_grad():
        expected = normalize(network(pixels), dim=-1)
    assert torch.allclose(eyes.features([photograph], "cpu"), expected, atol=1e-6)


def test_towers_that_do_not_exist(checkpoint, tmp_path):
    assert network_of("test_resnet") == network_of("scratch:test_resnet") == "test_resnet"
    assert network_of("timm:test_resnet@/x") is None
    with pytest.raises(SuiteError, match="is none of scratch:NETWORK"):
        network_of("clip:x")
    with pytest.raises(UnknownName, match="test_resnett"):
        read_eyes("timm:test_resnett@/nowhere")
    with pytest.raises(ArtifactError, match="no folder `/nowhere`"):
        read_eyes("timm:test_resnet@/nowhere")
    with pytest.raises(ArtifactError, match="no folder"):
        read_eyes("open_clip:/nowhere")
    place = timm_folder(tmp_path / "timm")
    (place / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_eyes(f"timm:test_resnet@{place}")


def test_an_encoder_that_open_clip_cannot_hold_keeps_its_tower(checkpoint, folder, tmp_path):
    deberta = write(tmp_path / "deberta", "deberta-v2")
    request = request_for(tmp_path / "made", deberta, f"folder:{folder}", arms=("vision",))
    out = ground(request, quiet())
    said = json.loads((out / "grounding.json").read_text())["arms"]["vision"]["open_clip"]
    assert said == "open_clip has no text tower of type deberta-v2"
    assert not (out / "vision" / "open_clip").exists() and (out / "vision" / "tower" / "tower.json").is_file()
    assert HuggingFaceEncoder.load(str(out / "vision")).info.family == "deberta-v2"
    assert "images" not in (out / "backbones.toml").read_text()


# --- captions and encoders ------------------------------------------------------------------------


def test_captions_of_a_task_are_joined_over_languages_by_picture():
    found = captions_of("task:mini-pictures", ("en", "de"), None)
    key = next(iter(found.keys("train")))
    assert found.captions(key) == {name: (openmoji.names(name)[key],) for name in ("en", "de")}
    assert found.shown(key) == key


def test_captions_of_a_hub_task_are_read_from_a_copy(hub):
    found = captions_of("task:multi30k", (), hub)
    assert set(found.languages) == {"en", "cs", "de", "fr"}
    key = next(iter(found.keys("train")))
    assert Path(found.shown(key)).is_file() and set(found.captions(key)) == set(found.languages)


@pytest.mark.parametrize(
    ("captions", "error", "says"),
    [
        ("flickr", SuiteError, "no such caption set"),
        ("folder:/nowhere", DataError, "no folder"),
        ("task:mini-topic", SuiteError, "is of kind `classification`"),
        ("task:mini-picturs", UnknownName, "mini-pictures"),
        ("task:xm3600", DataError, "xm3600"),
    ],
)
def test_captions_that_do_not_exist(captions, error, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says) as caught:
        captions_of(captions, (), None)
    assert caught.value.hint


def test_an_encoder_by_name_by_adapter_and_with_options(checkpoint, folder, tmp_path):
    small = request_for(tmp_path / "made", checkpoint, f"folder:{folder}", arms=("text",))
    out = ground(
        replace(small, options=("text_prefix=query: ", "pooling=cls"), freeze=("model.embeddings",)), quiet()
    )
    encoder, ancestor = HuggingFaceEncoder.load(str(out / "text")), HuggingFaceEncoder.load(str(checkpoint))
    assert (encoder.info.text_prefix, encoder.info.pooling) == ("query: ", "cls")
    same = {
        name
        for name, tensor in encoder.state_dict().items()
        if torch.equal(tensor, ancestor.state_dict()[name])
    }
    assert (
        {name for name in encoder.state_dict() if "embeddings" in name} <= same != set(encoder.state_dict())
    )
    backbone = tomllib.loads((out / "backbones.toml").read_text())["backbones"]["tiny-text"]
    assert backbone["frozen"] == ["model.embeddings"] and backbone["options"]["pooling"] == "cls"
    for wrong, error, says in (
        ({"backbone": "me5-smal"}, UnknownName, "me5-small"),
        ({"checkpoint": ""}, SuiteError, "no checkpoint was named"),
        ({"options": ("pooling",)}, SuiteError, "no KEY=VALUE"),
        ({"freeze": ("modle",)}, SuiteError, "no parameter starts with it"),
        ({"arms": ("text", "visoin")}, UnknownName, "vision"),
        ({"arms": ("text", "text")}, SuiteError, "distinct"),
        ({"batch_size": 500}, SuiteError, "500 items, but only 10"),
    ):
        with pytest.raises(error, match=says):
            ground(replace(small, out=tmp_path / "other", **wrong), quiet())
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_the_name_of_a_folder_becomes_a_legal_one(checkpoint, folder, tmp_path):
    named = shutil.copytree(checkpoint, tmp_path / "Größe (my model)")
    out = ground(request_for(tmp_path / "made", named, f"folder:{folder}", arms=("text",), steps=1), quiet())
    tables = tomllib.loads((out / "backbones.toml").read_text())["backbones"]
    assert list(tables) == ["Gr-e-my-model-text"]


@pytest.mark.parametrize("kind", ["altclip", "m2m_100", "mt5"])
def test_what_transformers_reads_of_larger_models(kind, folder, tmp_path):
    """docs/grounding.md: AutoModel builds the whole, whose text side alone is the arm's."""
    place = tiny_composites.write(tmp_path / kind, kind)
    out = ground(request_for(tmp_path / "made", place, f"folder:{folder}", arms=("text",), steps=1), quiet())
    arm = HuggingFaceEncoder.load(str(out / "text"))
    if kind == "mt5":
        model, loading = MT5EncoderModel.from_pretrained(out / "text", output_loading_info=True)
        part = model.encoder
        assert not loading["missing_keys"]
    else:
        model, loading = AutoModel.from_pretrained(out / "text", output_loading_info=True)
        part = model.get_submodule(arm.family.body)
        assert any(name.startswith(("vision_model.", "decoder.")) for name in loading["missing_keys"])
        assert not any(name.startswith(("text_", "encoder.")) for name in loading["missing_keys"])
    own = arm.body.state_dict()
    assert part.state_dict().keys() == own.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in part.state_dict().items())


def test_captions_longer_than_open_clip_reads_are_cut_alike(tmp_path, folder):
    """By tokens: of Chinese nearly every character is one, and 77 characters are more than 77 tokens."""
    pictures = shutil.copytree(folder, tmp_path / "pictures")
    rows = [json.loads(line) for line in (pictures / "captions.jsonl").read_text().splitlines()]
    for row in rows:
        row["caption"] = "船は昨日の夜" * 20 + row["caption"]
    (pictures / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bert = write(tmp_path / "bert", "bert")
    config = BertConfig.from_pretrained(bert, max_position_embeddings=128)  # more than open_clip reads
    torch.manual_seed(0)
    BertModel(config).save_pretrained(bert)
    assert len(HuggingFaceEncoder.load(str(bert)).tokenizer(rows[0]["caption"][:77])["input_ids"]) > 77
    out = ground(request_for(tmp_path / "made", bert, f"folder:{pictures}", arms=("vision",)), quiet())
    assert json.loads((out / "grounding.json").read_text())["arms"]["vision"]["open_clip"] is True


@pytest.mark.parametrize("kind", ["bert", "mt5", "m2m_100"])
def test_every_text_network_that_open_clip_knows_is_written(kind, folder, tmp_path):
    """Of encoder-decoder models open_clip builds the whole and takes the encoder; the arm has the encoder only."""
    place = write(tmp_path / kind, kind) if kind == "bert" else tiny_composites.write(tmp_path / kind, kind)
    out = ground(request_for(tmp_path / "made", place, f"folder:{folder}", arms=("vision",)), quiet())
    said = json.loads((out / "grounding.json").read_text())["arms"]["vision"]["open_clip"]
    assert said is True, said
    plain, seeing = (
        HuggingFaceEncoder.load(str(out / "vision")),
        OpenClipEncoder.load(str(out / "vision" / "open_clip")),
    )
    batch = plain.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        one, other = (e(batch["input_ids"], batch["attention_mask"]).pooled for e in (plain, seeing))
    assert torch.allclose(one, other, atol=1e-6)
