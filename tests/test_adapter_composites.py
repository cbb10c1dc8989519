"""Text encoders of whole vision-language and encoder-decoder models, against the library's own reading of the same files."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import tiny_composites
import torch

from xtremex.adapters.contract import check
from xtremex.adapters.families import FAMILIES
from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.errors import ArtifactError, SuiteError, UnknownName

import transformers  # isort: skip
from safetensors.torch import load_file, save_file  # isort: skip

TEXTS = ["The ship left", "the harbour came back in the morning", "Größe und Gewicht", "船は昨日の夜"]
TOWERS = ["altclip", "chinese_clip", "clip", "metaclip_2", "siglip", "siglip2"]
ENCODERS = ["m2m_100", "mt5"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("composites")
    return cache(lambda kind: tiny_composites.write(root / kind, kind))


@pytest.fixture(scope="module")
def encoders(folders):
    return cache(lambda kind: HuggingFaceEncoder.load(str(folders(kind))))


@pytest.fixture
def spare(folders, tmp_path):
    """A copy of a checkpoint that a test may damage."""
    return lambda kind: Path(shutil.copytree(folders(kind), tmp_path / "spare"))


def edit(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def batch(encoder, texts=TEXTS) -> dict[str, torch.Tensor]:
    padding = (
        {"padding": "max_length", "max_length": encoder.info.pad_to}
        if encoder.info.pad_to
        else {"padding": True}
    )
    coded = encoder.tokenizer(list(texts), return_tensors="pt", **padding)
    return {"input_ids": coded["input_ids"], "attention_mask": coded["attention_mask"]}


@torch.no_grad()
def run(encoder, inputs):
    return encoder(**inputs)


@torch.no_grad()
def library(folder: Path, kind: str, inputs):
    """States, pooled and projected vectors as the library's whole model gives them."""
    if kind == "mt5":
        encoder = transformers.MT5EncoderModel.from_pretrained(folder).eval()
        return encoder(**inputs, output_hidden_states=True).hidden_states, None, None
    whole = transformers.AutoModel.from_pretrained(folder).eval()
    if kind == "m2m_100":
        return whole.encoder(**inputs, output_hidden_states=True).hidden_states, None, None
    if kind.startswith("siglip"):  # trained without a mask
        inputs = {"input_ids": inputs["input_ids"]}
    out = whole.text_model(**inputs, output_hidden_states=True)
    features = whole.get_text_features(**inputs).pooler_output
    if kind == "altclip":  # its `last_hidden_state` is projected already
        return out.hidden_states, whole.text_model.pre_LN(out.hidden_states[-1])[:, 0], features
    if kind == "chinese_clip":
        return out.hidden_states, out.last_hidden_state[:, 0], features
    states = (*out.hidden_states[:-1], out.last_hidden_state)  # only this one is normed
    return states, states[-1][:, -1] if kind.startswith("siglip") else out.pooler_output, features


@pytest.mark.parametrize("kind", [*TOWERS, *ENCODERS])
def test_passes_the_contract(encoders, kind, capfd):
    results = check(encoders(kind))
    assert [(r.name, r.detail) for r in results if r.status == "failed"] == []
    assert not kind.startswith(("alt", "chinese", "m", "clip")) or "padding" in {
        r.name for r in results if r.status == "passed"
    }


@pytest.mark.parametrize("kind", [*TOWERS, *ENCODERS])
def test_vectors_and_states_are_those_of_the_library(encoders, folders, kind):
    encoder = encoders(kind)
    inputs = batch(encoder)
    ours, (states, pooled, projected) = run(encoder, inputs), library(folders(kind), kind, inputs)
    real = inputs["attention_mask"].bool()
    assert len(ours.hidden_states) == len(states) == encoder.info.layers + 1
    for mine, theirs in zip(ours.hidden_states, states, strict=True):
        assert torch.allclose(mine[real], theirs[real], atol=1e-5)
    if pooled is None:
        assert ours.projected is None
        means = torch.stack([row[kept].mean(0) for row, kept in zip(states[-1], real, strict=True)])
        assert torch.allclose(ours.pooled, means, atol=1e-5)
    else:
        assert torch.allclose(ours.pooled, pooled, atol=1e-5)
        assert torch.allclose(ours.projected, projected, atol=1e-5)
        assert ours.projected.shape == (len(TEXTS), tiny_composites.SIZE)
    assert ours.pooled.std(0).mean() > 1e-2, "texts must differ, or any loader would pass"


@pytest.mark.parametrize(
    "kind, loader", [("altclip", "AltCLIPTextModel"), ("chinese_clip", "ChineseCLIPTextModel")]
)
def test_the_naive_loader_would_leave_every_weight_random(encoders, folders, kind, loader):
    """The text class's own ``from_pretrained`` of a full checkpoint only warns (transformers 5.23)."""
    naive, report = getattr(transformers, loader).from_pretrained(folders(kind), output_loading_info=True)
    assert len(report["missing_keys"]) == len(naive.state_dict()), "the library mended it: tell encoders.md"
    encoder = encoders(kind)
    inputs = batch(encoder)
    with torch.no_grad():
        random = naive.eval()(**inputs, output_hidden_states=True).hidden_states
    states = library(folders(kind), kind, inputs)[0]
    assert torch.allclose(run(encoder, inputs).hidden_states[-1], states[-1], atol=1e-5)
    assert not torch.allclose(random[-1], states[-1], atol=0.1)


@pytest.mark.parametrize("kind", [*TOWERS, *ENCODERS])
def test_saved_is_the_text_encoder_alone_under_the_names_of_the_whole(encoders, folders, tmp_path, kind):
    encoders(kind).save(tmp_path)
    saved, whole = load_file(tmp_path / "model.safetensors"), load_file(folders(kind) / "model.safetensors")
    if kind in ENCODERS:  # written by a class with another prefix, and the embeddings under their first name
        whole = {name.removeprefix("model."): tensor for name, tensor in whole.items()}
        whole["encoder.embed_tokens.weight"] = whole["shared.weight"]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in saved.items())
    assert len(saved) < len(whole)
    assert {name.split(".")[0] for name in saved} <= {"text_model", "text_projection", "encoder"}
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["model_type"] == kind
    # with the image tower or decoder random, the library's own class of the whole reads it
    theirs = transformers.AutoModel.from_pretrained(tmp_path).state_dict()
    ours = encoders(kind).model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_nothing_else_is_built_or_kept(encoders):
    for kind in [*TOWERS, *ENCODERS]:
        names = [name for name, _ in encoders(kind).named_modules()]
        assert not [name for name in names if "vision" in name or "visual" in name or "decoder" in name]


@pytest.mark.parametrize(
    "kind, family, pooling, causal, fixed, longest",
    [
        ("altclip", "xlm-roberta", "cls", False, None, 64),
        ("chinese_clip", "bert", "cls", False, None, 64),
        ("clip", "clip", "eos", True, None, 77),
        ("metaclip_2", "metaclip_2", "eos", True, None, 77),
        ("siglip", "siglip", "last", False, 64, 64),
        ("siglip2", "siglip2", "last", False, 64, 64),
        ("m2m_100", "m2m_100", "mean", False, None, 64),
        ("mt5", "mt5", "mean", False, None, 1024),
    ],
)
def test_info(encoders, kind, family, pooling, causal, fixed, longest):
    info = encoders(kind).info
    assert (info.family, info.pooling, info.causal, info.pad_to) == (family, pooling, causal, fixed)
    assert (info.hidden_size, info.layers, info.max_length) == (32, 2, longest)
    assert info.attends_padding == (fixed is not None)
    assert (info.objective == "image-contrastive") == (kind in TOWERS)
    assert info.dropout == (0.1 if kind in ("altclip", "chinese_clip", *ENCODERS) else 0.0)


@pytest.mark.parametrize(
    "kind, name",
    [
        ("altclip", "text_model.roberta.encoder.layer.1.output.dense.weight"),
        ("altclip", "text_model.pre_LN.bias"),
        ("altclip", "text_model.transformation.weight"),
        ("altclip", "text_projection.weight"),
        ("chinese_clip", "text_model.encoder.layer.0.attention.self.query.weight"),
        ("clip", "text_model.final_layer_norm.weight"),
        ("metaclip_2", "text_model.embeddings.token_embedding.weight"),
        ("siglip", "text_model.head.bias"),
        ("siglip2", "text_model.encoder.layers.1.mlp.fc2.weight"),
        ("m2m_100", "model.shared.weight"),
        ("m2m_100", "model.encoder.layers.1.fc1.weight"),
        ("mt5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
    ],
)
def test_no_weight_stays_random(spare, kind, name):
    folder = spare(kind)
    edit(folder, lambda weights: weights.pop(name))
    with pytest.raises(ArtifactError, match=r"[12] missing: "):
        HuggingFaceEncoder.load(str(folder))


def test_unexpected_and_misshapen_weights_are_refused(spare):
    folder = spare("altclip")
    edit(folder, lambda weights: weights.update({"text_model.transformation_pre.weight": torch.ones(1)}))
    with pytest.raises(ArtifactError, match=r"1 unexpected: text_model\.transformation_pre\.weight"):
        HuggingFaceEncoder.load(str(folder))
    edit(folder, lambda weights: weights.pop("text_model.transformation_pre.weight"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["project_dim"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="misshapen|cannot be loaded"):
        HuggingFaceEncoder.load(str(folder))


def test_the_files_of_the_hub_as_transformers_4_wrote_them(spare, encoders):
    """The configuration twice (``text_config_dict``), a position buffer, and a pooler that the class no longer has."""
    folder = spare("altclip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config_dict"] = config["text_config"]
    (folder / "config.json").write_text(json.dumps(config))
    stale = {
        "text_model.roberta.embeddings.position_ids": torch.arange(66)[None],
        "text_model.roberta.pooler.dense.weight": torch.ones(32, 32),
        "text_model.roberta.pooler.dense.bias": torch.ones(32),
    }
    edit(folder, lambda weights: weights.update(stale))
    before, after = encoders("altclip"), HuggingFaceEncoder.load(str(folder))
    assert before.info == after.info
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["chinese_clip", "m2m_100"])
def test_sharded_checkpoints(encoders, tmp_path, kind):
    folder = tiny_composites.write(tmp_path / kind, kind, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    assert len(shards) > 3 and not (folder / "model.safetensors").exists()
    whole, parts = encoders(kind).state_dict(), HuggingFaceEncoder.load(str(folder)).state_dict()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    shards[0].unlink()
    with pytest.raises(ArtifactError):
        HuggingFaceEncoder.load(str(folder))


def test_siglip_has_a_fast_tokenizer_on_the_vocabulary_of_the_slow_one(encoders, folders):
    """Ids are those of the library where there is nothing to clean; the cleaning moves characters and is left out."""
    fast, slow = encoders("siglip").tokenizer, transformers.SiglipTokenizer.from_pretrained(folders("siglip"))
    assert fast.is_fast and not slow.is_fast
    texts = ["the ship left the harbour", "größe und gewicht", "船は昨日の夜 横浜港", "a ﬁne ship"]
    padded = {"padding": "max_length", "max_length": 64}
    for text in texts:
        assert fast(text, **padded)["input_ids"] == slow(text, **padded)["input_ids"]
    assert slow("The ship.")["input_ids"] == slow("the ship")["input_ids"]
    coded = fast("The ship.", return_offsets_mapping=True)
    assert [coded["offset_mapping"][coded.char_to_token(at)] for at in (0, 8)] == [(0, 1), (8, 9)]
    assert encoders("siglip").info.cleaning == "canonicalize"


def test_siglip_reads_its_padding_and_no_mask(encoders):
    encoder = encoders("siglip")
    with pytest.raises(ValueError, match="inputs have 64 tokens, not"):
        coded = encoder.tokenizer(TEXTS, padding=True, return_tensors="pt")
        encoder(coded["input_ids"], coded["attention_mask"])


def test_a_siglip_without_head(spare, encoders):
    """SigLIP So400m i18n says ``no_head``; transformers 5.23 would draw one."""
    folder = spare("siglip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["no_head"] = True
    (folder / "config.json").write_text(json.dumps(config))
    for part in ("weight", "bias"):
        edit(folder, lambda weights, part=part: weights.pop(f"text_model.head.{part}"))
    encoder = HuggingFaceEncoder.load(str(folder))
    out = run(encoder, batch(encoder))
    assert torch.equal(out.pooled, out.projected)
    assert torch.equal(out.pooled, run(encoders("siglip"), batch(encoder)).pooled)


def test_siglip_2_is_padded_on_the_right_and_lower_cases_itself(encoders):
    encoder = encoders("siglip2")
    inputs = batch(encoder, ["The ship"])
    assert inputs["attention_mask"][0, 0] == 1 and inputs["attention_mask"][0, -1] == 0
    assert torch.equal(inputs["input_ids"], batch(encoder, ["the SHIP"])["input_ids"])
    assert encoder.info.cleaning == ""


@pytest.mark.parametrize("kind", ["clip", "metaclip_2"])
def test_causal_towers_are_pooled_where_the_second_text_of_a_pair_ends(encoders, kind):
    encoder = encoders(kind)
    coded = encoder.tokenizer("The ship", "left the harbour", return_tensors="pt")
    inputs = {"input_ids": coded["input_ids"], "attention_mask": coded["attention_mask"]}
    out = run(encoder, inputs)
    assert torch.equal(out.pooled[0], out.hidden_states[-1][0, -1])
    first = (inputs["input_ids"][0] == encoder.tokenizer.eos_token_id).nonzero()[0, 0]
    assert first < len(inputs["input_ids"][0]) - 1


def test_language_code(encoders, folders, tmp_path):
    default, german = (
        encoders("m2m_100"),
        HuggingFaceEncoder.load(str(folders("m2m_100")), language_code="deu_Latn", pooling="cls"),
    )
    assert (default.info.language_code, german.info.language_code) == ("eng_Latn", "deu_Latn")
    for encoder, code in ((default, "eng_Latn"), (german, "deu_Latn")):
        assert encoder.tokenizer("The ship").tokens()[0] == code
        assert encoder.tokenizer("The", "ship").tokens().count("</s>") == 2
    inputs = batch(german)
    out = run(german, inputs)
    assert torch.equal(out.pooled, out.hidden_states[-1][:, 0])
    assert not torch.allclose(out.pooled, run(default, batch(default)).hidden_states[-1][:, 0], atol=1e-3)
    german.save(tmp_path)
    again = HuggingFaceEncoder.load(str(tmp_path))
    assert again.info == german.info
    assert torch.equal(batch(again)["input_ids"], inputs["input_ids"])
    assert HuggingFaceEncoder.load(str(tmp_path), language_code="fra_Latn").info.language_code == "fra_Latn"


def test_language_codes_that_are_none(folders):
    with pytest.raises(UnknownName, match=r"deu_latn(.|\n)*did you mean `deu_Latn`"):
        HuggingFaceEncoder.load(str(folders("m2m_100")), language_code="deu_latn")
    with pytest.raises(SuiteError, match="puts no language code before a text"):
        HuggingFaceEncoder.load(str(folders("mt5")), language_code="deu_Latn")


def test_pooling_is_free_where_it_means_something(folders):
    encoder = HuggingFaceEncoder.load(str(folders("siglip")), pooling="mean")
    inputs = batch(encoder)
    out, mask = run(encoder, inputs), inputs["attention_mask"].unsqueeze(-1)
    assert torch.allclose(out.pooled, (out.hidden_states[-1] * mask).sum(1) / mask.sum(1), atol=1e-6)
    native = run(HuggingFaceEncoder.load(str(folders("siglip"))), inputs)
    assert torch.equal(out.projected, native.projected)
    for kind, pooling, reason in (
        ("siglip", "cls", "no special token before"),
        ("mt5", "cls", "no special token before"),
        ("mt5", "last", "no fixed length"),
        ("altclip", "last", "no fixed length"),
    ):
        with pytest.raises(SuiteError, match=f"cannot be pooled by `{pooling}`: .*{reason}"):
            HuggingFaceEncoder.load(str(folders(kind)), pooling=pooling)


def test_every_family_is_tried_here():
    """T5 and umT5 are read as mT5 is."""
    assert set(tiny_composites.MADE) == set(FAMILIES) - {"t5", "umt5"}
