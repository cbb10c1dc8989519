"""The first form of docs/add-a-backbone.md, a hub id in a suite and no Python: fetched from a hub and run without one."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import tiny_checkpoints
import transformers
from fake_hub import FakeHub, commit, python

TUTORIAL = (Path(__file__).parents[1] / "docs" / "add-a-backbone.md").read_text(encoding="utf-8")


def _write(folder: Path, seed: int) -> None:
    """A tiny XLM-R that accepts as much as the real one, with a tokenizer, as a repository of the hub holds it."""
    tokenizer = tiny_checkpoints.unigram()
    size = {**tiny_checkpoints.SMALL, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    transformers.set_seed(seed)
    config = transformers.XLMRobertaConfig(**size, max_position_embeddings=514)
    transformers.XLMRobertaForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    described = folder / "tokenizer_config.json"
    real = json.loads(described.read_text(encoding="utf-8")) | {"model_max_length": 512}
    described.write_text(json.dumps(real), encoding="utf-8")


@pytest.mark.timeout(300)
def test_the_suite_of_the_tutorial_runs_as_the_page_says(tmp_path: Path) -> None:
    [(name, content)] = re.findall(r"`(my_study\.toml)`.*?```toml\n(.*?)```", TUTORIAL, re.DOTALL)
    [block] = re.findall(r"```bash\n(xtremex fetch my_study.*?)```", TUTORIAL, re.DOTALL)
    fetched, started = (shlex.split(line, comments=True) for line in block.splitlines())
    (tmp_path / name).write_text(content, encoding="utf-8")
    mine = tomllib.loads(content)["backbones"]["my-encoder"]["checkpoint"]
    ancestor = "FacebookAI/xlm-roberta-base"
    _write(tmp_path / "hub" / "models" / ancestor, seed=0)
    _write(tmp_path / "hub" / "models" / mine, seed=1)
    hub = FakeHub(tmp_path / "hub")

    def typed(line: list[str], address: str) -> str:
        where = {"address": address, "home": tmp_path / "home"}
        assert line[0] == "xtremex"
        folder = ("--out", tmp_path / "runs", *(("--workers", "1") if line[1] == "run" else ()))
        arguments = [tmp_path / name if word == name else word for word in line[1:]]
        return python("-c", "from xtremex.benchmark.cli import main; main()", *arguments, *folder, **where)

    typed(fetched, hub.address)
    hub.close()
    typed(started, "http://127.0.0.1:9")
    record = json.loads((tmp_path / "runs" / "my-study" / "suite.json").read_text(encoding="utf-8"))
    assert record["backbones"]["my-encoder"]["revision"] == commit(mine)
    assert record["backbones"]["xlm-roberta-base"]["revision"] == commit(ancestor)
    assert record["backbones"]["my-encoder"]["pooling"] == "cls"
    assert (tmp_path / "runs" / "my-study" / "report.html").is_file()
