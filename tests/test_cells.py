"""Test sets and cells: what they hold at the edges, and what they refuse."""

import numpy as np
import pytest

from xtremex.analysis.cells import Cell
from xtremex.analysis.examples import Examples
from xtremex.errors import AnalysisError


def test_nothing_predicted_and_nothing_to_find_scores_zero():
    examples = Examples.regular(["en", "de"], 3)
    num, den = np.array([[2.0, 0, 2, 0, 0, 0]] * 2), np.array([[2.0, 1, 2, 0, 0, 0]] * 2)
    cell = Cell.from_counts(examples, num, den)
    assert cell.scores == pytest.approx(np.array([[0.8, 0.0]] * 2))
    assert np.isfinite(cell.contributions).all() and cell.contributions[3:].tolist() == [0, 0, 0]


def test_refused_counts():
    examples = Examples.regular(["en", "de"], 5)
    ones, hits = np.ones((3, 10)), np.random.default_rng(12).random((3, 10))
    missing = np.where(np.eye(3, 10) > 0, np.nan, ones)
    empty = np.repeat([1.0, 0.0], 5) * ones
    for num, den, seeds, match in (
        (missing, ones, None, "3 missing"),
        (hits, missing, None, "3 missing"),  # was read as 0 / 0
        (hits, -ones, None, "negative"),
        (hits, empty, None, "num is not 0"),
        (hits, ones, [0, 0, 1], "stands twice"),
        (hits[:0], ones[:0], None, "no runs"),
    ):
        with pytest.raises(AnalysisError, match=match) as error:
            Cell.from_counts(examples, num, den, seeds)
        assert error.value.hint


def test_identical_runs_are_refused():
    """Two seeds with equal outcomes would make the run variance too small; one deterministic run does not."""
    rng = np.random.default_rng(13)
    examples = Examples.regular(["en", "de"], 150)
    ones = np.ones((3, 300))
    runs = (rng.random((3, 300)) < 0.6).astype(float)
    again = runs[[0, 1, 0]]
    with pytest.raises(AnalysisError, match="seeds 4 and 9 gave identical outcomes on 300 examples"):
        Cell.from_counts(examples, again, ones, [4, 7, 9])
    with pytest.raises(AnalysisError, match="seed not applied"):
        Cell.from_statistics(examples, np.stack([again, ones], axis=2), lambda s: s[:, 0] / s[:, 1])
    assert Cell.from_counts(examples, runs[:1], ones[:1], [-1]).deterministic
    # equal scores of other examples, all right or all wrong, and small test sets say nothing of the seed
    turned = np.stack([runs[0], np.r_[runs[0, :150][::-1], runs[0, 150:]]])
    assert np.ptp(Cell.from_counts(examples, turned, ones[:2]).scores, axis=0).tolist() == [0, 0]
    assert not Cell.from_counts(examples, 0 * ones, ones).scores.any()
    assert Cell.from_counts(examples, ones, ones).scores.all()
    small = Examples.regular(["en"], 150)
    assert Cell.from_counts(small, again[:, :150], ones[:, :150]).scores.shape == (3, 1)


def test_refused_test_sets():
    ids = np.arange(6, dtype=np.int32)
    for languages, offsets, cluster, match in (
        (("a", "b"), [0, 6], ids, "do not match"),
        (("a", "b"), [0, 3, 6], ids[:-1], "do not match"),
        (("a", "b"), [0, 0, 6], ids, "empty languages"),
        (("a", "b"), [0, 4, 5], ids, "cut 6 examples"),
        (("a", "a"), [0, 3, 6], ids, "listed twice"),
    ):
        with pytest.raises(AnalysisError, match=match):
            Examples(languages, np.array(offsets), ids, cluster)
    for arguments in (("en", 3), (["en"], 0)):
        with pytest.raises(AnalysisError, match="no test set"):
            Examples.regular(*arguments)
    with pytest.raises(AnalysisError, match="no language `fr`") as error:
        Examples.regular(["en", "de"], 3).subset(["fr"])
    assert error.value.hint == "it has en, de"
