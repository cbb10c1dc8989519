"""`xtremex check`: one line a check in a pipe, a folded table on a screen, facts that can be pasted, exit codes."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tiny_checkpoints import write

from xtremex.adapters import adapters
from xtremex.adapters.contract import CHECKS
from xtremex.benchmark.checking import print_check
from xtremex.errors import SuiteError, UnknownName
from xtremex.models.catalogue import load, parse_backbone

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("checkpoint") / "xlmr", "xlm-roberta")


def test_a_pipe_gets_a_line_for_each_check_and_facts_for_the_catalogue(folder, capsys):
    assert print_check("huggingface", str(folder), None) is True
    printed, noise = capsys.readouterr()
    assert noise == ""
    lines = [line.strip() for line in printed.splitlines()]
    rows = {name: line for line in lines for name in CHECKS if re.match(rf"{name} +(passed|skipped) ", line)}
    assert list(rows) == list(CHECKS)
    assert f"{len(CHECKS)} passed" in lines
    declared = {key: value for key, _, value in (line.partition("  ") for line in lines)}
    assert declared["dropout"].strip() == "0.1" and declared["padding"].strip() == "not read"
    assert declared["length"].strip() == "accepts 64 tokens, trained on 64"
    facts = tomllib.loads(lines[-1])["facts"]
    table = {"adapter": "huggingface", "checkpoint": str(folder), "facts": facts}
    info = load(
        parse_backbone("mine", table, "suite.toml")
    ).info  # refuses facts that the encoder contradicts
    assert facts == {key: getattr(info, key) for key in facts}
    assert {"max_length", "pooling", "dropout", "causal", "pair_encoding"} <= set(facts)


@pytest.mark.timeout(300)
def test_a_screen_of_80_columns_shows_the_shortest_counter_example(tmp_path):
    """A third party's broken adapter, seen through its entry point: exit code 1, no line cut but the facts."""
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[xtremex.adapters]\ndrops = broken_adapters:DropsWords\n")
    paths = [str(tmp_path), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    screen = {"PYTHONPATH": os.pathsep.join(paths), "FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "dumb"}
    command = [sys.executable, "-m", "xtremex", "check", "drops", "--checkpoint", "seed-0"]
    done = subprocess.run(
        command, env=os.environ | screen, capture_output=True, text=True, timeout=240, check=False
    )
    printed = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    *lines, facts = printed.splitlines()
    assert max(map(len, lines)) <= 80 < len(facts)
    failed = [line.split()[0] for line in lines if " failed " in line]
    assert failed == ["offsets", "words"] and f"{len(CHECKS) - 2} passed, 2 failed" in lines
    assert re.search(r"offsets +failed .*\n +shortest text that shows it: `\w`", printed)


def test_options_of_the_adapter_are_given_to_its_load(folder, capsys):
    command = [sys.executable, "-m", "xtremex", "check", "huggingface", "--checkpoint", str(folder)]
    command += [
        "--option",
        "pooling=cls",
        "--option",
        "max_length_trained=32",
        "--option",
        "text_prefix=query: ",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    facts = tomllib.loads(done.stdout.splitlines()[-1])["facts"]
    assert {key: facts[key] for key in ("pooling", "max_length_trained", "text_prefix")} == {
        "pooling": "cls",
        "max_length_trained": 32,
        "text_prefix": "query: ",
    }
    with pytest.raises(SuiteError, match="has no option `poolin`") as caught:
        print_check("huggingface", str(folder), None, ["poolin=cls"])
    assert "did you mean `pooling`" in caught.value.hint
    with pytest.raises(SuiteError, match="--option cls: no KEY=VALUE"):
        print_check("huggingface", str(folder), None, ["cls"])


def test_options_count_before_those_of_a_backbone_whose_facts_they_change(monkeypatch):
    from xtremex.benchmark.checking import _backbone

    named = _backbone("labse", "", None, {})
    other = _backbone("labse", "", None, {"pooling": "mean", "licence": "x"})
    assert named.options == {"pooling": "cls"} and named.facts.pooling == "cls"
    assert other.options == {"pooling": "mean", "licence": "x"} and other.facts.pooling is None


def test_the_list_of_adapters_says_what_each_loads_and_takes():
    code = (
        "import json, sys, dataclasses; from xtremex.adapters import adapters;"
        "print(json.dumps({n: dataclasses.asdict(adapters.described(n)) for n in adapters.names()}));"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    told = json.loads(done.stdout)
    built_in = {"huggingface", "mclip", "muse", "open_clip", "sentence_transformers"}
    assert all(told[name]["loads"] for name in built_in)
    for name in built_in:  # read from the source, and the same as the class itself says
        parameters = inspect.signature(adapters.get(name).load).parameters.values()
        own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "revision"]
        assert told[name]["options"] == own, name
    command = [sys.executable, "-m", "xtremex", "list", "adapters"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    [row] = [line for line in printed.splitlines() if line.split()[:1] == ["open_clip"]]
    assert "text tower of any open_clip model" in row and " model " in row


def test_what_cannot_be_checked_is_said_in_two_lines(tmp_path):
    for name, checkpoint, message, hint in (
        ("huggingface", "", "no checkpoint", "--checkpoint"),
        ("muse", "some-folder", "is a backbone", "leave --checkpoint out"),
    ):
        with pytest.raises(SuiteError, match=message) as caught:
            print_check(name, checkpoint, None)
        assert hint in caught.value.hint and len(str(caught.value).splitlines()) == 2
    with pytest.raises(UnknownName, match="unknown backbone or adapter `mus`") as caught:
        print_check("mus", "", None)
    assert "`muse`" in caught.value.hint


def test_invisible_characters_of_a_counter_example_are_spelt_out():
    from xtremex.benchmark.checking import _spelt

    assert _spelt("é") == "`é`" and _spelt("a b") == "`a b`"
    assert _spelt("e\u0301") == "`e\u0301` (U+0065 U+0301)"
    assert json.dumps(_spelt("\u200d")) == '"`\\u200d` (U+200D)"'
