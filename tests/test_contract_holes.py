"""Faults that a forward pass, a load or a declaration can hide from a kit that looks at shapes and sums only.

The adapters are copies of a correct one that each break one promise; ``test_adapter_contract.py`` has the plainer faults.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import broken_adapters as broken
import pytest
import tiny_checkpoints
import torch
from broken_adapters import Broken
from tokenizers import processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from xtremex.adapters.contract import CHECKS, check
from xtremex.adapters.contract.bench import Bench
from xtremex.adapters.contract.graph import weights_behind
from xtremex.adapters.huggingface import HuggingFaceEncoder

QUICK = [
    name for name in CHECKS if name not in ("pickling", "network", "weights", "offsets", "words", "precision")
]


class GivesEmbeddingsTwice(Broken):
    """Every state one place too late, the last one right."""

    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        first, _, last = out.hidden_states
        return out._replace(hidden_states=(first, first, last))


class GivesOneState(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(hidden_states=(out.hidden_states[-1],) * len(out.hidden_states))


class SwapsStates(Broken):
    """The embeddings and the first layer's states in each other's place."""

    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        first, second, last = out.hidden_states
        return out._replace(hidden_states=(second, first, last))


class DetachesLowerStates(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        *lower, last = out.hidden_states
        return out._replace(hidden_states=(*(state.detach() for state in lower), last))


class DetachesPooled(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=out.pooled.detach())


class TrainsThePoolerOnly(Broken):
    """The sentence vector has a gradient, but only in what comes behind the encoder."""

    def __init__(self, info):
        super().__init__(info)
        self.pooler = nn.Linear(info.hidden_size, info.hidden_size)

    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=self.pooler(out.pooled.detach()))


class CountsEverything(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(mask=torch.ones_like(attention_mask))


class GivesABooleanMask(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(mask=attention_mask.bool())


class WritesIntoItsInput(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        input_ids.masked_fill_(attention_mask == 0, 2)
        return out


class ReadsTheFirst64(Broken):
    """Accepts 512 tokens."""

    def forward(self, input_ids, attention_mask):
        read = attention_mask.clone()
        read[:, 64:] = 0
        return super().forward(input_ids, read)._replace(mask=attention_mask)


class HidesUnitLength(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=nn.functional.normalize(out.pooled, dim=-1))


class DropsOut(Broken):
    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(pooled=nn.functional.dropout(out.pooled, 0.1, self.training))


class LeavesTraining(Broken):
    def forward(self, input_ids, attention_mask):
        self.eval()
        return super().forward(input_ids, attention_mask)


class SeedsTheGenerator(Broken):
    @classmethod
    def load(cls, checkpoint, *, revision=None):
        torch.manual_seed(0)
        return super().load(checkpoint)


class DrawsFromASeed(Broken):
    """A weight that no file decides, the same in every load and kept by ``save``."""

    @classmethod
    def load(cls, checkpoint, *, revision=None):
        encoder = super().load(checkpoint)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            nn.init.normal_(encoder.position.weight)
        return encoder


class NormsFirstOnly(Broken):
    """Correct: layers that norm what they read, and no norm at the end."""

    def __init__(self, info):
        super().__init__(info)
        for block in self.blocks:
            block.norm_first = True


class ChangesWhatTheNormGives(broken.NormsFirst):
    """Wrong, and without a way around the final norm: no layer that norms first."""

    def forward(self, input_ids, attention_mask):
        out = super().forward(input_ids, attention_mask)
        return out._replace(hidden_states=(*out.hidden_states[:-1], out.hidden_states[-1] * 2))


class CountsBatches(Broken):
    """Correct: what a pass in training counts must not stay in an encoder that was only looked at."""

    def __init__(self, info):
        super().__init__(info)
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, input_ids, attention_mask):
        if self.training:
            self.seen += 1
        return super().forward(input_ids, attention_mask)


class NamesItsPaddingOnly(Broken):
    """Correct: `<s>` and `</s>` stand around a text, and the tokenizer does not say what they are."""

    NAMES = {}

    def __init__(self, info):
        super().__init__(info)
        backend = self.tokenizer.backend_tokenizer
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, model_max_length=info.max_length, pad_token="<pad>", **self.NAMES
        )


class NamesItsOpeningToo(NamesItsPaddingOnly):
    """Wrong: the token `!` stands before every text, where one that is named could."""

    NAMES = {"bos_token": "<s>"}

    def __init__(self, info):
        super().__init__(info)
        backend = self.tokenizer.backend_tokenizer
        special = [(token, backend.token_to_id(token)) for token in ("!", "</s>")]
        backend.post_processor = processors.TemplateProcessing(
            single="! $A </s>", pair="! $A </s> $B </s>", special_tokens=special
        )


FAULTS = [
    (GivesEmbeddingsTwice, {}, {"states": r"hidden_states\[0\] and hidden_states\[1\] are the same"}),
    (GivesOneState, {}, {"states": "are the same"}),
    (
        SwapsStates,
        {},
        {"gradient": r"hidden_states\[1\] leads back to fewer weights than hidden_states\[0\]"},
    ),
    (DetachesLowerStates, {}, {"gradient": r"hidden_states\[1\] leads back to no weight"}),
    (DetachesPooled, {}, {"gradient": "pooled leads back to no weight"}),
    (TrainsThePoolerOnly, {}, {"gradient": "pooled leads back to fewer weights.*embedding.weight"}),
    (CountsEverything, {}, {"states": "mask is not the attention_mask"}),
    (GivesABooleanMask, {}, {"states": "mask has dtype torch.bool"}),
    (ReadsTheFirst64, {}, {"length": "512 tokens are accepted and not all read"}),
    (HidesUnitLength, {}, {"states": "info.pooled_unit_norm must say so"}),
    (
        Broken,
        {"dropout": 0.1},
        {"determinism": "info.dropout = 0.1, but two passes in training mode are equal"},
    ),
    (DropsOut, {}, {"determinism": "info.dropout = 0, but two passes in training mode differ in pooled"}),
    (Broken, {"dropout": 10.0}, {"determinism": "no probability"}),
    (LeavesTraining, {}, {"determinism": "forward changes the mode"}),
    (SeedsTheGenerator, {}, {"random weights": "load sets the seed"}),
    (DrawsFromASeed, {}, {"random weights": r"1 weights \(position.weight\) stay the same"}),
    (ChangesWhatTheNormGives, {}, {"final norm": "not what any norm gives, the last of which is `norm`"}),
    (NamesItsOpeningToo, {}, {"language code": "! stands with every text"}),
]
CORRECT = [
    (NormsFirstOnly, {}, {"final norm": "no norm at the end: what `blocks.1.norm2` reads"}),
    (NamesItsPaddingOnly, {}, {"language code": "<s>.*names no token that opens or closes"}),
    (HidesUnitLength, {"pooled_unit_norm": True}, {}),
    (DropsOut, {"dropout": 0.1}, {}),
    (CountsBatches, {}, {}),
    (DropsOut, {"length": 48, "dropout": 0.1}, {}),
]


def other_than(status: str, results) -> dict[str, str]:
    return {result.name: result.detail for result in results if result.status != status}


def expect_matches(found: dict[str, str], patterns: dict[str, str]) -> None:
    assert found.keys() == patterns.keys(), found
    for name, pattern in patterns.items():
        assert re.search(pattern, found[name]), found


@pytest.mark.parametrize(("kind", "info", "expected"), FAULTS)
def test_a_hidden_fault_is_found_by_its_check_alone(kind, info, expected):
    found = other_than("passed", check(kind.make(**info), QUICK))
    expect_matches(found, expected)


@pytest.mark.parametrize(("kind", "info", "expected"), CORRECT)
def test_what_is_right_passes_or_says_why_it_cannot_be_tried(kind, info, expected):
    results = check(kind.make(**info), QUICK)
    assert "failed" not in {result.status for result in results}
    expect_matches(other_than("passed", results), expected)


def test_an_encoder_that_writes_into_its_input_is_found():
    """By others too: what it wrote is what they give it next."""
    found = other_than("passed", check(WritesIntoItsInput.make(), ["states"]))
    expect_matches(found, {"states": "forward changes its own input"})


def test_a_pass_in_training_leaves_no_trace():
    encoder = CountsBatches.make()
    assert other_than("passed", check(encoder, ["determinism"])) == {}
    assert not encoder.seen.any() and not encoder.training


def test_a_frozen_layer_is_no_detached_one():
    encoder = Broken.make()
    for weight in (
        *encoder.embedding.parameters(),
        *encoder.position.parameters(),
        *encoder.blocks[0].parameters(),
    ):
        weight.requires_grad_(False)
    assert other_than("passed", check(encoder, ["gradient"])) == {}


def test_weights_behind_each_state_of_a_real_encoder(tmp_path):
    """A layer's states lead back to its own weights and those below, and to none above."""
    encoder = HuggingFaceEncoder.load(str(tiny_checkpoints.write(tmp_path, "xlm-roberta")))
    out = encoder(*Bench(encoder).encode(["The ship"]))
    for k, states in enumerate(out.hidden_states):
        names = weights_behind(states, encoder)
        layers = {
            int(name.split("encoder.layer.")[1].split(".")[0]) for name in names if "encoder.layer." in name
        }
        assert layers == set(range(k)) and "model.embeddings.word_embeddings.weight" in names


def test_an_input_longer_than_the_kit_tries_is_said():
    (result,) = check(Broken.make(2048), ["length"])
    assert (result.status, result.detail[:40]) == ("passed", "1024 tokens of info.max_length = 2048: l")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_an_encoder_on_a_gpu_passes_and_stays_there():
    encoder = Broken.make().cuda()
    generator = torch.cuda.get_rng_state()
    assert other_than("passed", check(encoder, QUICK, again=lambda: Broken.load("seed-0"))) == {}
    assert next(encoder.parameters()).is_cuda and torch.equal(torch.cuda.get_rng_state(), generator)


def test_inputs_are_put_where_the_encoder_is():
    """Without a GPU: the device that holds no numbers stands for it."""
    encoder = Broken.make().to("meta")
    bench = Bench(encoder)
    assert bench.device.type == "meta"
    assert {tensor.device.type for tensor in bench.encode(["a"])} == {"meta"}
    assert Bench(SimpleNamespace(parameters=lambda: [], buffers=lambda: [])).device.type == "cpu"
