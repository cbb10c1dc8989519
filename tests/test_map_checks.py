"""`crosscheck` and `calibrate`: other roads to the same numbers, and the field's habits, on simulated outcomes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from demo_outcomes import TARGETS, write_demo
from small_suite import printed

from xtremex.analysis import map_checks
from xtremex.analysis.calibrate import calibrate_suite
from xtremex.analysis.map_checks import check_folder, check_grand, contrast_of, shrink_map
from xtremex.analysis.outcomes import Record, read_record
from xtremex.errors import AnalysisError, UnknownName

TRAINED = tuple(target for target in TARGETS if target.trained)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nested, parallel and clustered test sets, accuracy and F1, an effect of two points."""
    return write_demo(
        tmp_path_factory.mktemp("checked"),
        arms=("text", "vision"),
        conditions=("none", "nli", "tags", "mixture"),
        targets=TRAINED,
        languages=("en", "de", "fa", "zh"),
        examples=120,
        effect=0.02,
    )


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    return read_record(folder)


def _scores(record: Record, arm: str, condition: str) -> np.ndarray:
    """(S,) mean over targets of the runs' scores."""
    return np.mean(
        [record.cells["muse", t.name][arm, condition].scores.mean(axis=1) for t in TRAINED], axis=0
    )


def test_grand_bootstrap_agrees_with_the_closed_form(record: Record) -> None:
    """20,000 resamples: half a percent of Monte-Carlo error in an SE."""
    grand = check_grand(record, "muse", contrast_of(record, "muse", None), resamples=20_000)
    assert grand.cells == 3 * len(TRAINED)
    assert grand.bootstrap.value == grand.closed.value
    assert grand.bootstrap.se == pytest.approx(grand.closed.se, rel=0.03)
    assert grand.bootstrap.v_run == pytest.approx(grand.closed.v_run, rel=0.05)
    assert grand.bootstrap.v_examples == pytest.approx(grand.closed.v_examples, rel=0.05)
    assert grand.bootstrap.df == pytest.approx(grand.closed.df, rel=0.05)
    assert (grand.bootstrap.low, grand.bootstrap.high) == pytest.approx(
        (grand.closed.low, grand.closed.high), abs=0.002
    )


def test_grand_bootstrap_may_share_weights_over_languages(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unbiased, with a relative noise of about sqrt(2 / n) of each nested target's part."""
    contrast = contrast_of(record, "muse", None)
    whole = check_grand(record, "muse", contrast, resamples=4000)
    monkeypatch.setattr(map_checks, "MANY", 0)
    shared = check_grand(record, "muse", contrast, resamples=4000)
    assert shared.bootstrap.v_examples != whole.bootstrap.v_examples
    assert shared.bootstrap.v_examples == pytest.approx(whole.closed.v_examples, rel=0.35)


def test_grand_permutation_counts_every_arrangement(record: Record) -> None:
    """By hand: swap as many runs of the two arms with intermediate training as without."""
    cells = {
        (arm, kind): np.mean([_scores(record, arm, c) for c in names], axis=0)
        for arm in ("vision", "text")
        for kind, names in (("with", ("nli", "tags", "mixture")), ("none", ("none",)))
    }
    value = sum(s * cells[k].mean() for k, s in zip(cells, (1, -1, -1, 1), strict=True))
    found = []
    for moved in range(4):
        choices = [list(c) for c in combinations(range(3), moved)]
        for one in choices:
            for two in choices:
                for three in choices:
                    for four in choices:
                        v1, v0, t1, t0 = (cells[k].copy() for k in cells)
                        v1[one], t1[two] = t1[two].copy(), cells["vision", "with"][one]
                        v0[three], t0[four] = t0[four].copy(), cells["vision", "none"][three]
                        found.append(v1.mean() - v0.mean() - t1.mean() + t0.mean())
    grand = check_grand(record, "muse", contrast_of(record, "muse", None), resamples=100)
    assert grand.permutation is not None and grand.permutation.exact
    assert grand.permutation.arrangements == len(found) == 164
    assert grand.permutation.value == pytest.approx(value) == pytest.approx(grand.closed.value)
    assert grand.permutation.p == pytest.approx(np.mean(np.abs(found) >= abs(value) - 1e-12))
    # runs alone: tier T1 is what it compares with
    assert grand.runs.tier == "T1" and grand.runs.se < grand.closed.se


def test_map_is_shrunken_towards_its_mean(record: Record) -> None:
    found = shrink_map(record, "muse", contrast_of(record, "muse", "vision-text"))
    raw = np.array([100 * fit.value for fit in found.fits])
    assert len(found.cells) == 12 and not found.moderated
    assert found.shrunken.mean.std() < raw.std()
    assert np.all(found.shrunken.sd < [100 * fit.se for fit in found.fits])
    assert np.all((found.shrunken.positive > 0.5) == (found.shrunken.mean > 0))


def test_folder_is_checked_where_the_map_is_largest(folder: Path) -> None:
    found = check_folder(folder, resamples=2000, seed=4)
    assert found.map is not None
    t = [abs(fit.value) / fit.se for fit in found.map.fits]
    assert found.cell == found.map.cells[int(np.argmax(t))]
    assert found.checked.closed.value == pytest.approx(found.map.fits[int(np.argmax(t))].value)
    assert found.cell_runs.v_examples == 0 and found.cell_runs.v_run == found.checked.closed.v_run
    assert check_folder(folder, resamples=2000, seed=4).grand.bootstrap == found.grand.bootstrap
    with pytest.raises(UnknownName, match="scrambled"):
        check_folder(folder, contrast="scrambled-text")
    with pytest.raises(AnalysisError, match="no outcomes of"):
        check_folder(folder, cell=("spans", "mini-topic"))
    with pytest.raises(AnalysisError, match="no outcomes of nli -> mini-pictures") as error:
        check_folder(folder, cell=("nli", "mini-pictures"))
    assert "tags" in error.value.hint and "mini-topic" in error.value.hint
    with pytest.raises(AnalysisError, match="50 resamples"):
        check_folder(folder, resamples=50)


def test_seeds_need_no_common_names_to_be_permuted(record: Record) -> None:
    """They are nested in cells; and one run, which is none too many, is refused by name."""
    named = {
        (pair, task): {
            key: replace(cell, seeds=(3, 4, 5)) if key == ("text", "nli") else cell
            for key, cell in grid.items()
        }
        for (pair, task), grid in record.cells.items()
    }
    asked = contrast_of(record, "muse", None)
    found = check_grand(replace(record, cells=named), "muse", asked, resamples=100)
    assert found.permutation == check_grand(record, "muse", asked, resamples=100).permutation
    one = {
        (pair, task): {
            key: replace(cell, seeds=cell.seeds[:1], scores=cell.scores[:1])
            if key == ("text", "nli")
            else cell
            for key, cell in grid.items()
        }
        for (pair, task), grid in record.cells.items()
    }
    with pytest.raises(AnalysisError, match="one in text / nli"):
        check_grand(replace(record, cells=one), "muse", asked)


def test_deterministic_cells_are_constants(tmp_path: Path) -> None:
    """Nothing trained without an intermediate task: no permutation for such a target alone, one for a mixed mean."""
    mixed = [t for t in TARGETS if t.name in ("mini-topic", "mini-mining")]
    options = {
        "arms": ("text", "vision"),
        "conditions": ("none", "nli"),
        "languages": ("en", "de"),
        "examples": 30,
    }
    record = read_record(write_demo(tmp_path / "mixed", targets=mixed, **options))
    grand = check_grand(record, "muse", contrast_of(record, "muse", None), resamples=500)
    assert grand.permutation is not None and grand.permutation.value == pytest.approx(grand.closed.value)
    record = read_record(write_demo(tmp_path / "fixed", targets=mixed[1:], **options))
    assert check_grand(record, "muse", contrast_of(record, "muse", None), resamples=500).permutation is None


def test_crosscheck_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["crosscheck", folder, "--condition", "nli", "--target", "mini-entities", "--resamples", "500"]
    out = printed(capsys, *line)
    assert "nli -> mini-entities" in out and "permutation of runs, T1, 164 all" in out
    assert out.count("closed form, T2") == 2 and "shrunken" in out
    tree = json.loads(printed(capsys, *line, "--json"))
    expected = check_folder(folder, cell=("nli", "mini-entities"), resamples=500)
    assert tree["cell"] == ["nli", "mini-entities"] and len(tree["map"]["shrunken"]["mean"]) == 12
    assert tree["checked"]["bootstrap"]["se"] == pytest.approx(expected.checked.bootstrap.se)
    with pytest.raises(AnalysisError) as error:
        printed(capsys, "crosscheck", folder, "--condition", "nli")
    assert "--target" in error.value.hint


def test_calibrate_command(folder: Path, record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    tree = json.loads(printed(capsys, "calibrate", folder, "--datasets", "12", "--json"))
    counted: list[int] = []
    rows = calibrate_suite(record, 12, 0, progress=lambda: counted.append(1))
    assert len(counted) == 12
    assert [(r["scope"], r["method"], r["error"]) for r in tree["rows"]] == [
        (r.scope, r.method, r.error) for r in rows
    ]
    out = printed(capsys, "calibrate", folder, "--datasets", "12")
    assert "MWV-t, tier T2 (in use)" in out and "Error rates by target" in out
    assert "paired bootstrap over examples" in out and "data sets simulated" in out
    with pytest.raises(UnknownName, match="muses"):
        printed(capsys, "calibrate", folder, "--pair", "muses")


def test_the_commands_need_no_torch(folder: Path) -> None:
    code = (
        "import sys\nfrom xtremex.benchmark.cli import app\n"
        "for line in (['power', d := sys.argv[1]], ['calibrate', d, '--datasets', '2'], ['compare', d, d],\n"
        "             ['crosscheck', d, '--resamples', '100']):\n"
        "    app(line, standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
