"""Keys of a suite that say how it is analysed: the ladder of a pair, the table `analysis`; what a plan records of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from small_suite import write_small

from xtremex.analysis.preregister import design_of
from xtremex.analysis.settings import Settings
from xtremex.benchmark.environment import numerics
from xtremex.benchmark.plan import make_plan
from xtremex.benchmark.record import design_record
from xtremex.benchmark.schema import Analysis
from xtremex.benchmark.suite import builtin_suites, load_suite
from xtremex.errors import SuiteError, UnknownName

ARMS = 'vision = { backbone = "muse", grounding = "vision" }\n'
THIRD = 'scrambled = { backbone = "muse", grounding = "scrambled" }\n'
NAME = 'name = "muse"\n'


def small(folder: Path, ladder: str = "", append: str = "") -> Path:
    return write_small(folder, replace={ARMS: ARMS + THIRD, NAME: NAME + ladder}, append=append)


def test_order_and_ladder_are_recorded(tmp_path: Path) -> None:
    path = small(tmp_path, 'ladder = ["text", "scrambled", "vision"]\n')
    record = design_record(make_plan(load_suite(str(path)), numerics("cpu", "fp32")))
    (pair,) = record["pairs"]
    # the keys of an object are sorted when it is written: the lists are what keeps the order
    (read,) = json.loads(json.dumps(record["pairs"], sort_keys=True))
    assert list(read["arms"]) == ["scrambled", "text", "vision"]
    assert read["order"] == list(pair["arms"]) == ["text", "vision", "scrambled"]
    assert read["ladder"] == ["text", "scrambled", "vision"]
    design = design_of(record)
    assert design["pairs"]["muse"]["ladder"] == read["ladder"]
    assert design["targets"]["mini-pictures"]["retention"] is True
    assert design["conditions"] == {"none": [], "inference": ["mini-quantity"]}


@pytest.mark.parametrize(
    ("ladder", "error"),
    [
        ('["text", "vision"]', SuiteError),
        ('["text", "vision", "text"]', SuiteError),
        ('["text", "vison", "scrambled"]', UnknownName),
    ],
)
def test_a_ladder_has_three_arms_of_the_pair(tmp_path: Path, ladder: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="ladder"):
        load_suite(str(small(tmp_path, f"ladder = {ladder}\n")))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('tier = "T0"', SuiteError),
        ('df = "kenward-roger"', SuiteError),
        ('primary = "none"', UnknownName),
        ('primary = "inferense"', UnknownName),
    ],
)
def test_the_analysis_is_checked_before_anything_runs(
    tmp_path: Path, line: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match="analysis"):
        load_suite(str(small(tmp_path, append=f"[analysis]\n{line}\n")))


def test_what_a_suite_may_ask_the_analysis_understands() -> None:
    assert asdict(Analysis()) == asdict(Settings())


def test_built_in_suites_can_be_registered() -> None:
    for name, path in builtin_suites().items():
        if name in ("mini", "xtreme-x"):
            record = design_record(make_plan(load_suite(str(path)), numerics("cpu", "fp32")))
            assert design_of(record)["analysis"] == asdict(Settings())
            ladders = [tuple(pair["ladder"]) for pair in record["pairs"]]
            assert any(ladders) == (name == "xtreme-x")
