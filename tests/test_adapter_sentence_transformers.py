"""The adapter of sentence-transformers on tiny checkpoints that the library saved, against the library itself."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sentence import KINDS, SentenceTransformer, modules, write_sentence

from xtremex.adapters.contract import SENTENCES, assert_contract
from xtremex.adapters.layouts import lacking
from xtremex.adapters.sentence_transformers import SentenceTransformersEncoder
from xtremex.errors import ArtifactError, SuiteError

DENSE = "2_Dense"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sentence_transformers")
    return {kind: write_sentence(root / kind, kind) for kind in KINDS}


@pytest.fixture
def clip(folders, tmp_path) -> Path:
    """Laid out as clip-ViT-B-32-multilingual-v1, to be damaged."""
    return Path(shutil.copytree(folders["distilbert"], tmp_path / "copy"))


def tokens(encoder, texts):
    batch = encoder.tokenizer(
        texts, padding=True, truncation=True, max_length=encoder.info.max_length_trained, return_tensors="pt"
    )
    return batch["input_ids"], batch["attention_mask"]


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


@pytest.mark.parametrize("kind", KINDS)
def test_states_and_vectors_are_the_librarys(folders, kind):
    encoder = SentenceTransformersEncoder.load(str(folders[kind]))
    library = SentenceTransformer(str(folders[kind]), device="cpu")
    texts = [*SENTENCES, "The ship left the harbour in the evening. " * 20]
    ids, mask = tokens(encoder, [encoder.info.text_prefix + text for text in texts])
    with torch.no_grad():
        out = encoder(ids, mask)
    expected = library.encode(texts, convert_to_tensor=True)
    vector = out.pooled if out.projected is None else out.projected
    assert torch.allclose(vector, expected, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the comparison could fail
    states = library.encode(texts, output_value="token_embeddings", convert_to_tensor=True)
    for row, theirs in enumerate(states):
        assert torch.allclose(out.hidden_states[-1][row, : len(theirs)], theirs, atol=1e-5)
        assert len(theirs) == mask[row].sum()
    features = {"token_embeddings": out.hidden_states[-1], "attention_mask": mask}
    pooled = library[1](features)["sentence_embedding"]
    if kind in ("distilbert", "labse"):
        assert torch.allclose(out.pooled, pooled, atol=1e-6)
        assert out.projected is not None and out.projected.shape[1] == (20 if kind == "distilbert" else 32)


def test_info_is_read_from_the_stack(folders):
    info = {kind: SentenceTransformersEncoder.load(str(folder)).info for kind, folder in folders.items()}
    assert {kind: (i.pooling, i.pooled_unit_norm, i.text_prefix) for kind, i in info.items()} == {
        "e5": ("mean", True, "query: "),
        "distilbert": ("mean", False, ""),
        "labse": ("cls", False, ""),
        "qwen": ("lasttoken", False, ""),
    }
    assert {kind: (i.max_length_trained, i.max_length) for kind, i in info.items()} == {
        **dict.fromkeys(KINDS, (64, 64)),
        "distilbert": (48, 64),
    }
    assert [i.family for i in info.values()] == ["xlm-roberta", "distilbert", "bert", "xlm-roberta"]
    plain = SentenceTransformersEncoder.load(str(folders["e5"]), text_prefix="", objective="x").info
    assert (plain.text_prefix, plain.objective) == ("", "x")


@pytest.mark.parametrize("kind", KINDS)
def test_contract(folders, kind):
    assert_contract(SentenceTransformersEncoder.load(str(folders[kind])))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded_by_adapter_and_library(folders, tmp_path, kind):
    encoder = SentenceTransformersEncoder.load(str(folders[kind]))
    encoder.save(tmp_path / "saved")
    copied = SentenceTransformersEncoder.load(str(tmp_path / "saved"))
    assert copied.info == encoder.info
    state = copied.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
    theirs, again = (
        SentenceTransformer(str(folder), device="cpu") for folder in (folders[kind], tmp_path / "saved")
    )
    assert (theirs.encode(list(SENTENCES)) == again.encode(list(SENTENCES))).all()


def test_pickling_keeps_what_is_frozen(folders):
    encoder = SentenceTransformersEncoder.load(str(folders["labse"])).train()
    encoder.transformer.model.embeddings.requires_grad_(False)
    copied = pickle.loads(pickle.dumps(encoder))
    flags = [(name, p.requires_grad) for name, p in copied.named_parameters()]
    assert copied.training and flags == [(name, p.requires_grad) for name, p in encoder.named_parameters()]
    assert not all(flag for _, flag in flags)
    ids, mask = tokens(encoder, ["The ship"])
    assert torch.equal(copied.eval()(ids, mask).projected, encoder.eval()(ids, mask).projected)


def test_old_names_and_lower_case(clip):
    """As on the hub: modules under the library's first names, pooling modes one by one, lower-casing in its settings."""
    old = {"Transformer": "", "Pooling": "1_Pooling", "Dense": DENSE}
    rows = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(old.items())
    ]
    (clip / "modules.json").write_text(json.dumps(rows))
    (clip / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": true}')
    modes = {
        "word_embedding_dimension": 32,
        "pooling_mode_mean_tokens": False,
        "pooling_mode_max_tokens": True,
    }
    (clip / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    encoder = SentenceTransformersEncoder.load(str(clip))
    assert (encoder.info.pooling, encoder.info.max_length_trained) == ("max", 32)
    texts = [*SENTENCES, "The SHIP left"]
    ids, mask = tokens(encoder, texts)
    with torch.no_grad():
        vector = encoder(ids, mask).projected
    library = SentenceTransformer(str(clip), device="cpu")
    assert torch.allclose(vector, library.encode(texts, convert_to_tensor=True), atol=1e-5)
    assert torch.equal(tokens(encoder, ["The SHIP"])[0], tokens(encoder, ["the ship"])[0])
    encoder.save(clip.parent / "saved")
    assert SentenceTransformersEncoder.load(str(clip.parent / "saved")).info == encoder.info


def test_pickled_weights_are_never_read(clip):
    """The library itself would open the dense layer's."""
    path = clip / DENSE / "model.safetensors"
    torch.save(load_file(path), clip / DENSE / "pytorch_model.bin")
    path.unlink()
    assert SentenceTransformer(str(clip), device="cpu")[2].in_features == 32
    with pytest.raises(ArtifactError, match=r"`2_Dense` of .* has no model\.safetensors"):
        SentenceTransformersEncoder.load(str(clip))
    assert lacking("sentence_transformers", {}, clip) == [f"{DENSE}/model.safetensors"]


@pytest.mark.parametrize("place", ["", DENSE])
def test_weights_that_are_missing_too_many_or_misshapen_are_refused(clip, place):
    path = clip / place / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("bias"))
    cut = {**weights, name: weights[name][:-1]}
    more = weights | {f"{name.removesuffix('bias')}scale": torch.ones(2)}
    less = {other: tensor for other, tensor in weights.items() if other != name}
    for wrong in (cut, more, less):
        save_file(wrong, path, metadata={"format": "pt"})
        with pytest.raises(ArtifactError, match="does not hold exactly|cannot be loaded"):
            SentenceTransformersEncoder.load(str(clip))
    save_file(weights, path, metadata={"format": "pt"})
    SentenceTransformersEncoder.load(str(clip))


def row(kind: str, path: str = "2_Dense") -> dict[str, object]:
    return {"idx": 2, "name": "2", "path": path, "type": kind}


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("modules.json", lambda rows: rows[:1], "begins with Transformer, not"),
        ("modules.json", lambda rows: [*rows, row("sentence_transformers.models.LSTM")], "has LSTM behind"),
        ("modules.json", lambda rows: [*rows, row("mine.Own")], "whose code would have to run: mine.Own"),
        ("1_Pooling/config.json", lambda c: {**c, "pooling_mode": ["cls", "mean"]}, "joins several poolings"),
        ("1_Pooling/config.json", lambda c: {**c, "include_prompt": False}, "leaves its prompt out"),
        (f"{DENSE}/config.json", lambda c: {**c, "activation_function": "mine.Swish"}, "mine.Swish"),
        (f"{DENSE}/config.json", lambda c: {**c, "module_input_name": "token_embeddings"}, "something else"),
        ("sentence_bert_config.json", lambda c: {**c, "transformer_task": "fill-mask"}, "for fill-mask"),
    ],
)
def test_stacks_that_cannot_be_run_faithfully_are_refused(clip, file, change, reason):
    edit(clip / file, change)
    with pytest.raises(SuiteError, match=reason):
        SentenceTransformersEncoder.load(str(clip))


def test_wrong_places(clip, tmp_path):
    with pytest.raises(ArtifactError, match=r"has no modules\.json"):
        SentenceTransformersEncoder.load(str(clip / DENSE))
    with pytest.raises(SuiteError, match="is a local folder and has no revision `main`"):
        SentenceTransformersEncoder.load(str(clip), revision="main")
    (clip / "modules.json").write_text('{"0": "Transformer"}')
    with pytest.raises(ArtifactError, match="is no list of modules"):
        SentenceTransformersEncoder.load(str(clip))


def test_the_stack_is_read_with_the_librarys_classes(folders):
    """What the tests above compare with is what the adapter runs: a change of the library would be seen in both."""
    encoder = SentenceTransformersEncoder.load(str(folders["labse"]))
    assert [type(module) for module in encoder.behind] == [modules.Pooling, modules.Dense, modules.Normalize]
