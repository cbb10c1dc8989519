"""Files of every format: the same examples, dirty text to the character, and what is refused, by file and line."""

from __future__ import annotations

import gzip
import json
import os

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Features, Image, Value
from made_repository import write_repository
from small_data import CLASS, declared, folder_source, lines

from xtremex.errors import DataError, SuiteError
from xtremex.tasks.base import ChoiceExample, TextExample
from xtremex.tasks.files import read_records
from xtremex.tasks.filesource import FileSource
from xtremex.tasks.folder import FolderFiles


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl.gz", b"plain text", "not a gzip file"),
        # a fixed time in its header: every process has to collect the same test names
        ("b.jsonl.gz", gzip.compress(lines(CLASS).encode() * 50, mtime=0)[:-12], "truncated or damaged"),
        ("c.parquet", b"PAR0", "not a Parquet file"),
        ("d.csv", b"text,label", "unknown data format"),
        ("e.json", b'{"data": [', "not valid JSON"),
        ("f.json", b'{"rows": []}', "not the SQuAD v1.1 layout"),
        ("g.jsonl", None, "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    source = folder_source(tmp_path, name)
    with pytest.raises(DataError, match=message) as caught:
        source.load(declared("classification", source, ("yes", "no")), "test", "en")
    assert str(path) in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    (tmp_path / "en.jsonl").write_text(lines(CLASS))
    (tmp_path / "en.jsonl").chmod(0)
    source = folder_source(tmp_path, "{language}.jsonl")
    with pytest.raises(DataError, match="Permission denied"):
        source.load(declared("classification", source, ("yes", "no")), "test", "en")


def test_a_missing_file_or_split_is_named_with_its_neighbours(tmp_path):
    (tmp_path / "en.test.jsonl").write_text(lines(CLASS))
    source = folder_source(tmp_path, "{language}.tset.jsonl")
    with pytest.raises(DataError, match=r"en.tset.jsonl: no such file\n.*did you mean `en.test.jsonl`"):
        source.load(declared("classification", source, ("yes", "no")), "test", "en")
    absent = source.fingerprint()
    assert absent != folder_source(tmp_path, "{language}.test.jsonl").fingerprint(), "a plan needs no data"
    assert absent != folder_source(tmp_path, "other.jsonl").fingerprint()
    with pytest.raises(DataError, match="no file is declared for split `dev`"):
        source.load(declared("classification", source, ("yes", "no")), "dev", "en")
    with pytest.raises(SuiteError, match="unknown placeholder `{lang}`"):
        folder_source(tmp_path, "{lang}.jsonl").files.parts("test", "en")


def test_formats_hold_the_same_examples(tmp_path):
    records = [{"text": "süß", "label": "yes"}, {"text": "日本", "label": "no"}]
    (tmp_path / "en.jsonl").write_text("\ufeff" + lines(*records) + "\n", encoding="utf-8")
    (tmp_path / "en.jsonl.gz").write_bytes(gzip.compress(lines(*records).encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "en.parquet")
    found = []
    for suffix in ("jsonl", "jsonl.gz", "parquet"):
        source = folder_source(tmp_path, "{language}." + suffix)
        found.append(source.load(declared("classification", source, ("yes", "no")), "test", "en"))
    assert (
        found[0] == found[1] == found[2] == [TextExample(0, "süß", None, 0), TextExample(1, "日本", None, 1)]
    )
    pyarrow.parquet.write_table(
        pyarrow.table({"text": ["a", "b"], "label": ["yes", "?"]}), tmp_path / "en.parquet"
    )
    with pytest.raises(DataError, match=r"en\.parquet:2: the label '\?'"):
        source.load(declared("classification", source, ("yes", "no")), "test", "en")


def test_dirty_text_survives_to_the_character(tmp_path):
    """Stray carriage returns, zero-width spaces and Unicode line separators are text, not line ends."""
    context = "\u200bA\r b\u2028c\x85d\x0b\ufeffe"
    record = {"context": context, "question": "q\r", "answers": [{"text": "c\x85d", "answer_start": 6}]}
    content = json.dumps(record, ensure_ascii=False).replace("\\r", "\\r").encode() + b"\r\n"
    assert b"\xe2\x80\xa8" in content
    (tmp_path / "en.jsonl").write_bytes(content)
    source = folder_source(tmp_path, "{language}.jsonl")
    [example] = source.load(declared("spans", source), "test", "en")
    assert (example.context, example.question, example.answers) == (context, "q\r", ((6, "c\x85d"),))
    (tmp_path / "en.jsonl").write_text(lines({"words": ["\u200b", "a\r"], "tags": ["O", "O"]}))
    [tagged] = source.load(declared("tagging", source, ("O",)), "test", "en")
    assert tagged.words == ("\u200b", "a\r")


SQUAD = {
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {
                    "context": "Ann met Bo.",
                    "qas": [
                        {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]},
                        {"id": "q2", "question": "Whom?", "answers": [{"text": "Bo", "answer_start": 8}]},
                    ],
                },
                {
                    "context": "It rains.",
                    "qas": [
                        {"id": "q3", "question": "What?", "answers": [{"text": "rains", "answer_start": 3}]}
                    ],
                },
            ],
        }
    ]
}


def test_squad_files_are_read_with_one_cluster_per_paragraph(tmp_path):
    (tmp_path / "en.json").write_text(json.dumps(SQUAD, indent=1))
    source = folder_source(tmp_path, "{language}.json")
    examples = source.load(declared("spans", source), "test", "en")
    assert [(e.id, e.question, e.cluster) for e in examples] == [
        (0, "Who?", 0),
        (1, "Whom?", 0),
        (2, "What?", 2),
    ]


def test_an_answer_outside_its_context_names_the_line_of_its_question(tmp_path):
    text = json.dumps(SQUAD, indent=1).replace('"answer_start": 8', '"answer_start": 7')
    (tmp_path / "en.json").write_text(text)
    line = text[: text.index('"q2"')].count("\n") + 1
    source = folder_source(tmp_path, "{language}.json")
    with pytest.raises(
        DataError, match=rf"en\.json:{line}: the answer `Bo` is not at character 7.*\n.*character 8"
    ):
        source.load(declared("spans", source), "test", "en")


def test_text_files_give_a_record_per_line_that_says_something(tmp_path):
    content = "\ufeffeins \r\n\n \nzwei\u2028drei\x85\r".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content))
    for name in ("a.txt", "a.txt.gz"):
        found = list(read_records(tmp_path / name))
        assert [r.fields["text"] for r in found] == ["eins ", "zwei\u2028drei\x85"]
        assert found[1].where.endswith(f"{name}:4")
    (tmp_path / "b.txt").write_text("\n \n")
    assert list(read_records(tmp_path / "b.txt")) == []


@pytest.mark.parametrize("name", ["en.parquet", "en.jsonl", "en.json", "en.txt", "en.jsonl.gz"])
def test_a_pointer_of_git_lfs_is_not_taken_for_data(tmp_path, name):
    oid = "0" * 64
    (tmp_path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12\n")
    source = folder_source(tmp_path, name)
    with pytest.raises(DataError, match=r"a pointer of Git LFS.*\n.*lfs pull"):
        source.load(declared("classification", source, ("yes", "no")), "test", "en")
    assert "git lfs pull" in source.files.missing("test", "en")


def test_some_files_of_a_split_may_be_empty_but_not_all(tmp_path):
    """Few rows in many shards leave some of them without a row."""
    schema = pyarrow.schema({"text": pyarrow.string(), "label": pyarrow.string()})
    for number, records in enumerate([[], [CLASS], []]):
        table = pyarrow.Table.from_pylist(records, schema=schema)
        pyarrow.parquet.write_table(table, tmp_path / f"en-{number}.parquet")
    source = folder_source(tmp_path, "{language}-?.parquet")
    task = declared("classification", source, ("yes", "no"))
    assert source.load(task, "test", "en") == [TextExample(0, CLASS["text"], None, 0)]
    (tmp_path / "en-1.parquet").unlink()
    with pytest.raises(DataError, match=r"en-2\.parquet and those before it hold no example"):
        source.load(task, "test", "en")


def test_a_parquet_text_that_is_not_utf8_is_named(tmp_path):
    raw = pyarrow.array([b"fine", b"caf\xe9"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, raw.buffers())
    table = pyarrow.table({"text": text, "label": ["yes", "no"]})
    pyarrow.parquet.write_table(table, tmp_path / "en.parquet")
    source = folder_source(tmp_path, "{language}.parquet")
    with pytest.raises(DataError, match=r"en\.parquet: a text is not UTF-8 .*0xe9"):
        source.load(declared("classification", source, ("yes", "no")), "test", "en")


def test_only_the_columns_in_use_are_read_and_all_are_named(tmp_path):
    """Pictures are gigabytes: a caption task's text must not cost them, and a mistake still names every column."""
    features = Features({"sentence": Value("string"), "picture": Image(), "label": Value("int32")})
    rows = [{"sentence": "a", "picture": {"bytes": b"\x89PNG", "path": "a.png"}, "label": 1}] * 3
    folder = write_repository(tmp_path / "r", {"en": {"test": rows}}, features)
    [path] = folder.glob("en/*.parquet")
    [first, *_] = read_records(path, {"sentence", "label"})
    assert first.fields == {"sentence": "a", "label": 1} and first.columns == ("sentence", "picture", "label")
    assert next(iter(read_records(path))).fields["picture"] == {"bytes": b"\x89PNG", "path": "a.png"}
    assert len(list(read_records(path, {"nothing"}))) == 3
    source = FileSource(FolderFiles(path.parent, {"test": path.name}), {"test": ("en",)}, {"text": "sentenc"})
    with pytest.raises(
        DataError, match=r"parquet:1: no column `sentenc`\n.*did you mean `sentence`.*picture"
    ):
        source.load(declared("classification", source, ("x", "y")), "test", "en")


def test_several_files_and_parts_of_columns_and_languages_in_their_names(tmp_path):
    for number in (2, 1, 10):
        record = {"q": f"q{number}", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "key_en": "B"}
        (tmp_path / f"part-{number:02d}.jsonl").write_text(lines(record))
    files = FolderFiles(tmp_path, {"test": ("part-0[12].jsonl", "part-1?.jsonl")})
    columns = {"question": "q", "choices": "choices.text", "label": "key_{language}"}
    source = FileSource(files, {"test": ("en",)}, columns)
    examples = source.load(declared("multiple-choice", source, ("A", "B")), "test", "en")
    assert examples == [ChoiceExample(i, f"q{n}", ("x", "y"), 1) for i, n in enumerate((1, 2, 10))]
    with pytest.raises(DataError, match="no column `key_de`"):
        source.load(declared("multiple-choice", source, ("A", "B")), "test", "de")
    none = FileSource(FolderFiles(tmp_path, {"test": "x-*.jsonl"}), {"test": ("en",)})
    with pytest.raises(DataError, match=r"x-\*\.jsonl: no file matches"):
        none.load(declared("classification", none, ("A",)), "test", "en")


def test_a_slice_may_follow_a_path_and_changes_the_fingerprint(tmp_path):
    (tmp_path / "en.jsonl").write_text(lines(*({"text": f" {i} ", "label": "yes"} for i in range(9))))
    part = FileSource(FolderFiles(tmp_path, {"test": "{language}.jsonl[-3:]"}), {"test": ("en",)}, strip=True)
    task = declared("classification", part, ("yes", "no"))
    assert part.load(task, "test", "en") == [TextExample(i, str(n), None, 0) for i, n in enumerate((6, 7, 8))]
    whole = FileSource(FolderFiles(tmp_path, {"test": "{language}.jsonl"}), {"test": ("en",)}, strip=True)
    unstripped = FileSource(part.files, part.languages)
    assert len({part.fingerprint(), whole.fingerprint(), unstripped.fingerprint()}) == 3
