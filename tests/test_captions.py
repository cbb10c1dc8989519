"""Caption sets: which captions are shown together, what never meets in a batch, what is held out, and what is refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from xtremex.errors import DataError, SuiteError, UnknownName
from xtremex.models import grounding, openmoji
from xtremex.models.captions import Captions, OpenMoji, derangement, draw_pair
from xtremex.models.captions_folder import read_folder
from xtremex.models.recipe import Recipe

RECIPE = Recipe("vision", steps=6, batch_size=4)


def made(number: int = 20, languages: Sequence[str] = ("en", "cs"), each: int = 1) -> dict[str, Any]:
    return {
        f"{place:02}": {name: [f"{name} {place} {turn}" for turn in range(each)] for name in languages}
        for place in range(number)
    }


def captions(of: dict[str, Any], **further: Any) -> Captions:
    return Captions("made", of, {key: key for key in of}, **further)


def write(folder: Path, rows: list[dict[str, Any]], ending: str = "jsonl") -> Path:
    """A folder with a picture for every image that a row names, each of another colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sorted({row["image"] for row in rows})):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), (7 * number % 256, 90, 200 - number)).save(folder / name)
    table = folder / f"captions.{ending}"
    if ending == "jsonl":
        table.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    elif ending == "tsv":
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), table)
    return folder


def rows(number: int = 20, languages: Sequence[str] = ("en", "cs")) -> list[dict[str, Any]]:
    return [
        {
            "image": f"p{place:02}.png",
            "language": name,
            "caption": f'{name} "picture" {place}',
            "author": place,
        }
        for place in range(number)
        for name in languages
    ]


# --- sets in memory -------------------------------------------------------------------------------


def test_pairs_are_of_two_languages_and_of_all_their_captions():
    own = {"en": ("a", "b"), "de": ("c",), "fr": ("d", "e")}
    draw = random.Random(0)
    pairs = {draw_pair(draw, own) for _ in range(300)}
    language = {text: name for name, texts in own.items() for text in texts}
    assert all(language[one] != language[other] for one, other in pairs)
    assert {text for pair in pairs for text in pair} == set("abcde")
    assert len(pairs) == 2 * (2 * 1 + 2 * 2 + 1 * 2)


def test_a_set_in_one_language_pairs_two_captions_of_it():
    found = captions(made(languages=("en",), each=3))
    for item in (item for batch in grounding.items(RECIPE, found) for item in batch):
        assert item.first != item.second and {item.first, item.second} <= set(
            found.captions(item.picture)["en"]
        )


def test_pictures_without_a_pair_are_left_out_and_counted():
    of = made()
    del of["03"]["cs"]
    of["04"] = {"cs": ["one", "other"]}  # two captions, but the set has two languages
    found = captions(of)
    assert found.left_out == 2
    assert {"03", "04"}.isdisjoint({*found.keys("train"), *found.keys("held-out")})
    with pytest.raises(
        DataError, match="all captions are in `en`, and none of 20 pictures has two"
    ) as caught:
        captions(made(languages=("en",)))
    assert "two of that language" in caught.value.hint
    with pytest.raises(DataError, match="none of 2 pictures has captions in two of en, cs"):
        captions({"a": {"en": ["x", "y"]}, "b": {"cs": ["z"]}}, languages=("en", "cs"))


def test_pictures_that_share_a_caption_or_their_content_never_meet():
    of = made()
    of["01"]["en"] = ["A DOG"]
    of["02"]["cs"] = ["a dog"]  # whatever its language
    contents = {key: key for key in of} | {"05": "same", "06": "same"}
    of["06"]["en"] = ["a dog"]
    found = Captions("made", of, contents)
    assert len({found.group(key) for key in ("01", "02", "05", "06")}) == 1
    assert len({found.group(key) for key in of}) == 17
    for batch in grounding.items(Recipe("text", steps=30, batch_size=8), found):
        assert len({found.group(item.picture) for item in batch}) == 8


def test_groups_are_held_out_whole():
    of = made(200)
    for place in range(0, 200, 2):
        of[f"{place:02}"]["en"] = of[f"{place + 1:02}"]["en"]
    found = captions(of)
    train, held_out = found.keys("train"), found.keys("held-out")
    assert sorted((*train, *held_out)) == sorted(of)
    assert {found.group(key) for key in train}.isdisjoint({found.group(key) for key in held_out})
    assert len({found.group(key) for key in held_out}) == 10  # a tenth of 100


def test_too_few_groups_to_hold_some_out():
    with pytest.raises(DataError, match="3 pictures with a pair of captions make 3 distinct groups, too few"):
        captions(made(3))
    assert captions(made(4)).keys("train")


def test_the_fingerprint_tells_captions_contents_and_languages():
    prints = {captions(made()).fingerprint(), captions(dict(reversed(made().items()))).fingerprint()}
    assert len(prints) == 1, "the order of the pictures tells nothing"
    changed = made()
    changed["07"]["en"] = ["other"]
    prints.add(captions(changed).fingerprint())
    prints.add(
        captions(made(), languages=("en", "cs")).fingerprint()
    )  # the given order: cs came first before
    of = made()
    prints.add(Captions("made", of, {key: f"{key}!" for key in of}).fingerprint())
    assert len(prints) == 4
    with pytest.raises(UnknownName, match="`xx`"):
        captions(made(), languages=("en", "xx"))


@pytest.mark.parametrize("members", [1, 2, 9])
def test_the_placebo_never_shows_a_picture_of_the_same_group(members):
    """Also where groups are so large that shuffling would hardly ever find such a permutation."""
    of = made(40)
    for place in range(40):
        of[f"{place:02}"]["en"] = [f"group {place // members}"]
    found = captions(of)
    shown = derangement(found, random.Random(0))
    assert sorted(shown) == sorted(shown.values()) == sorted(found.keys("train"))
    assert all(found.group(key) != found.group(other) for key, other in shown.items())


def test_a_set_of_one_large_group_has_no_placebo():
    of = made(20)
    for place in range(15):
        of[f"{place:02}"]["en"] = ["a dog"]
    found = captions(of)
    assert len(found.keys("train")) > 15 or "00" in found.keys("held-out")
    if "00" in found.keys("held-out"):
        pytest.skip("the large group is held out")
    with pytest.raises(SuiteError, match="15 of 18 train pictures share captions"):
        derangement(found, random.Random(0))


def test_the_built_in_set_is_the_drawings_with_their_names():
    found = OpenMoji(("de", "en"))
    train, held_out = found.keys("train"), found.keys("held-out")
    assert set(train) == {key for key in openmoji.keys() if openmoji.split(key) == "train"}
    assert set(held_out) == {key for key in openmoji.keys() if openmoji.split(key) == "test"}
    key = train[0]
    assert found.captions(key) == {name: (openmoji.names(name)[key],) for name in ("de", "en")}
    assert list(found.captions(key)) == ["de", "en"] and found.group(key) == openmoji.base(key)
    with pytest.raises(UnknownName, match="`xx`"):
        OpenMoji(("en", "xx"))


def test_sets_are_read_without_torch():
    program = (
        "import sys; from xtremex.models import captions, captions_folder; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["jsonl", "tsv", "parquet"])
def test_a_folder_is_read_the_same_in_every_format(tmp_path, ending):
    found = read_folder(write(tmp_path / ending, rows(), ending))
    assert found.languages == ("cs", "en") and found.left_out == 0
    assert found.captions("p03.png") == {"cs": ('cs "picture" 3',), "en": ('en "picture" 3',)}
    if ending != "parquet":  # as spreadsheets write it, with another line ending and a byte order mark
        table = tmp_path / ending / f"captions.{ending}"
        table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
        marked = read_folder(tmp_path / ending)
        assert (marked.languages, marked.fingerprint()) == (found.languages, found.fingerprint())
    assert Path(found.shown("p03.png")) == (tmp_path / ending / "p03.png").resolve()
    assert found.fingerprint() == read_folder(write(tmp_path / "again", rows())).fingerprint()


def test_several_captions_of_a_picture_as_a_list_or_as_rows(tmp_path):
    lists = [{"image": f"{n}.png", "language": "en", "caption": [f"a {n}", f"b {n}"]} for n in range(12)]
    single = [{**row, "caption": text} for row in lists for text in row["caption"]]
    one, other = read_folder(write(tmp_path / "lists", lists)), read_folder(write(tmp_path / "rows", single))
    assert one.captions("3.png") == other.captions("3.png") == {"en": ("a 3", "b 3")}
    assert one.fingerprint() == other.fingerprint()


def test_other_pictures_are_another_set(tmp_path):
    folder = write(tmp_path, rows())
    before = read_folder(folder).fingerprint()
    Image.new("RGB", (20, 30), "red").save(folder / "p03.png")
    assert read_folder(folder).fingerprint() != before


def test_languages_can_be_chosen(tmp_path):
    folder = write(tmp_path, rows(languages=("en", "cs", "de")))
    assert read_folder(folder, ("de", "en")).captions("p00.png").keys() == {"de", "en"}
    with pytest.raises(UnknownName, match="caption language"):
        read_folder(folder, ("de", "eng"))


@pytest.mark.parametrize("ending", ["jsonl", "tsv", "parquet"])
def test_a_caption_of_any_length_is_read(tmp_path, ending):
    table = rows()
    table[0]["caption"] = "a" * 200_000
    found = read_folder(write(tmp_path, table, ending))
    assert found.captions("p00.png")["en"] == ("a" * 200_000,)


def broken(folder: Path, how: str) -> None:
    content = (folder / "captions.jsonl").read_text()
    if how == "no table":
        (folder / "captions.jsonl").unlink()
    elif how == "two tables":
        (folder / "captions.tsv").write_text("")
    elif how == "empty":
        (folder / "captions.jsonl").write_text("\n")
    elif how == "no column":
        (folder / "captions.jsonl").write_text(content.replace('"caption"', '"captions"', 1))
    elif how == "no text":
        (folder / "captions.jsonl").write_text(content.replace('"cs \\"picture\\" 0"', "7", 1))
    elif how == "no captions":
        (folder / "captions.jsonl").write_text(content.replace('"cs \\"picture\\" 0"', "[]", 1))
    elif how == "half a character":
        (folder / "captions.jsonl").write_text(content.replace("picture", "\\ud83d", 1))
    elif how == "two spellings":
        (folder / "captions.jsonl").write_text(content.replace('"cs"', '"CS"', 1))
    elif how == "equal":
        (folder / "captions.jsonl").write_text(content.replace('"cs \\', '"en \\'))
    elif how == "accents":
        (folder / "p03.png").rename(folder / "pe\u0301.png")
        (folder / "captions.jsonl").write_text(content.replace("p03.png", "p\u00e9.png"), encoding="utf-8")
    elif how == "no json":
        (folder / "captions.jsonl").write_text(content + "{")
    elif how == "twice":
        (folder / "captions.jsonl").write_text(content + content.splitlines()[0])
    elif how == "missing":
        (folder / "p03.png").unlink()
        (folder / "p05.png").unlink()
    elif how == "cut":
        whole = (folder / "p03.png").read_bytes()
        (folder / "p03.png").write_bytes(whole[:-30])
    elif how == "no picture":
        (folder / "p03.png").write_text("not a picture")
    elif how == "other format":
        (folder / "p03.png").rename(folder / "p03.gif")
        (folder / "captions.jsonl").write_text(content.replace("p03.png", "p03.gif"))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no table", "no table of captions, where one of captions.jsonl"),
        ("two tables", "captions.jsonl and captions.tsv, where one"),
        ("empty", "holds no captions"),
        ("no column", r"captions\.jsonl:1: no column `caption`"),
        ("no text", r"captions\.jsonl:2: column `caption` holds 7 where a text"),
        ("no captions", r"captions\.jsonl:2: column `caption` holds \[\] where a text"),
        ("half a character", r"captions\.jsonl:1: column `caption` holds half a character"),
        ("two spellings", r"captions\.jsonl:4: language `cs`, which is spelt `CS` at .*:2"),
        ("equal", "the captions of every picture are one and the same text"),
        ("accents", r"1 of 20 images are not in"),
        ("no json", "cannot be read"),
        ("twice", r"captions\.jsonl:41: `p00\.png` has the caption .* in `en` twice, before at .*:1"),
        ("missing", r"2 of 20 images are not in .*: p03\.png, p05\.png"),
        ("cut", r"1 of 20 images in .* cannot be decoded: p03\.png"),
        ("no picture", r"1 of 20 images in .* cannot be decoded: p03\.png"),
        ("other format", r"1 of 20 images have no ending of a known format: p03\.gif"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_the_place(tmp_path, how, says):
    folder = write(tmp_path / "set", rows())
    read_folder(folder)
    broken(folder, how)
    with pytest.raises(DataError, match=says) as caught:
        read_folder(folder)
    assert caught.value.hint
    assert (how == "accents") == ("Unicode NFC and NFD" in caught.value.hint)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        read_folder(tmp_path / "nowhere")
