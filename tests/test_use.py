"""An encoder on the terms of its pair: dropout really acts, texts are really cut, and all of it is taken back."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
import tiny_checkpoints
import tiny_composites
import torch
import transformers
from tiny_clip import write_open_clip
from tiny_sentence import write_sentence
from torch import nn
from toy_encoder import ToyEncoder
from toy_tasks import PLACES, THINGS, make, toy_task

from xtremex.adapters.base import Encoded, EncoderInfo
from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.adapters.open_clip import OpenClipEncoder
from xtremex.adapters.sentence_transformers import SentenceTransformersEncoder
from xtremex.benchmark.policy import settle
from xtremex.benchmark.schema import Arm, Pair, Policy
from xtremex.errors import SuiteError
from xtremex.models.catalogue import Backbone, Facts
from xtremex.models.heads import SentenceHead, sentence_vectors
from xtremex.models.use import Use, applied, used
from xtremex.tasks.base import Model, SpanExample, TrainedKind
from xtremex.tasks.batching import encode
from xtremex.tasks.kinds import kind

IDS = torch.tensor([[0, 5, 6, 7, 8, 9, 10, 2]])


class Bare(nn.Module):
    """A transformers model without an adapter around it."""

    def __init__(self, model: Any, info: EncoderInfo) -> None:
        super().__init__()
        self.model, self.info = model, info


def _varies(model: nn.Module) -> bool:
    """Whether two training passes over one input differ."""
    model.train()
    with torch.no_grad():
        first, second = (model(input_ids=IDS).last_hidden_state for _ in range(2))
    return not torch.equal(first, second)


SIZES = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
WIDE = {**SIZES, "intermediate_size": 64, "max_position_embeddings": 66}
M2M = {
    "vocab_size": 50,
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
}
MODELS = {
    "xlm-roberta": lambda: transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**WIDE)),
    "deberta-v2": lambda: transformers.DebertaV2Model(transformers.DebertaV2Config(**WIDE)),
    # dropout of these three is (also) functional: a number that the attention classes keep
    "clip": lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**WIDE)),
    "modernbert": lambda: transformers.ModernBertModel(transformers.ModernBertConfig(**WIDE, pad_token_id=1)),
    "m2m-100": lambda: (
        transformers.M2M100Model(
            transformers.M2M100Config(**M2M, encoder_layerdrop=0.0, decoder_layers=1)
        ).encoder
    ),
    "mt5": lambda: transformers.MT5EncoderModel(
        transformers.MT5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_dropout_is_set_everywhere_and_taken_back(name: str) -> None:
    model = MODELS[name]()
    encoder = cast(Any, Bare(model, ToyEncoder().info))
    native = _varies(model)
    assert native == (name not in ("clip", "modernbert"))  # these are trained without
    for rate in (0.0, 0.3):
        with applied(encoder, Use(dropout=rate), name):
            assert _varies(model) == (rate > 0) and encoder.info.dropout == rate
            assert SentenceHead(encoder.info, 2).dropout.p == rate  # heads have their encoder's
    assert _varies(model) == native and encoder.info == ToyEncoder().info


def test_one_rate_is_put_everywhere_whatever_the_headline_says() -> None:
    """M2M-100 states 0.1 and has none between the layers of its feed-forward networks."""
    model = MODELS["m2m-100"]()
    encoder = cast(Any, Bare(model, replace(ToyEncoder().info, dropout=0.1)))
    inside = model.layers[0]
    assert (inside.dropout, inside.activation_dropout) == (0.1, 0.0)
    facts = Facts(dropout=0.1)
    base = Backbone(name="b", adapter="huggingface", checkpoint="x", facts=facts)
    pair = Pair("p", {"a": Arm("b")}, policy=Policy(dropout=0.1))
    use = settle(pair, {"b": base}, Path("s.toml")).uses["a"]
    with applied(encoder, use, "b"):
        assert (inside.dropout, inside.activation_dropout) == (0.1, 0.1)
    assert inside.activation_dropout == 0.0


def test_arms_that_differ_in_unit_length_alone_are_read_alike(tmp_path: Path) -> None:
    """XLM-R's mean and E5's: one pooling, and heads would read the second times 10."""
    plain = HuggingFaceEncoder.load(str(tiny_checkpoints.write(tmp_path / "xlmr", "xlm-roberta")))
    e5 = SentenceTransformersEncoder.load(str(write_sentence(tmp_path / "e5", "e5")))
    assert plain.info.pooling == e5.info.pooling and e5.info.pooled_unit_norm
    arms: dict[str, Any] = {"a": plain, "b": e5}
    backbones = {
        name: Backbone(
            name=name,
            adapter="huggingface",
            checkpoint="x",
            facts=Facts(**{key: getattr(arm.info, key) for key in vars(Facts())}),
        )
        for name, arm in arms.items()
    }
    for policy in (Policy(), Policy(pooling="mean")):
        pair = Pair("p", {name: Arm(name) for name in arms}, policy=policy)
        uses = settle(pair, backbones, Path("s.toml")).uses
        for name, arm in arms.items():
            batch = arm.tokenizer(["the ship left the harbour"], return_tensors="pt")
            with applied(arm, uses[name], name), torch.no_grad():
                out = arm(batch["input_ids"], batch["attention_mask"])
                assert torch.allclose(
                    sentence_vectors(out, arm.info), out.hidden_states[-1].mean(1), atol=1e-5
                )


def test_an_error_inside_leaves_the_encoder_as_it_was() -> None:
    model = MODELS["xlm-roberta"]()
    encoder = cast(Any, Bare(model, ToyEncoder().info))
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    with pytest.raises(RuntimeError, match="mid-run"), applied(encoder, Use(max_length=8, dropout=0.5), "x"):
        raise RuntimeError("mid-run")
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == rates
    assert encoder.info.max_length == 64


def test_an_encoder_without_any_dropout_cannot_be_given_some(muse: Any) -> None:
    with applied(muse, Use(dropout=0.0), "muse"):
        pass
    with (
        pytest.raises(SuiteError, match=r"`muse` has no dropout.*dropout 0\.1"),
        applied(muse, Use(dropout=0.1), "muse"),
    ):
        pass


@pytest.mark.parametrize(
    ("info", "use", "said"),
    [
        ({"max_length": 77}, Use(max_length=512), "accepts 77 tokens.*with 512"),
        ({"pair_encoding": "separate"}, Use(pair_encoding="joint"), "reads the two texts of a pair apart"),
        ({"causal": True}, Use(pooling="cls"), "first token sees no other"),
    ],
)
def test_what_an_encoder_cannot_do_is_refused_by_name(info: dict[str, Any], use: Use, said: str) -> None:
    with pytest.raises(SuiteError, match=said) as raised:
        used(replace(ToyEncoder().info, **info), use, "tower")
    assert "tower" in raised.value.message and raised.value.hint


def test_a_use_is_true_where_it_changes_something() -> None:
    assert not Use() and Use(dropout=0.0) and Use(text_prefix="")


def test_heads_read_the_vector_that_the_use_names() -> None:
    states = torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    encoded = Encoded((states,), mask, nn.functional.normalize(torch.randn(2, 4), dim=-1), None)
    native = ToyEncoder(unit_norm=True).info
    read = {
        pooling: sentence_vectors(encoded, used(native, Use(pooling=pooling), "toy"))
        for pooling in (None, "mean", "cls")
    }
    assert torch.equal(read[None], 10 * encoded.pooled)
    assert torch.allclose(read["mean"][0], states[0, :2].mean(0))  # padding does not count
    assert torch.allclose(read["mean"][1], states[1].mean(0))
    assert torch.equal(read["cls"], states[:, 0])


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    folder = write_open_clip(tmp_path_factory.mktemp("towers") / "siglip", "siglip")
    return OpenClipEncoder.load(str(folder))


def test_a_tower_of_fixed_length_reads_shorter_texts_padded_to_its_length(siglip: OpenClipEncoder) -> None:
    task = replace(make("single"), max_length=128)
    classification = cast(TrainedKind, kind(task.kind))
    long = replace(task.source.load(task, "test", "en")[0], text="the ship left the harbour " * 40)
    with applied(siglip, Use(max_length=16), "siglip"):
        ((feature,),) = classification.features([long], task, siglip)
        encoded = encode(siglip, feature.inputs)
    assert siglip.info.pad_to == 64 and siglip.info.max_length == 64
    assert len(feature.inputs[0]) == 16 == int(encoded.mask.sum())
    assert encoded.hidden_states[-1].shape[1] == 64


def test_test_sets_are_tokenised_anew_for_another_use() -> None:
    """The cache of tokenised test sets must not give one pair's texts to another."""
    encoder, task = ToyEncoder(), make("pair")
    classification = cast(Any, kind(task.kind))
    seen = {}
    for use in (Use(), Use(max_length=8), Use(pair_encoding="separate"), Use(text_prefix="the "), Use()):
        with applied(cast(Any, encoder), use, "toy"):
            head = classification.head(encoder, task)
            encoder.calls.clear()
            classification.evaluate(Model(encoder, head), task, "test", "en", batch_tokens=4096)
            seen.setdefault(use, []).append(sorted(encoder.calls))
    assert seen[Use()][0] == seen[Use()][1]
    assert max(width for _, width in seen[Use(max_length=8)][0]) == 8
    assert len({str(calls[0]) for calls in seen.values()}) == 4


def test_answer_retrieval_compares_the_vectors_that_the_use_names(tmp_path: Path) -> None:
    encoder = HuggingFaceEncoder.load(str(tiny_checkpoints.write(tmp_path, "xlm-roberta")))
    examples = [
        SpanExample(i, f"where is the {thing}?", f"the {thing} is here. it was {place}.", ((4, thing),), i)
        for i, (thing, place) in enumerate(product(THINGS[:5], PLACES[:4]))
    ]
    task = toy_task("answer-retrieval", {"test": examples})
    scores = {}
    for pooling in (None, "mean", "cls"):
        with applied(encoder, Use(pooling=pooling), "tiny"):
            (outcome,) = kind("answer-retrieval").evaluate(
                Model(encoder, None), task, "test", "en", batch_tokens=4096
            )
        scores[pooling] = outcome.metrics["map@20"][0].tolist()
    assert scores[None] == scores["mean"]  # its native pooling
    assert scores["cls"] != scores["mean"]


def test_the_first_token_of_a_text_is_no_sentence_vector(tmp_path):
    """SigLIP's tokenizer closes a text and opens none."""
    encoder = HuggingFaceEncoder.load(str(tiny_composites.write(tmp_path / "siglip", "siglip")))
    with pytest.raises(
        SuiteError, match="`looking` cannot be pooled by `cls`.*no special token before a text"
    ):
        with applied(encoder, Use(pooling="cls"), "looking"):
            pass
    assert encoder.info.sentence == "native"
