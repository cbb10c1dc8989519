"""The contract kit can fail: each broken adapter is caught by the check meant for it, and by no unrelated one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path

import broken_adapters as broken
import pytest
import tiny_composites
import torch
from broken_adapters import Broken

from xtremex.adapters.contract import CHECKS, SCRIPTS, assert_contract, check
from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.errors import UnknownName

HERE = [name for name in CHECKS if name != "pickling"]
"""Checks without a fresh process, which takes seconds."""

CASES = [
    (broken.AttendsPadding, {}, {"padding"}),
    (broken.AttendsPadding, {"length": 64, "pad_to": 64}, {"padding"}),
    (broken.PoolsPadding, {}, {"padding"}),
    (Broken, {"attends_padding": True}, {"padding"}),
    (Broken, {"attends_padding": True, "length": 64, "pad_to": 64}, {"padding"}),
    (Broken, {"pad_to": 64}, {"length"}),
    (broken.ReadsItsNeighbours, {}, {"batch"}),
    (broken.CountsItsRow, {}, {"order"}),
    (broken.DrawsInVain, {}, {"determinism"}),
    (broken.Random, {}, {"determinism", "save and load"}),  # a saved copy gives another output too
    (broken.ForgetsAState, {}, {"states"}),
    (Broken, {"pooled_unit_norm": True}, {"states"}),
    (Broken, {"causal": True}, {"causality"}),
    (broken.ForgetsTheNorm, {}, {"final norm"}),
    (broken.GivesAnEarlierState, {}, {"final norm", "states"}),  # the place below it has the embeddings twice
    (broken.LosesPrecision, {}, {"precision"}),
    (broken.UnusedWeight, {}, {"gradient"}),
    (broken.Detached, {}, {"gradient"}),
    (broken.LosesAWeight, {}, {"save and load"}),
    (broken.AcceptsAnything, {}, {"weights"}),
    (broken.ForgivesNorms, {}, {"weights"}),
    (broken.DrawsAWeight, {}, {"random weights", "save and load"}),
    (broken.AsksOnForward, {}, {"network"}),
    (broken.AsksOnLoad, {}, {"network"}),
    (broken.DropsWords, {}, {"offsets", "words"}),
    (broken.JoinsWords, {}, {"offsets"}),
    (broken.ShiftsOffsets, {}, {"offsets", "words"}),
    (broken.DropsSeparators, {}, {"pairs"}),
    (broken.PutsALanguage, {}, {"language code"}),
    (Broken, {"language_code": "!"}, {"language code"}),
    (Broken, {"language_code": "eng_Latn"}, {"language code"}),
]
ALMOST_ALL = [
    (broken.GivesNan, {}, "states"),
    (broken.Raises, {}, "states"),
    (broken.NothingCrosses, {}, "pairs"),
    (Broken, {"hidden_size": 65}, "states"),
    (Broken, {"max_length": 513}, "length"),
    (Broken, {"max_length": 511}, "length"),
]
"""Faults after which other promises cannot be kept either."""
TRAVEL = [broken.CannotBePickled, broken.NeedsItsParent]
CORRECT = [(broken.NormsFirst, {}), (broken.NormsOnceMore, {}), (broken.SharesAWeight, {})]
CORRECT += [(broken.PutsALanguage, {"language_code": "!"}), (Broken, {"length": 64, "pad_to": 64})]


def failed(results) -> set[str]:
    return {result.name for result in results if result.status == "failed"}


@pytest.mark.parametrize(("kind", "info", "names"), CASES)
def test_a_fault_is_found_by_its_check_alone(kind, info, names):
    results = check(kind.make(**info), HERE)
    assert failed(results) == names, [(r.name, r.detail) for r in results if r.status == "failed"]


@pytest.mark.parametrize(("kind", "info", "name"), ALMOST_ALL)
def test_a_grave_fault_is_found_by_its_check_too(kind, info, name):
    assert failed(check(kind.make(**info), [name])) == {name}


@pytest.mark.parametrize(("kind", "info"), CORRECT)
def test_what_is_merely_unusual_passes(kind, info):
    results = check(kind.make(**info), HERE)
    assert [(r.name, r.detail) for r in results if r.status != "passed"] == []


@pytest.mark.parametrize("kind", TRAVEL)
def test_what_a_fresh_process_cannot_open_is_found(kind):
    (result,) = check(kind.make(), ["pickling"])
    assert result.status == "failed"
    assert ("in a fresh process: KeyError" in result.detail) == (kind is broken.NeedsItsParent)


def test_every_check_has_a_broken_adapter():
    assert set(CHECKS) == set.union(*(names for _, _, names in CASES)) | {"pickling", "protocol"}


def test_weights_that_a_checkpoint_leaves_random_show_when_it_is_loaded_again():
    """A saved copy of them is whole: only a second load of the same checkpoint can tell."""
    kind = broken.DrawsAWeightOnce
    assert failed(check(kind.make(), HERE)) == set()
    results = check(kind.make(), HERE, again=lambda: kind.load("seed-0"))
    assert failed(results) == {"random weights"}
    (result,) = (r for r in results if r.status == "failed")
    assert "1 tensors (position.weight)" in result.detail
    assert failed(check(Broken.make(), ["random weights"], again=lambda: Broken.load("seed-0"))) == set()


@pytest.mark.parametrize("kind", ["clip", "metaclip_2", "siglip2", "mt5"])
def test_raw_states_of_real_towers(kind, tmp_path):
    """transformers' CLIP and SigLIP towers leave the final norm out of their `hidden_states`; its mT5 does not."""

    class Raw(HuggingFaceEncoder):
        def forward(self, input_ids, attention_mask):
            seen = []
            hook = self.body.register_forward_hook(lambda module, inputs, out: seen.append(out.hidden_states))
            out = super().forward(input_ids, attention_mask)
            hook.remove()
            return out._replace(hidden_states=seen[0])

    tiny_composites.write(tmp_path / kind, kind)
    right = check(HuggingFaceEncoder.load(str(tmp_path / kind)), ["final norm"])
    assert failed(right) == set()
    (raw,) = check(Raw.load(str(tmp_path / kind)), ["final norm"])
    assert (raw.status == "failed") == (kind != "mt5")
    assert ("goes into the final norm `model.text_model.final_layer_norm`" in raw.detail) == (kind != "mt5")


@pytest.mark.parametrize(
    ("kind", "name", "longest"),
    [
        (broken.AttendsPadding, "padding", 1),
        (broken.DropsWords, "offsets", 1),
        (broken.ShiftsOffsets, "offsets", 1),
        (broken.JoinsWords, "offsets", 3),
        (broken.LosesPrecision, "precision", 1),
        (broken.ReadsItsNeighbours, "batch", 1),
    ],
)
def test_a_counter_example_is_the_shortest_that_shows_the_fault(kind, name, longest):
    (result,) = check(kind.make(), [name])
    assert 0 < len(result.example) <= longest
    # a text that shows the fault: cut from one of the kit's
    assert any(result.example in text for text in SCRIPTS.values())


def test_a_counter_example_keeps_the_fault_that_was_found():
    """Shorter texts may fail for another reason; they are no example of this one."""
    from xtremex.adapters.contract.bench import Failed, every

    def test(text: str) -> None:
        if len(text) < 4:
            raise ValueError("too short to tell")
        if "b" in text:
            raise Failed("has a b")

    with pytest.raises(Failed, match="has a b") as caught:
        every(test, ["aaaa", "aaaa aaaabaaaa aaaa", "bb aaaaaaaaaaaaaaaaaaaaa"])
    assert len(caught.value.example) == 4 and "b" in caught.value.example


def test_twenty_five_texts_in_at_least_sixteen_scripts():
    """Unicode names a letter by its script first; right-to-left, unspaced, combining and joined ones are there."""
    letters = [character for text in SCRIPTS.values() for character in text if character.isalpha()]
    assert len({unicodedata.name(character).split()[0] for character in letters}) >= 16
    everything = "".join(SCRIPTS.values())
    classes = {unicodedata.bidirectional(character) for character in everything}
    assert {"R", "AL", "NSM"} <= classes
    assert "\u200d" in everything and "e\u0301" in everything
    assert any(len(text.split()) == 1 for text in SCRIPTS.values())


def test_accents_may_stand_outside_their_token_and_vowel_signs_may_not():
    from xtremex.adapters.contract.texts import visible

    decomposed = unicodedata.normalize("NFD", "phở né")
    assert "".join(decomposed[place] for place in visible(decomposed)) == "phone"
    for text in ("कि", "ที่", "\u0627\u064e"):
        assert visible(text) == list(range(len(text)))
    assert visible("\u2764\ufe0f a\u200db") == [0, 3, 5]


def test_a_check_that_does_not_exist_is_named_with_its_neighbours():
    with pytest.raises(UnknownName, match="unknown check `ofsets`.*\n.*`offsets`"):
        check(Broken.make(), ["ofsets"])


def test_an_exception_is_reported_with_its_type():
    results = {result.name: result for result in check(broken.Raises.make(), ["states", "padding"])}
    assert results["states"].detail == results["padding"].detail == "ZeroDivisionError: a bug of the adapter"


def test_pairs_are_skipped_where_nothing_crosses_and_found_where_something_should():
    assert check(Broken.make(pair_encoding="separate"), ["pairs"])[0].status == "skipped"
    result = check(broken.NothingCrosses.make(), ["pairs"])[0]
    assert result.status == "failed" and "separate" in result.detail


def test_a_tokenizer_without_closing_tokens_is_a_caution():
    result = check(broken.ClosesNothing.make(), ["pairs"])[0]
    assert result.status == "skipped" and "reads as one text" in result.detail
    result = check(broken.DropsSeparators.make(), ["pairs"])[0]
    assert "nothing stands between" in result.detail and "</s>" in result.detail


def test_padding_may_count_where_info_says_so():
    result = check(broken.AttendsPadding.make(attends_padding=True), ["padding"])[0]
    assert result.status == "passed" and "attends_padding" in result.detail
    fixed = broken.AttendsPadding.make(attends_padding=True, length=64, pad_to=64)
    assert check(fixed, ["padding"])[0].status == "passed"


def test_an_encoder_of_few_positions_passes_and_its_padding_is_still_tried():
    """So few that every sentence of the kit fills them: one per byte."""
    assert failed(check(Broken.make(48), HERE)) == set()
    for length in (48, 8):
        assert check(Broken.make(length), ["padding"])[0].status == "passed"
        result = check(broken.AttendsPadding.make(length), ["padding"])[0]
        assert result.status == "failed" and "tokens of padding" in result.detail


def test_what_is_no_module_stops_at_the_protocol():
    assert [(r.name, r.status) for r in check(object())] == [("protocol", "failed")]
    encoder = Broken.make()
    del encoder.tokenizer
    assert [(r.name, r.status) for r in check(encoder)] == [("protocol", "failed")]


def test_a_correct_adapter_passes_everything_and_all_is_left_as_it_was():
    encoder = Broken.make().train()
    encoder.embedding.weight.requires_grad_(False)
    encoder.position.weight.grad = torch.ones_like(encoder.position.weight)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    connect, lookup, main = socket.socket.connect, socket.getaddrinfo, dict(vars(sys.modules["__main__"]))
    generator = torch.get_rng_state()
    assert_contract(encoder, again=lambda: Broken.load("seed-0"))
    assert encoder.training
    assert bool(encoder.position.weight.grad.eq(1).all())
    assert encoder.blocks[0].norm1.weight.grad is None
    assert not any(module._forward_hooks for module in encoder.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert (socket.socket.connect, socket.getaddrinfo) == (connect, lookup)
    assert "connect" not in vars(socket.socket)
    assert vars(sys.modules["__main__"]) == main
    assert torch.equal(torch.get_rng_state(), generator)


def test_assert_contract_lists_every_failure_with_its_text():
    with pytest.raises(AssertionError, match=r"states: .*(\n.*)*padding: .*\(text: '.'\)"):
        assert_contract(broken.AttendsPadding.make(pooled_unit_norm=True), HERE)


def test_a_script_without_a_guard_can_use_the_kit(tmp_path):
    """The fresh process must not run the script that asked for it once more."""
    script = tmp_path / "check_mine.py"
    script.write_text(
        "from broken_adapters import TinyEncoder\n"
        "from xtremex.adapters.contract import check\n"
        "print('once', [r.status for r in check(TinyEncoder.load('seed-0'), ['pickling'])])\n"
    )
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "once ['passed']\n"), done.stderr
