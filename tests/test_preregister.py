"""A design frozen before scores are read: what it holds, what it refuses, and what departs from it."""

import copy
import hashlib
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from demo_outcomes import SMALL, TARGETS, write_demo
from small_suite import write_small, xtremex

from xtremex.analysis.effects import analyse, effects
from xtremex.analysis.headline import is_current
from xtremex.analysis.outcomes import read_record, read_suite
from xtremex.analysis.preregister import FILE, check, freeze, read_registration
from xtremex.analysis.report import json_text
from xtremex.errors import AnalysisError, DataError

SMALLER = SMALL | {"targets": (TARGETS[0], TARGETS[2], TARGETS[6]), "examples": 40}
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo"), **SMALLER, pairs=("a", "b"))


@pytest.fixture(scope="module")
def record(folder):
    return read_record(folder)


@pytest.fixture
def registered(folder, tmp_path):
    return read_registration(freeze(read_suite(folder), tmp_path / "before", now=NOON).parent)


def test_what_is_frozen(folder, tmp_path):
    path = freeze(read_suite(folder), tmp_path, now=NOON)
    content = json.loads(path.read_text())
    assert path == tmp_path / FILE and content["registered"] == "2026-01-02T12:00:00+00:00"
    assert content["late"] is False and content["outcomes_seen"] == []
    design = content["design"]
    assert design["analysis"] == {
        "alpha": 0.05,
        "margin_task": 1.0,
        "margin_aggregate": 0.5,
        "tier": "T2",
        "df": "welch",
        "primary": "",
    }
    assert design["seeds"] == [0, 1, 2] and set(design["pairs"]) == {"a", "b"}
    assert design["targets"]["mini-entities"]["languages"] == ["de", "en", "fa"]
    claims = {(h["pair"], h["contrast"], h["condition"], h["family"]) for h in content["hypotheses"]}
    assert claims == {
        (pair, contrast, condition, family)
        for pair in ("a", "b")
        for contrast, condition, family in (
            ("vision-text", "*", "grand"),
            ("vision-text", "nli", "conditions"),
            ("vision-text", "tags", "conditions"),
            ("scrambled-text", "*", "grand"),
            ("vision-scrambled", "*", "grand"),
        )
    }
    # the digest is that of everything else in the file, as anybody can check
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert content["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_registering_twice_changes_nothing_and_another_design_is_refused(folder, tmp_path):
    suite = read_suite(folder)
    path = freeze(suite, tmp_path, now=NOON)
    before = path.read_bytes()
    assert freeze(suite, tmp_path) == path and path.read_bytes() == before
    (tmp_path / "suite.json").write_text("{}")  # the run has come between
    assert freeze(suite, tmp_path) == path and path.read_bytes() == before
    with pytest.raises(AnalysisError, match="registers another design"):
        freeze(suite | {"seeds": [0, 1]}, tmp_path, late=True)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_outcomes_come_after(folder, tmp_path):
    suite = read_suite(folder)
    shutil.copytree(folder, tmp_path / "x")
    with pytest.raises(AnalysisError, match="outcomes exist already") as error:
        freeze(suite, tmp_path / "x")
    assert "--late" in error.value.hint and not (tmp_path / "x" / FILE).exists()
    with pytest.raises(AnalysisError, match="3 scored jobs"):
        freeze(suite, tmp_path / "y", scored=3)
    content = json.loads(freeze(suite, tmp_path / "x", late=True, now=NOON).read_text())
    assert content["late"] and any("parquet" in seen for seen in content["outcomes_seen"])
    assert not json.loads(freeze(suite, tmp_path / "z", late=True).read_text())["late"]  # in time after all
    results = analyse(tmp_path / "x")
    assert {e.status for e in results.estimates} == {"exploratory"}
    assert "registered on 2026-01-02T12:00:00+00:00, after outcomes existed" in results.warnings[0]
    assert results.signature.endswith(f"|registered-late:{content['sha256'][:12]}")


def test_a_file_that_was_altered_is_refused(folder, tmp_path):
    path = freeze(read_suite(folder), tmp_path)
    text = path.read_text()
    path.write_text(text.replace('"margin_task": 1.0', '"margin_task": 2.0'))
    with pytest.raises(AnalysisError, match="was altered"):
        read_registration(tmp_path)
    for broken in ("{", "[]", json.dumps({"format": 1}), '"text"'):
        path.write_text(broken)
        with pytest.raises(DataError, match="no registration"):
            read_registration(tmp_path)
    path.unlink()
    assert read_registration(tmp_path) is None


def test_registered_effects_are_confirmatory(record, registered):
    results = effects(record, registered)
    status = {(e.contrast, e.family, e.status) for e in (*results.estimates, *results.further)}
    assert status == {
        ("vision-text", "grand", "confirmatory"),
        ("vision-text", "conditions", "confirmatory"),
        ("vision-text", "targets", "exploratory"),
        ("vision-text", "map", "exploratory"),
        ("scrambled-text", "grand", "confirmatory"),
        ("scrambled-text", "conditions", "exploratory"),
        ("scrambled-text", "targets", "exploratory"),
        ("scrambled-text", "map", "exploratory"),
        ("vision-scrambled", "grand", "confirmatory"),
        ("vision-scrambled", "conditions", "exploratory"),
    }
    assert results.registration.deviations == () and results.registration.hypotheses == 10
    assert results.signature.endswith(f"|registered:{registered.sha256[:12]}")
    assert not any("registered" in w for w in results.warnings)
    said = f"; preregistered (2026-01-02, SHA-256 {registered.sha256[:8]})."
    assert all(answer.sentence.endswith(said) for answer in results.answers)


def test_without_a_registration_nothing_is_either(record):
    results = effects(record)
    assert {e.status for e in (*results.estimates, *results.further)} == {"unregistered"}
    assert results.registration is None and "registered" not in results.signature
    assert results.warnings[0].startswith("No design was registered") and results.warnings[0].endswith(
        "exploratory."
    )
    assert not any("registered" in answer.sentence for answer in results.answers)


def confirmed(record, registered, **changes):
    """(pairs with confirmatory effects, deviations) after a change of the suite."""
    results = effects(replace(record, suite=record.suite | changes), registered)
    pairs = {e.pair for e in results.estimates if e.status == "confirmatory"}
    said = [w for w in results.warnings if w.startswith("Deviation")]
    assert len(said) == len(results.registration.deviations)
    return pairs, results.registration.deviations


def test_deviations_are_named_and_cost_the_confirmation(record, registered):
    suite = record.suite
    assert confirmed(record, registered) == ({"a", "b"}, ())
    wider = suite["analysis"] | {"margin_aggregate": 2.0}
    pairs, said = confirmed(record, registered, analysis=wider)
    changed = effects(replace(record, suite=suite | {"analysis": wider}), registered)
    assert changed.registration.changed == ("*",)
    # the signature must not vouch for what was not kept
    assert changed.signature.endswith(f"|registered-changed:{registered.sha256[:12]}")
    assert pairs == set() and said == ("analysis.margin_aggregate: registered `0.5`, analysed `2.0`",)
    pairs, said = confirmed(record, registered, seeds=[0, 1])
    assert pairs == set() and said[0] == "seeds: registered 0, 1, 2, analysed 0, 1"
    pairs, said = confirmed(record, registered, suite=suite["suite"] | {"digest": "other"})
    assert pairs == {"a", "b"} and said[0].startswith("suite.digest: registered `ddd")
    first = suite["pairs"][0] | {"arms": suite["pairs"][0]["arms"] | {"vision": "other"}}
    pairs, said = confirmed(record, registered, pairs=[first, suite["pairs"][1]])
    assert pairs == {"b"} and said == (
        "pairs.a.arms.vision: registered `a@grounded-vision`, analysed `other`",
    )
    pairs, said = confirmed(record, registered, targets=suite["targets"][:1])
    assert pairs == set() and "targets.mini-entities: registered an entry, analysed nothing" in said


def test_a_pair_left_out_lowers_no_p_value_in_silence(record, registered):
    """Holm runs over the pairs: with one of two left out, the other's adjusted p would be its own."""
    suite = record.suite
    for pairs in (suite["pairs"][:1], [*suite["pairs"], suite["pairs"][0] | {"name": "c"}]):
        names, said = confirmed(record, registered, pairs=pairs)
        assert names == set() and said[0].startswith("pairs.")
    further = {"name": "text-vision", "plus": "text", "minus": "vision", "role": "primary"}
    pair = suite["pairs"][0]
    pairs = [pair | {"contrasts": [*pair["contrasts"], further]}, suite["pairs"][1]]
    assert confirmed(record, registered, pairs=pairs)[0] == set()
    # nor with its outcomes lost
    cells = {place: grid for place, grid in record.cells.items() if place[0] == "a"}
    results = effects(replace(record, cells=cells), registered)
    assert {e.status for e in results.estimates} == {"exploratory"}
    assert "primary family: no cell to test b / vision-text with" in results.registration.deviations
    (grand,) = [e for e in results.estimates if (e.family, e.role) == ("grand", "primary")]
    assert grand.family_size == 1


def test_another_set_up_is_another_experiment(record, registered):
    """Names, seeds and stages as registered, but other encoders or data behind them."""
    suite = record.suite["suite"]
    pairs, said = confirmed(record, registered, suite=suite | {"setup": "other"})
    assert pairs == set() and said == (
        "suite.setup: the suite file says otherwise of encoders, data or training",
    )


def test_another_revision_is_another_experiment(record, registered):
    name = "a@grounded-vision"
    backbones = record.suite["backbones"]

    def at(revision):
        return backbones | {name: backbones[name] | {"revision": revision}}

    pairs, said = confirmed(record, registered, backbones=at("0.3.0"))
    assert pairs == set() and said == (f"revisions.backbones.{name}: registered `0.2.1`, analysed `0.3.0`",)
    # a package's version, or a branch, that `xtremex fetch` settled since: said, as a branch may have moved
    pairs, said = confirmed(record, registered, backbones=at("a" * 40))
    assert pairs == {"a", "b"} and len(said) == 1
    design = copy.deepcopy(registered.design)
    design["revisions"]["backbones"][name] = "b" * 40
    pairs, said = confirmed(record, replace(registered, design=design), backbones=at("a" * 40))
    assert pairs == set() and len(said) == 1
    targets = [t | {"revision": "other"} for t in record.suite["targets"]]
    pairs, said = confirmed(record, registered, targets=targets)
    assert pairs == set() and len(said) == len(targets)
    assert "revisions.data.mini-inference: registered `None`, analysed `other`" in said


def test_a_registration_that_came_from_elsewhere_after_the_run_is_late(record, registered):
    assert registered.registered == "2026-01-02T12:00:00+00:00"
    for scored, late in (("2026-01-02T11:59:59+00:00", True), ("2026-01-02T12:00:01+00:00", False)):
        results = effects(replace(record, suite=record.suite | {"scored": scored}), registered)
        assert results.registration.late is late
        assert {e.status for e in results.estimates} - {"exploratory"} == (
            set() if late else {"confirmatory"}
        )
        assert (
            any(
                f"time: registered {registered.registered}, first test score {scored}" in w
                for w in results.warnings
            )
            is late
        )
        assert ("|registered-late:" in results.signature) is late
        # the sentence travels without its page
        assert all(("; exploratory, as it was not registered" in a.sentence) is late for a in results.answers)


def test_times_without_a_zone_are_utc_and_other_words_no_times(record, registered):
    for scored, late in (("2026-01-02T11:59:59", True), ("2026-01-02T13:30:00+02:00", True), (None, False)):
        suite = record.suite | {"scored": scored}
        assert effects(replace(record, suite=suite), registered).registration.late is late
    with pytest.raises(DataError, match="'yesterday' is no time"):
        effects(replace(record, suite=record.suite | {"scored": "yesterday"}), registered)


def test_missing_outcomes_are_a_deviation(record, registered):
    cells = {place: dict(grid) for place, grid in record.cells.items()}
    del cells["a", "mini-entities"]["vision", "nli"]
    results = effects(replace(record, cells=cells), registered)
    # seven trained cells a target and pair, of three runs, and retention of two arms, one of its cells with one
    assert results.registration.deviations[0].startswith("runs: 3 of ")
    assert {e.pair for e in results.estimates if e.status == "confirmatory"} == {"b"}


def test_one_seed_where_two_were_registered_to_be(record, registered):
    found = check(registered, record.suite, "T0")
    assert found.registration.deviations == ("tier: registered T2, analysed T0 (a cell has one seed)",)
    assert found.changed == {"*"}


def test_a_report_is_out_of_date_when_a_registration_comes(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "x")
    (copy / "report.html").write_text("")
    (copy / "report.json").write_text(json_text(analyse(copy)))
    assert is_current(copy)
    freeze(read_suite(copy), copy, late=True)
    assert not is_current(copy)
    (copy / "report.json").write_text(json_text(analyse(copy)))
    assert is_current(copy)


def test_a_suite_without_a_contrast_has_nothing_to_register(tmp_path):
    folder = write_demo(tmp_path / "x", **SMALLER, arms=("text",))
    with pytest.raises(AnalysisError, match="compares no arms") as error:
        freeze(read_suite(folder), tmp_path / "y")
    assert "contrast" in error.value.hint and not (tmp_path / "y").exists()


def test_the_command(tmp_path):
    """Before a run, of a suite whose plan alone is known; it must equal what the run records later."""
    suite = write_small(tmp_path, append='[analysis]\nprimary = "inference"\nmargin_task = 2.0\n')
    done = xtremex("preregister", suite, "--out", "runs", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "runs" / "small" / FILE
    assert done.stdout.strip() == "runs/small/preregistration.json"
    content = json.loads(path.read_text())
    assert content["design"]["analysis"]["primary"] == "inference"
    assert [(h["condition"], h["family"]) for h in content["hypotheses"]] == [("inference", "primary")]
    assert content["design"]["stages"]["target"]["steps"] == 3
    (path.parent / "report.json").write_text("{}")
    path.unlink()
    refused = xtremex("preregister", suite, "--out", "runs", "--device", "cpu", cwd=tmp_path)
    assert refused.returncode == 2 and "report.json" in refused.stderr and "--late" in refused.stderr
    assert not path.exists()
