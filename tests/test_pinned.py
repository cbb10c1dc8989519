"""What a report can be traced to: the outcomes it was made from, by digests in the record and in the signature."""

import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_outcomes import SMALL, edit_suite, write_demo

from xtremex.analysis.effects import analyse
from xtremex.analysis.headline import is_current
from xtremex.analysis.outcomes import read_record
from xtremex.analysis.report import rebuild
from xtremex.errors import DataError

NAME = "mini-inference"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("pinned") / "demo", **SMALL)


@pytest.fixture
def demo(made, tmp_path):
    return shutil.copytree(made, tmp_path / "demo")


def listed(folder, *, digests=True):
    """As `xtremex run` lists them; without digests, as it did before."""
    files = {}
    for path in (folder / "outcomes").glob("*.parquet"):
        content = path.read_bytes()
        files[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files = files if digests else {name: about["bytes"] for name, about in files.items()}
    edit_suite(folder, lambda suite: suite.update(files=files))
    return files


def flip(folder):
    """Wrong answers of one run become right ones; the rest of the file stays as it was."""
    path = folder / "outcomes" / f"{NAME}.parquet"
    file = pq.ParquetFile(path)
    tables = [file.read_row_group(i) for i in range(file.metadata.num_row_groups)]
    at = tables[-1].column_names.index("accuracy.num")
    changed = tables[-1].set_column(at, "accuracy.num", pa.array(np.ones(len(tables[-1]))))
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in [*tables[:-1], changed]:
            writer.write_table(table)


def flip_a_byte(folder):
    """The same size, and a file that still opens: a byte of the first page, not of the footer."""
    path = folder / "outcomes" / f"{NAME}.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def fields(signature):
    return {key: value for key, _, value in (field.partition(":") for field in signature.split("|"))}


def test_other_outcomes_have_another_signature(demo):
    before = analyse(demo)
    assert analyse(demo).signature == before.signature
    flip(demo)
    after = analyse(demo)
    assert [e.value for e in after.estimates] != [e.value for e in before.estimates]
    old, new = fields(before.signature), fields(after.signature)
    assert {key for key in old if old[key] != new[key]} == {"outcomes"} and list(old) == list(new)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum (coreutils)")
def test_anybody_can_check_the_digest_of_the_outcomes(demo):
    line = "LC_ALL=C; export LC_ALL; sha256sum *.parquet | sha256sum"
    printed = subprocess.run(
        ["sh", "-c", line], cwd=demo / "outcomes", capture_output=True, text=True, check=True
    )
    assert fields(analyse(demo).signature)["outcomes"] == printed.stdout[:12]


def test_the_record_is_pinned_too_but_not_its_times(demo):
    before = fields(analyse(demo).signature)
    edit_suite(demo, lambda suite: [run.update(seconds=99.0) for run in suite["runs"]])
    edit_suite(demo, lambda suite: suite["cost"].update(seconds=1.0))
    assert fields(analyse(demo).signature) == before
    edit_suite(demo, lambda suite: suite["runs"][0].update(collapsed=True))
    after = fields(analyse(demo).signature)
    assert {key for key in before if before[key] != after[key]} == {"record"}


def test_a_file_that_the_record_was_not_written_for_is_refused(demo):
    files = listed(demo)
    report = rebuild(demo)
    first = {path.name: path.read_bytes() for path in (report, demo / "report.json", demo / "methods.tex")}
    rebuild(demo)
    assert {name: (demo / name).read_bytes() for name in first} == first
    flip_a_byte(demo)
    with pytest.raises(DataError) as error:
        analyse(demo)
    found = hashlib.sha256((demo / "outcomes" / f"{NAME}.parquet").read_bytes()).hexdigest()
    assert str(demo / "outcomes" / f"{NAME}.parquet") in error.value.message
    assert (
        found[:12] in error.value.message and files[f"{NAME}.parquet"]["sha256"][:12] in error.value.message
    )
    assert "`xtremex run`" in error.value.hint and "`files`" in error.value.hint
    assert (demo / "report.html").read_bytes() == first["report.html"]


def test_a_file_of_another_size_is_refused_before_it_is_read(demo):
    listed(demo)
    path = demo / "outcomes" / f"{NAME}.parquet"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{size - 1} bytes, not {size}"):
        read_record(demo)


def test_a_link_to_nowhere_is_told(demo):
    listed(demo)
    path = demo / "outcomes" / f"{NAME}.parquet"
    path.unlink()
    path.symlink_to(demo / "gone")
    with pytest.raises(DataError, match="cannot be read"):
        read_record(demo)


def test_a_file_that_came_later_is_refused(demo):
    files = listed(demo)
    edit_suite(demo, lambda suite: suite["files"].pop(f"{NAME}.parquet"))
    rest = ", ".join(sorted(set(files) - {f"{NAME}.parquet"}))
    with pytest.raises(
        DataError, match=re.escape(f"was not there when suite.json was written: its `files` lists {rest}")
    ):
        read_record(demo)


def test_older_records_are_read(demo):
    """With sizes alone, sizes are checked; the signature is that of the same outcomes under a newer record."""
    plain = analyse(demo).signature
    listed(demo)
    assert analyse(demo).signature == plain
    listed(demo, digests=False)
    assert analyse(demo).signature == plain
    flip(demo)
    with pytest.raises(DataError, match="bytes, not"):
        analyse(demo)


def test_a_report_of_other_files_is_out_of_date(demo):
    listed(demo)
    rebuild(demo)
    assert is_current(demo)
    flip(demo)
    listed(demo)
    assert not is_current(demo)
    rebuild(demo)
    assert is_current(demo)
    shown = json.loads((demo / "report.json").read_text())["suite"]["files"]
    assert shown == json.loads((demo / "suite.json").read_text())["files"]
