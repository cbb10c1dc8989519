"""Fetching backbones: what each adapter needs, references of the hub, and weights that are pickled only."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import tiny_checkpoints
import tiny_composites
import torch
import transformers
from fake_hub import FakeHub, commit, python
from huggingface_hub import try_to_load_from_cache
from safetensors.torch import load_file, save_file
from tiny_clip import write_mclip, write_open_clip
from tiny_sentence import write_sentence

from xtremex.adapters.layouts import LAYOUTS, lacking, readable, unpickled, wanted
from xtremex.benchmark.convert import convert
from xtremex.benchmark.fetch import missing_models
from xtremex.benchmark.run import Options
from xtremex.errors import DataError, SuiteError
from xtremex.models.catalogue import backbones, get, load, parse_backbone
from xtremex.tasks.catalogue import tasks
from xtremex.tasks.places import Pins

SUITE = """
name = "models"
title = "Backbones of the hub"
notice = "For tests only."
seeds = [0]
targets = ["mini-inference"]

[[pairs]]
name = "one"
contrasts = [{ plus = "vision", minus = "text" }]
[pairs.arms]
text = { backbone = "tiny" }
vision = { backbone = "clip" }
distilled = { backbone = "mclip-xlmr-large-vit-l-14" }

[backbones.tiny]
adapter = "huggingface"
checkpoint = "own/tiny"

[backbones.clip]
adapter = "open_clip"
checkpoint = "own/clip"
options = { model = "tiny-clip" }

[conditions]
inference = ["mini-quantity"]

[intermediate]
steps = 1
batch_size = 2
encoder_lr = 1e-4
head_lr = 1e-3

[target]
steps = 1
batch_size = 2
encoder_lr = 1e-4
head_lr = 1e-3
"""
MCLIP = "M-CLIP/XLM-Roberta-Large-Vit-L-14"
START = """
import sys
from pathlib import Path
from rich.console import Console
from xtremex.benchmark.fetch import fetch
from xtremex.benchmark.fetch import missing_models
from xtremex.benchmark.run import Options
from xtremex.benchmark.suite import load_suite

file, out = Path(sys.argv[1]), Options(Path(sys.argv[2]))
suite = load_suite(str(file), out.places)
"""
FETCH = (
    START
    + """
for how in sys.argv[3:]:
    print(how, fetch(suite, out.places, out.pins, Console(), convert=how == "converting"))
"""
)
LOAD = (
    START
    + """
from xtremex.adapters import _compat
_compat.prepare()
import open_clip
from xtremex.models.catalogue import load
open_clip.add_model_config(file.with_name("tiny-clip.json"))
print(fetch(suite, out.places, out.pins, Console(), offline=True))
for backbone in suite.backbones.values():
    print(backbone.name, load(backbone).info.revision)
"""
)


def pickle_weights(folder: Path, source: str, target: str) -> None:
    torch.save(load_file(folder / source), folder / target)
    (folder / source).unlink()


def _as_long_as_the_real_one(mclip: Path) -> None:
    """512 tokens, as the catalogue states."""
    weights = load_file(mclip / "model.safetensors")
    name = "transformer.embeddings.position_embeddings.weight"
    weights[name] = torch.randn(514, weights[name].shape[1])
    weights.pop("transformer.embeddings.position_ids", None)
    save_file(weights, mclip / "model.safetensors", metadata={"format": "pt"})
    for file, key, value in (
        ("transformer/config.json", "max_position_embeddings", 514),
        ("tokenizer_config.json", "model_max_length", 512),
    ):
        content = json.loads((mclip / file).read_text(encoding="utf-8"))
        (mclip / file).write_text(json.dumps(content | {key: value}), encoding="utf-8")


@pytest.fixture
def root(tmp_path) -> Path:
    """A hub with a plain encoder, M-CLIP, both complete, and a repository like LAION's: pickled weights and a tokenizer."""
    models = tmp_path / "hub" / "models" / "own"
    tiny_checkpoints.write(models / "tiny", "xlm-roberta")
    write_open_clip(models / "clip", "xlm-roberta")
    described = json.loads((models / "clip" / "open_clip_config.json").read_text())["model_cfg"]
    shutil.move(models / "clip" / "base", tmp_path / "base")
    described["text_cfg"] |= dict.fromkeys(("hf_model_name", "hf_tokenizer_name"), str(tmp_path / "base"))
    (tmp_path / "tiny-clip.json").write_text(json.dumps(described))
    (models / "clip" / "open_clip_config.json").unlink()
    pickle_weights(models / "clip", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    mclip = write_mclip(tmp_path / "hub" / "models" / MCLIP)
    shutil.move(mclip / "base", mclip / "transformer")
    _as_long_as_the_real_one(mclip)
    (tmp_path / "models.toml").write_text(SUITE)
    return tmp_path / "hub"


def test_a_suite_of_three_layouts_is_fetched_converted_and_loaded_without_a_connection(tmp_path, root):
    """M-CLIP's safetensors lie at a reference that the catalogue names; here a smaller repository stands there."""
    assert get("mclip-xlmr-large-vit-l-14").revision == "refs/pr/2"
    suite, out, home = tmp_path / "models.toml", tmp_path / "runs", tmp_path / "home"
    hub = FakeHub(root)
    said = python("-c", FETCH, suite, out, "plainly", address=hub.address, home=home)
    assert said.endswith("plainly False\n") and re.search(r"own/tiny .* ok", said), said
    assert re.search(r"own/clip .*holds only pickled weights \(open_clip_pytorch_model\.bin\)", said), said
    assert "--convert" in said
    pinned = {"own/tiny@main": commit("own/tiny"), f"{MCLIP}@refs/pr/2": commit(MCLIP)}
    assert Pins.read(Options(out).pins).models == pinned
    assert not any(line.endswith(".bin") for line in hub.asked), "nor is anything downloaded for nothing"
    said = python("-c", FETCH, suite, out, "converting", "again", address=hub.address, home=home)
    assert "converting True\n" in said and said.endswith("again True\n"), said
    assert len(re.findall(r"own/clip .* ok", said)) == 2, said
    hub.close()
    assert sum(line.startswith("GET") and line.endswith(".bin") for line in hub.asked) == 1
    assert Pins.read(Options(out).pins).models == {**pinned, "own/clip@main": commit("own/clip")}
    said = python("-c", LOAD, suite, out, address="http://127.0.0.1:9", home=home, offline=True)
    assert "everything is here" in said
    for name, repo in (("tiny", "own/tiny"), ("clip", "own/clip"), ("mclip-xlmr-large-vit-l-14", MCLIP)):
        assert f"{name} {commit(repo)}\n" in said

    snapshot = next(home.rglob(f"snapshots/{commit('own/clip')}"))
    assert not list(snapshot.glob(".*")), "no temporary file stays"
    made = load_file(snapshot / "open_clip_model.safetensors")
    stored = torch.load(root / "models/own/clip/open_clip_pytorch_model.bin", weights_only=True)
    assert made.keys() == stored.keys() and all(torch.equal(made[name], stored[name]) for name in made)


def test_what_the_client_remembers_as_absent_is_found_after_a_conversion(tmp_path, root):
    """Whoever asks for safetensors before the conversion leaves a note in the cache that there are none."""
    pickle_weights(root / "models/own/tiny", "model.safetensors", "pytorch_model.bin")
    suite, out, home = tmp_path / "models.toml", tmp_path / "runs", tmp_path / "home"
    pinned = commit("own/tiny")
    ask = (
        "from huggingface_hub import hf_hub_download\n"
        f"try: hf_hub_download('own/tiny', 'model.safetensors', revision='{pinned}')\n"
        "except OSError: print('none')"
    )
    hub = FakeHub(root)
    assert python("-c", ask, address=hub.address, home=home) == "none\n"
    assert list(home.rglob(f".no_exist/{pinned}/model.safetensors")), "else this test shows nothing"
    assert "True\n" in python("-c", FETCH, suite, out, "converting", address=hub.address, home=home)
    hub.close()
    found = try_to_load_from_cache("own/tiny", "model.safetensors", cache_dir=home / "hub", revision=pinned)
    assert isinstance(found, str) and "embeddings" in str(load_file(found).keys())


STACK = """
[backbones.tiny]
adapter = "sentence_transformers"
checkpoint = "own/stack"

[backbones.clip]
adapter = "huggingface"
checkpoint = "own/code"
options = { trust_remote_code = true }
"""
OWN = """
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    model_type = "own-encoder"

class OwnModel(BertModel):
    config_class = OwnConfig
"""


def test_a_pickled_stack_and_code_of_a_repository_are_fetched_and_loaded(tmp_path):
    """Both pickles of the stack are converted, once; code comes because it may run."""
    models, home = tmp_path / "hub" / "models" / "own", tmp_path / "home"
    stack = write_sentence(models / "stack", "distilbert")
    shutil.rmtree(models / "stack-inside")
    for folder in (stack, stack / "2_Dense"):
        pickle_weights(folder, "model.safetensors", "pytorch_model.bin")
    code = tiny_checkpoints.write(models / "code", "bert")
    (code / "own.py").write_text(OWN)
    described = json.loads((code / "config.json").read_text())
    own = {"auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (code / "config.json").write_text(json.dumps(described | own | {"model_type": "own-encoder"}))
    head, _, tail = SUITE.partition("[backbones.tiny]")
    head = head.replace("mclip-xlmr-large-vit-l-14", "tiny")
    suite, out = tmp_path / "stack.toml", tmp_path / "runs"
    suite.write_text(head + STACK + tail[tail.index("[conditions]") :])
    hub = FakeHub(tmp_path / "hub")
    said = python("-c", FETCH, suite, out, "plainly", "converting", "again", address=hub.address, home=home)
    hub.close()
    both = r"own/stack .*only pickled weights \(pytorch_model\.bin, 2_Dense/pytorch_model\.bin\)"
    assert re.search(both, said) and "--convert" in said, said
    for line in ("plainly False\n", "converting True\n", "again True\n"):
        assert line in said, said
    assert len(re.findall(r"own/stack .* ok", said)) == 2 and len(re.findall(r"own/code .* ok", said)) == 3, (
        said
    )
    brought = [line.rpartition("/resolve/")[2].partition("/")[2] for line in hub.asked if "GET" in line]
    assert sorted(n for n in brought if n.endswith((".bin", ".py"))) == [
        "2_Dense/pytorch_model.bin",
        "own.py",
        "pytorch_model.bin",
    ]
    snapshot = next(home.rglob(f"snapshots/{commit('own/stack')}"))
    for folder in ("", "2_Dense"):
        made = load_file(snapshot / folder / "model.safetensors")
        stored = torch.load(stack / folder / "pytorch_model.bin", weights_only=True)
        assert made.keys() == stored.keys() and all(torch.equal(made[name], stored[name]) for name in made)
    said = python("-c", LOAD, suite, out, address="http://127.0.0.1:9", home=home, offline=True)
    for name, repo in (("tiny", "own/stack"), ("clip", "own/code")):
        assert f"{name} {commit(repo)}\n" in said


def test_code_is_fetched_where_it_may_run_and_missed_where_it_is_not_there(tmp_path):
    names = ["config.json", "model.safetensors", "own.py", "evil.py"]
    assert wanted("huggingface", {}, names) == ("model.safetensors",)
    trusted = {"trust_remote_code": True}
    assert wanted("huggingface", trusted, names) == ("model.safetensors", "*.py")
    folder = tiny_checkpoints.write(tmp_path / "code", "bert")
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoModel": "own.OwnModel", "AutoTokenizer": ["someone/else--tok.Tok", None]}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": classes}))
    assert lacking("huggingface", {}, folder) == []
    assert lacking("huggingface", trusted, folder) == ["own.py", "someone/else--tok.py"]
    (folder / "own.py").touch()
    assert lacking("huggingface", trusted, folder) == ["someone/else--tok.py"]


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_pictures_need_the_file_that_tells_how_they_are_prepared(tmp_path, name):
    """Where pictures are scored; under either name the library itself finds it there."""
    folder = tiny_composites.write(tmp_path / "clip", "clip")
    assert lacking("huggingface", {}, folder) == []
    assert lacking("huggingface", {}, folder, images=True) == ["preprocessor_config.json"]
    (folder / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    assert lacking("huggingface", {}, folder, images=True) == ["preprocessor_config.json"]
    content = transformers.CLIPImageProcessor().to_dict()
    nested = content if name.startswith("pre") else {"image_processor": content}
    (folder / name).write_text(json.dumps(nested, default=str))
    assert lacking("huggingface", {}, folder, images=True) == []
    assert transformers.AutoImageProcessor.from_pretrained(folder).crop_size["height"] == 224
    assert lacking("open_clip", {}, write_open_clip(tmp_path / "open", "siglip"), images=True) == []


def test_a_backbone_with_pictures_lacks_the_file_only_where_pictures_are_scored(tmp_path, monkeypatch):
    entry = {"adapter": "huggingface", "checkpoint": "own/clip", "revision": "0" * 40, "images": True}
    backbone = parse_backbone("mine", entry, "suite.toml")
    folder = tiny_composites.write(tmp_path / "clip", "clip")
    cached = tmp_path / "hub" / "models--own--clip" / "snapshots"
    cached.mkdir(parents=True)
    folder.rename(cached / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    pins = Pins.read(tmp_path / "none.json")
    assert missing_models([backbone], [tasks().get("mini-inference")], pins) == []
    (line,) = missing_models([backbone], [tasks().get("multi30k")], pins)
    assert line == "backbone mine: own/clip lacks preprocessor_config.json"


WRITERS = {
    "huggingface": lambda folder: tiny_checkpoints.write(folder, "bert"),
    "mclip": write_mclip,
    "open_clip": lambda folder: write_open_clip(folder, "siglip"),
    "sentence_transformers": lambda folder: write_sentence(folder, "distilbert"),
}


@pytest.mark.parametrize("adapter", LAYOUTS)
def test_what_is_complete_loads_and_what_is_not_is_named(tmp_path, adapter):
    folder = WRITERS[adapter](tmp_path / "model")
    assert lacking(adapter, {}, folder) == []
    known = LAYOUTS[adapter]
    for path in folder.rglob("*"):
        if path.name in (*known.description, "tokenizer.json", "tokenizer_config.json"):
            path.unlink()
    described = [" or ".join(known.description)]
    # what tower it is, and so whether open_clip's own tokenizer will do, stands in the description
    assert lacking(adapter, {}, folder) == described + ([] if adapter == "open_clip" else ["a tokenizer"])
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    assert " or ".join(known.weights) in lacking(adapter, {}, folder)


def test_an_index_needs_all_of_its_parts(tmp_path):
    folder = tiny_checkpoints.write(tmp_path, "bert")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {name: f"model-0000{1 + k % 2}-of-00002.safetensors" for k, name in enumerate(weights)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    assert lacking("huggingface", {}, folder) == ["model-00002-of-00002.safetensors"]


def test_open_clip_towers_need_the_tokenizer_that_they_name(tmp_path):
    folder = write_open_clip(tmp_path / "clip", "clip")
    assert lacking("open_clip", {}, folder) == [], "open_clip ships the BPE of this one"
    (folder / "open_clip_config.json").unlink()
    assert lacking("open_clip", {}, folder) == ["open_clip_config.json"]
    laion = get("laion-xlmr-large").options
    assert lacking("open_clip", laion, folder) == ["a tokenizer"]
    tiny_checkpoints.unigram().save_pretrained(folder)
    assert lacking("open_clip", laion, folder) == []


def test_weights_of_another_part_are_not_the_encoders():
    """Sentence-transformers repositories have safetensors of a dense layer in a folder of its own."""
    names = ["pytorch_model.bin", "2_Dense/model.safetensors", "config.json"]
    assert not readable("huggingface", names)
    assert unpickled("huggingface", names) == {"pytorch_model.bin": "model.safetensors"}
    assert readable("a-strangers", names) and unpickled("a-strangers", names) == {}


def test_pickled_weights_of_a_stack_are_those_of_its_modules_that_have_no_others():
    top = ["modules.json", "model.safetensors"]
    nested = [
        "2_Dense/pytorch_model.bin",
        "3_LayerNorm/pytorch_model.bin",
        "3_LayerNorm/model.safetensors",
        "checkpoint-500/pytorch_model.bin",
        "2_Dense/optimizer.bin",
        "old/2_Dense/pytorch_model.bin",
    ]
    dense = {"2_Dense/pytorch_model.bin": "2_Dense/model.safetensors"}
    assert unpickled("sentence_transformers", [*top, *nested]) == dense
    assert unpickled("huggingface", [*top, *nested]) == {}, "which reads the transformer alone"
    both = {"pytorch_model.bin": "model.safetensors", **dense}
    assert unpickled("sentence_transformers", ["modules.json", "pytorch_model.bin", *nested]) == both
    parts = ["model.safetensors.index.json", "pytorch_model.bin"]
    assert unpickled("sentence_transformers", parts) == {}, "its safetensors are in parts"


def test_tied_weights_old_files_and_training_checkpoints_are_converted(tmp_path):
    table = torch.randn(6, 4)
    state = {"a": table, "b": table, "part": table[2:4], "turned": table.T, "one": torch.tensor(2)}
    for number, content in enumerate((state, {"epoch": 3, "state_dict": state})):
        for zipped in (True, False):
            torch.save(content, tmp_path / "in.bin", _use_new_zipfile_serialization=zipped)
            target = tmp_path / f"out-{number}-{zipped}.safetensors"
            convert(tmp_path / "in.bin", target)
            made = load_file(target)
            assert made.keys() == state.keys()
            assert all(torch.equal(made[name], state[name]) for name in state)
    assert len(list(tmp_path.iterdir())) == 5


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    torch.save({"weight": torch.ones(2), "more": Payload(tmp_path / "ran")}, tmp_path / "bad.bin")
    with pytest.raises(DataError, match=r"bad\.bin holds more than tensors.*\n.*nothing of the file was run"):
        convert(tmp_path / "bad.bin", tmp_path / "model.safetensors")
    for content in ([torch.ones(2)], {"weight": torch.ones(2), "step": 3}, {}):
        torch.save(content, tmp_path / "bad.bin")
        with pytest.raises(DataError, match="no table of named tensors"):
            convert(tmp_path / "bad.bin", tmp_path / "model.safetensors")
    (tmp_path / "bad.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataError, match="damaged"):
        convert(tmp_path / "bad.bin", tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.bin"]


def test_entries_that_no_adapter_loads_say_why():
    described = {name: backbone.unloadable for name, backbone in backbones().items() if backbone.unloadable}
    assert set(described) == {"jina-clip-v2"}
    for name, why in described.items():
        with pytest.raises(SuiteError, match=f"`{name}` .*cannot be loaded yet: {why}"):
            load(get(name))
