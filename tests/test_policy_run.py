"""Towers of three kinds in one pair, end to end: bidirectional, causal, and one that reads its padding."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import torch
from report_pages import Page
from rich.console import Console
from small_data import lines
from tiny_clip import write_open_clip
from torch.nn.modules import module as hooks

from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.adapters.open_clip import OpenClipEncoder
from xtremex.analysis.report import rebuild
from xtremex.benchmark import jobs
from xtremex.benchmark.plan import Numerics, Plan, make_plan
from xtremex.benchmark.run import Options, run
from xtremex.benchmark.store import Store
from xtremex.benchmark.suite import load_suite

SUITE = """
name = "towers"
title = "Towers of three kinds"
seeds = [0]
targets = ["same", "tags", "spans"]

[[pairs]]
name = "mixed"
contrasts = [{ plus = "causal", minus = "text" }, { plus = "padded", minus = "text" }]
[pairs.arms]
text = { backbone = "xlmr" }
causal = { backbone = "metaclip2" }
padded = { backbone = "siglip" }
POLICY

[conditions]
warm-up = ["same"]

[intermediate]
steps = 1
batch_size = 4
encoder_lr = 1e-4
head_lr = 1e-3

[target]
steps = 1
batch_size = 4
encoder_lr = 1e-4
head_lr = 1e-3

[backbones.xlmr]
adapter = "huggingface"
checkpoint = "xlmr"
facts = { max_length = 64, pair_encoding = "joint", pooling = "mean", dropout = 0.1 }
[backbones.metaclip2]
adapter = "open_clip"
checkpoint = "metaclip2"
facts = { max_length = 24, pair_encoding = "joint", pooling = "eos", dropout = 0.0, causal = true }
[backbones.siglip]
adapter = "open_clip"
checkpoint = "siglip"
facts = { max_length = 40, pair_encoding = "joint", pooling = "last", dropout = 0.0, pad_to = 40 }

[tasks.same]
kind = "classification"
files = "same.{split}.jsonl"
labels = ["no", "yes"]
languages = ["en", "de"]
[tasks.tags]
kind = "tagging"
files = "tags.{split}.jsonl"
labels = ["O", "B-X"]
languages = ["en"]
[tasks.spans]
kind = "spans"
files = "spans.{split}.jsonl"
languages = ["en"]
"""
LONG = "the ship left the harbour in the evening and came back in the morning " * 6
NATIVE = 'max_length = 24\npooling = "native"\ndropout = "native"'


def _write(folder: Path, policy: str = "") -> Path:
    """The suite with its checkpoints and data, each of the texts longer than any of the towers reads."""
    tiny_checkpoints.write(folder / "xlmr", "xlm-roberta")
    write_open_clip(folder / "metaclip2", "metaclip2", context_length=24)
    write_open_clip(folder / "siglip", "siglip", context_length=40)
    for split, count in (("train", 8), ("dev", 4), ("test", 4)):
        words = LONG.split()[:30]
        made: dict[str, list[dict[str, Any]]] = {
            "same": [
                {"id": i, "text": f"{i} {LONG}", "pair": LONG, "label": "yes" if i % 2 else "no"}
                for i in range(count)
            ],
            "tags": [
                {"id": i, "words": words, "tags": ["B-X" if w == "ship" else "O" for w in words]}
                for i in range(count)
            ],
            "spans": [
                {
                    "id": i,
                    "question": "what left?",
                    "context": f"{LONG}{i}",  # each a paragraph of its own
                    "answers": [{"text": "ship", "answer_start": 4}],
                }
                for i in range(count)
            ],
        }
        for name, records in made.items():
            (folder / f"{name}.{split}.jsonl").write_text(lines(*records))
    table = f"[pairs.policy]\n{policy}" if policy else ""
    path = folder / "towers.toml"
    path.write_text(SUITE.replace("POLICY", table))
    return path


@pytest.fixture
def seen() -> Iterator[dict[str, list[tuple[int, int]]]]:
    """Family of an encoder -> (tokens that count, width) of every row of every forward pass."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def note(part: Any, arguments: tuple[Any, ...]) -> None:
        if isinstance(part, (HuggingFaceEncoder, OpenClipEncoder)):
            mask = arguments[1]
            # loading tries a row or two of three tokens
            found[part.info.family] += [(int(row.sum()), mask.shape[1]) for row in mask]

    handle = hooks.register_module_forward_pre_hook(note)
    yield found
    handle.remove()


def _perform(plan: Plan, store: Store, task: str) -> None:
    """All jobs of the plan that train or score ``task``, in this process."""
    for job in plan.jobs.values():
        if any(t.name == task for t in job.tasks) and set(job.needs) <= {
            key for key in plan.jobs if store.has(plan.jobs[key].type, key)
        }:
            jobs.perform(job, store)


def test_all_arms_read_the_same_number_of_tokens_of_one_text(
    tmp_path: Path, seen: dict[str, list[tuple[int, int]]]
) -> None:
    plan = make_plan(load_suite(str(_write(tmp_path))), Numerics("cpu", "fp32"))
    _perform(plan, Store(tmp_path / "store"), "same")
    for family in ("xlm-roberta", "open_clip"):
        assert {tokens for tokens, _ in seen[family]} == {24}, family
    assert {width for _, width in seen["open_clip"]} == {24, 40}  # SigLIP is still padded to its length
    assert {width for _, width in seen["xlm-roberta"]} == {24}


def test_without_a_policy_each_arm_reads_what_it_can(
    tmp_path: Path, seen: dict[str, list[tuple[int, int]]]
) -> None:
    path = _write(tmp_path)
    path.write_text(path.read_text().replace("facts = {", "dose = 'x' # {"))  # nothing known, nothing settled
    plan = make_plan(load_suite(str(path)), Numerics("cpu", "fp32"))
    assert set(plan.terms["mixed"].unsettled) == {"max_length", "pair_encoding", "pooling", "dropout"}
    _perform(plan, Store(tmp_path / "store"), "same")
    assert {tokens for tokens, _ in seen["xlm-roberta"]} == {64}
    assert {tokens for tokens, _ in seen["open_clip"]} == {24, 40}


def test_an_encoder_is_as_it_was_after_a_job(tmp_path: Path) -> None:
    plan = make_plan(load_suite(str(_write(tmp_path))), Numerics("cpu", "fp32"))
    store = Store(tmp_path / "store")
    job = next(j for j in plan.jobs.values() if j.backbone and j.backbone.name == "xlmr" and not j.needs)
    assert job.use.max_length == 24 and job.use.dropout == 0.0
    jobs.perform(job, store)
    carrier = jobs._carrier(job)
    assert (carrier.adapter.info.max_length, carrier.adapter.info.dropout) == (64, 0.1)
    rates = {m.p for m in carrier.encoder.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.1}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    options = Options(out=folder / "runs", device="cpu", precision="fp32", workers=1)
    run(str(_write(folder)), options, Console(quiet=True))
    return folder / "runs" / "towers"


CAVEATS = (
    "mixed / causal: causal mask: a token sees nothing to its right",
    "mixed / padded: attends to its padding (every input is padded to 40 tokens)",
    "mixed / text, causal, padded: reads 24 tokens, where tasks of the suite ask for up to 128",
    "mixed / text: used otherwise than by itself, by the pair's policy: longest input 24 tokens (accepts 64); dropout 0",
    "mixed / causal: used otherwise than by itself, by the pair's policy: sentence vector mean (its own: eos)",
)


def test_the_caveats_stand_beside_the_answer(ran: Path) -> None:
    page = Page((ran / "report.html").read_text(encoding="utf-8")).words()
    markdown = (ran / "report.md").read_text(encoding="utf-8").replace("\\", "")
    tree = json.loads((ran / "report.json").read_text(encoding="utf-8"))
    for caveat in CAVEATS:
        assert any(line.startswith(caveat) for line in tree["warnings"]), caveat
        assert (
            page.index("Before citing a number") < page.index(caveat) < page.index("Effect by intermediate")
        )
        assert caveat in markdown


def test_policy_and_traits_of_the_arms_are_in_the_tables(ran: Path) -> None:
    page = Page((ran / "report.html").read_text(encoding="utf-8")).words()
    for said in (
        "mixed longest input accepted causal: 24 tokens; padded: 24 tokens (accepts 40); text: 24 tokens (accepts 64)",
        "mixed sentence vector shared causal: mean (its own: eos); padded: mean (its own: last); text: mean",
        "mixed dropout shared causal, padded: 0; text: 0 (its own: 0.1)",
        "mixed causal metaclip2 open_clip open_clip 24 yes no",
        "mixed padded siglip open_clip open_clip 40 no 40",
        "1 pair of encoders: mixed (arms text, causal, padded; not matched: they differ in family, causal masking)",
    ):
        assert said in page, said


def test_the_signature_and_the_record_carry_the_policy(ran: Path) -> None:
    record = json.loads((ran / "suite.json").read_text(encoding="utf-8"))
    assert "|policy:mixed=len24,mean,drop0|" in record["signature"]
    (pair,) = record["pairs"]
    assert all(caveat.keys() == {"arm", "aspect", "text"} for caveat in pair["caveats"])
    assert pair["note"] == "Not a matched pair: the arms differ in family, causal masking."
    assert pair["differing"] == ["family", "causal masking"]
    assert {line["aspect"] for line in pair["policy"]} >= {"longest input", "dropout"}
    assert record["backbones"]["xlmr"]["max_length"] == 64  # the encoder as it is


def test_an_older_record_without_policies_still_gives_a_report(
    ran: Path, tmp_path: Path, without_figures: None
) -> None:
    older = shutil.copytree(ran, tmp_path / "older")
    record = json.loads((ran / "suite.json").read_text(encoding="utf-8"))
    for pair in record["pairs"]:
        del pair["policy"], pair["caveats"]
    record["backbones"] = {name: {"adapter": "x"} for name in record["backbones"]}
    (older / "suite.json").write_text(json.dumps(record))
    page = Page(rebuild(older).read_text(encoding="utf-8")).words()
    assert "Fair use" not in page and "padded to 40" not in page


def test_a_finished_folder_gets_a_newer_record_without_training(
    ran: Path, tmp_path: Path, without_figures: None
) -> None:
    """Policies and caveats of a run from before there were any."""
    runs = shutil.copytree(ran.parent, tmp_path / "runs")
    place = runs / "towers" / "suite.json"
    record = json.loads(place.read_text(encoding="utf-8"))
    older = {key: value for key, value in record.items() if key != "record"}
    older["pairs"] = [
        {key: value for key, value in pair.items() if key not in ("policy", "caveats")}
        for pair in record["pairs"]
    ]
    place.write_text(json.dumps(older), encoding="utf-8")
    rebuild(place.parent)
    made = {path: path.stat().st_mtime_ns for path in (runs / "store").rglob("*") if path.is_file()}
    options = Options(out=runs, device="cpu", precision="fp32", workers=1)
    run(str(ran.parents[1] / "towers.toml"), options, Console(quiet=True))
    assert json.loads(place.read_text(encoding="utf-8"))["pairs"] == record["pairs"]
    assert made == {path: path.stat().st_mtime_ns for path in (runs / "store").rglob("*") if path.is_file()}
    assert CAVEATS[0] in Page((place.parent / "report.html").read_text(encoding="utf-8")).words()


def test_the_note_on_sentence_vectors_tells_of_the_kinds_there_are(
    ran: Path, tmp_path: Path, without_figures: None
) -> None:
    told = "The sentence vector is what heads read"
    assert f"{told}." in Page((ran / "report.html").read_text(encoding="utf-8")).words()
    other = shutil.copytree(ran, tmp_path / "other")
    record = json.loads((ran / "suite.json").read_text(encoding="utf-8"))
    for target, kind in zip(record["targets"], ("answer-retrieval", "mining", "spans"), strict=True):
        target["kind"] = kind
    (other / "suite.json").write_text(json.dumps(record))
    page = Page(rebuild(other).read_text(encoding="utf-8")).words()
    assert f"{told} and what answer retrieval compares; bitext mining: scored on the encoder's own." in page


def test_a_suite_may_leave_poolings_and_dropout_as_they_are(tmp_path: Path) -> None:
    plan = make_plan(load_suite(str(_write(tmp_path, NATIVE))), Numerics("cpu", "fp32"))
    uses = {j.backbone.name: j.use for j in plan.jobs.values() if j.backbone}
    assert uses["xlmr"] == uses["siglip"] and uses["xlmr"].max_length == 24
    assert uses["xlmr"].dropout is None and uses["xlmr"].pooling is None and not uses["metaclip2"]
