"""Checkpoints that are not what they seem: stale records, leftovers of other tools, damaged and foreign files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_clip
import tiny_composites
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_checkpoints import SMALL, unigram, write

from xtremex.adapters.checkpoints import inner_config
from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.adapters.lm_head import CheckpointHead
from xtremex.adapters.mclip import MClipEncoder
from xtremex.adapters.open_clip import OpenClipEncoder
from xtremex.adapters.pooling import pool
from xtremex.errors import ArtifactError, SuiteError
from xtremex.models.catalogue import load_tower, parse_backbone

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: write(root / kind, kind) for kind in ("xlm-roberta", "bert")}


@pytest.fixture
def xlmr(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the XLM-R folder that a test may damage."""
    return Path(shutil.copytree(folders["xlm-roberta"], tmp_path / "xlmr"))


def configure(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def recorded(folder: Path, **values: object) -> None:
    """Change what ``save`` recorded in a folder."""
    content = json.loads((folder / "xtremex.json").read_text())
    configure(folder / "xtremex.json", info=content["info"] | values)


def save_plain(folder: Path, model: torch.nn.Module) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    unigram().save_pretrained(folder)
    return folder


def test_what_the_folder_tells_is_read_off_it_again(folders, tmp_path):
    """Somebody trained on, or edited the tokenizer; what only the record tells is kept."""
    encoder = HuggingFaceEncoder.load(
        str(folders["xlm-roberta"]), pooling="cls", text_prefix="query: ", licence="MIT", objective="x"
    )
    encoder.save(tmp_path)
    assert HuggingFaceEncoder.load(str(tmp_path)).info == encoder.info
    configure(tmp_path / "config.json", hidden_dropout_prob=0.0)
    configure(tmp_path / "tokenizer.json", normalizer={"type": "Lowercase"})
    recorded(tmp_path, layers=7, causal=True, pooled_unit_norm=True, max_length=3)
    info = HuggingFaceEncoder.load(str(tmp_path)).info
    assert (info.dropout, info.layers, info.causal, info.pooled_unit_norm, info.max_length) == (
        0.0,
        2,
        False,
        False,
        64,
    )
    assert info.tokenizer_id != encoder.info.tokenizer_id
    assert (info.pooling, info.text_prefix, info.licence, info.objective) == ("cls", "query: ", "MIT", "x")


def test_the_record_of_another_adapter_is_not_believed(tmp_path):
    pytest.importorskip("sentence_transformers", reason='pip install ".[sentence]"')
    from tiny_sentence import write_sentence

    from xtremex.adapters.sentence_transformers import SentenceTransformersEncoder

    for kind in ("e5", "qwen"):
        stack = SentenceTransformersEncoder.load(str(write_sentence(tmp_path / kind, kind)))
        stack.save(tmp_path / f"{kind}-saved")
        plain = HuggingFaceEncoder.load(str(tmp_path / f"{kind}-saved"))
        assert (plain.info.pooling, plain.info.pooled_unit_norm, plain.info.text_prefix) == (
            "mean",
            False,
            "",
        )
    assert stack.info.pooling == "lasttoken"


@pytest.mark.parametrize("pooling", ["lasttoken", "max", ""])
def test_an_unknown_pooling_is_never_taken_for_another(pooling):
    states, mask = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.long)
    with pytest.raises(SuiteError, match=f"unknown pooling `{pooling}`"):
        pool(states, mask, pooling)


def test_a_recorded_pooling_that_means_nothing_is_refused(folders, tmp_path):
    HuggingFaceEncoder.load(str(folders["xlm-roberta"])).save(tmp_path)
    recorded(tmp_path, pooling="lasttoken")
    with pytest.raises(SuiteError, match="unknown pooling `lasttoken`"):
        HuggingFaceEncoder.load(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "adapter"), [(tiny_clip.write_mclip, MClipEncoder), (tiny_clip.write_open_clip, OpenClipEncoder)]
)
def test_records_of_the_other_adapters(tmp_path, make, adapter):
    folder = make(tmp_path / "made", *(["xlm-roberta"] if adapter is OpenClipEncoder else []))
    encoder = adapter.load(str(folder))
    encoder.save(tmp_path / "saved")
    recorded(tmp_path / "saved", dropout=0.7, text_prefix="query: ", max_length_trained=9, layers=1)
    info = adapter.load(str(tmp_path / "saved")).info
    assert (info.dropout, info.layers) == (0.1, 2)
    assert (info.text_prefix, info.max_length_trained) == ("query: ", 9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "expected a table"),
        ('{"info": {"newer": 1}}', "unknown key `newer`"),
        ('{"info": {"family": 1}}', "family: expected str"),
        ("[]", "holds no JSON object"),
        ('{"info"', "cannot be read"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused(xlmr, content, said):
    (xlmr / "xtremex.json").write_text(content)
    with pytest.raises(ArtifactError, match=rf"xtremex\.json.*{said}") as caught:
        HuggingFaceEncoder.load(str(xlmr))
    assert caught.value.hint


def test_long_texts_lose_their_end_and_not_their_beginning(xlmr):
    configure(xlmr / "tokenizer_config.json", padding_side="left", truncation_side="left")
    tokenizer = HuggingFaceEncoder.load(str(xlmr)).tokenizer
    whole, cut = (
        tokenizer("The ship left the harbour", truncation=n is not None, max_length=n)["input_ids"]
        for n in (None, 6)
    )
    assert cut == [*whole[:5], whole[-1]] and len(whole) > 6
    assert tokenizer(["The", "The ship left"], padding=True)["attention_mask"][0][-1] == 0


def test_a_separator_that_somebody_wrote_separates_nothing(folders):
    """In ids alone, `a [SEP] b` and the pair (a, b) would be the same."""
    encoder = HuggingFaceEncoder.load(str(folders["bert"]))
    plain = transformers.AutoModel.from_pretrained(folders["bert"]).eval()
    end = encoder.tokenizer.sep_token_id
    for texts, ends in ((("the [SEP] ship",), 1), (("the [SEP] ship", "the harbour"), 2)):
        batch = encoder.tokenizer(*texts, return_tensors="pt", return_token_type_ids=True)
        assert (batch["input_ids"] == end).sum() == ends
        with torch.no_grad():
            expected = plain(**batch).last_hidden_state
            states = encoder(batch["input_ids"], batch["attention_mask"]).hidden_states[-1]
        assert torch.allclose(states, expected, atol=1e-6)
    words = encoder.tokenizer(["the", "[SEP]", "ship"], is_split_into_words=True)
    assert words["input_ids"].count(end) == 1 and set(words.word_ids()) == {None, 0, 1, 2}


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_lora_beside_the_weights_is_not_ignored(xlmr, name):
    (xlmr / name).write_text('{"peft_type": "LORA"}')
    with pytest.raises(ArtifactError, match=rf"LoRA.*{name}(.|\n)*merge"):
        HuggingFaceEncoder.load(str(xlmr))


def test_the_pretraining_head_is_found_from_another_place(xlmr, monkeypatch):
    monkeypatch.chdir(xlmr.parent)
    encoder = HuggingFaceEncoder.load("xlmr")
    monkeypatch.chdir("/")
    assert isinstance(encoder.masked_lm_head(), CheckpointHead)


@pytest.mark.parametrize("damage", [lambda data: POINTER, lambda data: data[: len(data) // 2]])
def test_damaged_weights(folders, tmp_path, damage):
    pytest.importorskip("sentence_transformers", reason='pip install ".[sentence]"')
    from tiny_sentence import write_sentence

    from xtremex.adapters.sentence_transformers import SentenceTransformersEncoder

    plain = Path(shutil.copytree(folders["xlm-roberta"], tmp_path / "plain"))
    stack = write_sentence(tmp_path / "stack", "distilbert")
    clip = tiny_composites.write(tmp_path / "clip", "altclip")
    tower = parse_backbone("t", {"adapter": "huggingface", "checkpoint": str(clip), "images": True}, "s.toml")
    for path, read in (
        (plain / "model.safetensors", lambda: HuggingFaceEncoder.load(str(plain))),
        (stack / "2_Dense" / "model.safetensors", lambda: SentenceTransformersEncoder.load(str(stack))),
        (clip / "model.safetensors", lambda: load_tower(tower)),
    ):
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ArtifactError) as caught:
            read()
        assert caught.value.hint, path


def test_a_configuration_that_contradicts_itself(xlmr):
    configure(xlmr / "config.json", num_hidden_layers="two")
    with pytest.raises(ArtifactError, match=r"config\.json of .* is wrong: .*num_hidden_layers"):
        HuggingFaceEncoder.load(str(xlmr))


def test_a_network_that_wants_a_language(tmp_path):
    sizes = {**SMALL, "vocab_size": len(unigram()), "pad_token_id": 1, "max_position_embeddings": 66}
    config = transformers.XmodConfig(**sizes, languages=("en_XX", "de_DE"))
    folder = save_plain(tmp_path, transformers.XmodModel(config))
    with pytest.raises(SuiteError, match=r"\(xmod\) does not run on ids and a mask alone: Input language"):
        HuggingFaceEncoder.load(str(folder))


TEXT_TOWERS = ("AltCLIP", "ChineseCLIP", "CLIP", "MetaClip2", "Siglip")


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_a_text_tower_cut_out_of_its_model_is_refused(tmp_path, name):
    sizes = {**SMALL, "vocab_size": len(unigram()), "pad_token_id": 1, "max_position_embeddings": 66}
    config = getattr(transformers, f"{name}TextConfig")(**sizes)
    folder = save_plain(tmp_path, getattr(transformers, f"{name}TextModel")(config))
    with pytest.raises(SuiteError, match=r"is a text tower alone(.|\n)*vision-language model"):
        HuggingFaceEncoder.load(str(folder))


def test_an_objective_is_said_only_where_it_is_known(folders, tmp_path):
    assert HuggingFaceEncoder.load(str(folders["bert"])).info.objective == "mlm"
    encoder = HuggingFaceEncoder.load(str(folders["xlm-roberta"]))
    assert encoder.info.objective == "mlm"
    sizes = {**SMALL, "vocab_size": len(unigram()), "num_key_value_heads": 2, "head_dim": 8}
    config = transformers.Qwen3Config(**sizes, max_position_embeddings=64)
    folder = save_plain(tmp_path / "bare", transformers.Qwen3Model(config))
    info = HuggingFaceEncoder.load(str(folder)).info
    assert (info.objective, info.causal) == ("unknown", True)
    encoder.model.save_pretrained(tmp_path / "encoder")
    encoder.tokenizer.save_pretrained(tmp_path / "encoder")
    assert HuggingFaceEncoder.load(str(tmp_path / "encoder")).info.objective == "unknown"


def test_equal_embeddings_make_no_network_causal(xlmr):
    weights = load_file(xlmr / "model.safetensors")
    [name] = [name for name in weights if name.endswith("word_embeddings.weight")]
    weights[name][4] = weights[name][3]
    save_file(weights, xlmr / "model.safetensors", metadata={"format": "pt"})
    assert not HuggingFaceEncoder.load(str(xlmr)).info.causal
    weights[name][:] = 0
    save_file(weights, xlmr / "model.safetensors", metadata={"format": "pt"})
    assert not HuggingFaceEncoder.load(str(xlmr)).info.causal


@pytest.mark.parametrize(("size", "layers", "width"), [("600M", 12, 4096), ("1.3B", 24, 8192)])
def test_the_network_inside_nllb_clip_needs_no_second_repository(tmp_path, size, layers, width):
    """Sizes as of the catalogue, without a cache or a network."""
    config = inner_config([tmp_path], f"facebook/nllb-200-distilled-{size}", "clip")
    with torch.device("meta"):
        encoder = transformers.M2M100Model(config).encoder
    assert (len(encoder.layers), encoder.layers[0].fc1.out_features) == (layers, width)
    total = sum(parameter.numel() for parameter in encoder.parameters())
    stated = {"600M": 413_600_000, "1.3B": 766_100_000}[size]
    assert abs(total - stated) < 100_000
    assert (config.pad_token_id, config.eos_token_id, config.scale_embedding) == (1, 2, True)


def test_a_repository_that_cannot_be_had_is_told_in_one_clause():
    with pytest.raises(ArtifactError) as caught:
        HuggingFaceEncoder.load("nobody/nothing", revision="refs/pr/1")
    assert "hf download nobody/nothing --revision refs/pr/1 " in caught.value.hint
    assert caught.value.message.endswith("it is not in the local cache, with no network to look further")


def test_open_clip_weights_under_their_second_name(tmp_path, monkeypatch):
    """A cache as the hub's client leaves it, of a repository with `model.safetensors` alone."""
    import huggingface_hub
    from huggingface_hub import constants

    commit = "0123456789abcdef" * 2 + "01234567"
    cached = tmp_path / "models--someone--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    folder = tiny_clip.write_open_clip(cached / "snapshots" / commit, "xlm-roberta")
    (folder / "open_clip_model.safetensors").rename(folder / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    asked = []
    download = huggingface_hub.snapshot_download

    def seen(*args, **kwargs):
        asked.append("model.safetensors" in kwargs["allow_patterns"])
        return download(*args, **kwargs, cache_dir=tmp_path)

    def file(*args, **kwargs):
        return one(*args, **kwargs, cache_dir=tmp_path)

    one = huggingface_hub.hf_hub_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", seen)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", file)
    assert OpenClipEncoder.load("someone/tiny", revision="main").info.revision == commit
    assert asked == [False, True]
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    OpenClipEncoder.load("someone/tiny", revision="main")
    assert asked[2:] == [False], "one name is enough where the first is there"
