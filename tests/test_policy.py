"""What the policy of a pair comes to in each arm: values, addresses, what is refused and what is said."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from small_suite import write_small, xtremex

from xtremex.adapters.base import EncoderInfo
from xtremex.benchmark.caveats import caveats, differing, policy_words
from xtremex.benchmark.plan import Numerics, Plan, _Builder, make_plan
from xtremex.benchmark.policy import Terms, in_short, settle, terms_words
from xtremex.benchmark.schema import Arm, Pair, Policy
from xtremex.benchmark.suite import load_suite
from xtremex.errors import SuiteError
from xtremex.models.catalogue import Backbone, Facts
from xtremex.models.use import Use

CPU = Numerics("cpu", "fp32")
XLMR = Facts(
    max_length=512,
    max_length_trained=512,
    pair_encoding="joint",
    pooling="mean",
    pooled_unit_norm=False,
    text_prefix="",
    dropout=0.1,
)
CLIP = Facts(
    max_length=77,
    max_length_trained=77,
    pair_encoding="joint",
    pooling="eos",
    pooled_unit_norm=False,
    text_prefix="",
    dropout=0.0,
    causal=True,
)
E5 = replace(XLMR, text_prefix="query: ", pair_encoding="separate")
LAION = replace(XLMR, max_length_trained=77)
UNIT = replace(XLMR, pooled_unit_norm=True)


def _terms(policy: Policy, *facts: Facts, one_backbone: bool = False) -> Terms:
    names = [f"arm{i}" for i in range(len(facts))]
    bases = {
        name: Backbone(
            name="same" if one_backbone else f"b{i}", adapter="huggingface", checkpoint="x", facts=f
        )
        for i, (name, f) in enumerate(zip(names, facts, strict=True))
    }
    pair = Pair("p", {name: Arm(bases[name].name) for name in names}, policy=policy)
    return settle(pair, {b.name: b for b in bases.values()}, Path("s.toml"))


@pytest.mark.parametrize(
    ("policy", "facts", "expected"),
    [
        (Policy(), (XLMR, XLMR), [{}, {}]),
        (Policy(), (XLMR,), [{}]),
        # what both accept, not what they were trained on
        (Policy(), (XLMR, LAION), [{}, {}]),
        (Policy(max_length="trained"), (XLMR, LAION), [{"max_length": 77}, {"max_length": 77}]),
        (
            Policy(),
            (XLMR, CLIP),
            [{"max_length": 77, "dropout": 0.0}, {"pooling": "mean", "dropout": 0.0}],
        ),
        (
            Policy(pooling="native", dropout="native", max_length=64),
            (XLMR, CLIP),
            [{"max_length": 64}, {"max_length": 64}],
        ),
        (Policy(), (XLMR, E5), [{"pair_encoding": "separate"}, {}]),
        (Policy(prefix="none"), (E5, E5), [{"text_prefix": ""}, {"text_prefix": ""}]),
        (Policy(prefix="none"), (XLMR, XLMR), [{}, {}]),
        (Policy(pooling="mean"), (XLMR, XLMR), [{}, {}]),
        # the headline rate says nothing of attention and activations: a number is put everywhere
        (Policy(dropout=0.1), (XLMR, XLMR), [{"dropout": 0.1}, {"dropout": 0.1}]),
        (Policy(), (XLMR, replace(XLMR, dropout=0.2)), [{"dropout": 0.1}, {"dropout": 0.1}]),
        # heads read vectors of unit length times 10: of one kind, and not alike
        (Policy(), (XLMR, UNIT), [{}, {"pooling": "mean"}]),
        (Policy(pooling="mean"), (XLMR, UNIT), [{}, {"pooling": "mean"}]),
        (Policy(pooling="mean"), (XLMR, replace(XLMR, pooled_unit_norm=None)), [{}, {"pooling": "mean"}]),
        (Policy(), (UNIT, UNIT), [{}, {}]),
        (Policy(), (XLMR, replace(UNIT, pooling="cls")), [{}, {"pooling": "mean"}]),
        (Policy(pooling="cls"), (XLMR, XLMR), [{"pooling": "cls"}, {"pooling": "cls"}]),
        # an explicit wish needs no facts
        (Policy(max_length=32, pair_encoding="separate", dropout=0.2), (Facts(), Facts()),
         [{"max_length": 32, "pair_encoding": "separate", "dropout": 0.2}] * 2),
    ],
)  # fmt: skip
def test_what_each_arm_is_used_with(
    policy: Policy, facts: tuple[Facts, ...], expected: list[dict[str, Any]]
) -> None:
    uses = list(_terms(policy, *facts).uses.values())
    assert uses == [Use(**changes) for changes in expected]


def test_an_unknown_fact_leaves_its_aspect_alone_in_all_arms() -> None:
    terms = _terms(Policy(), XLMR, replace(CLIP, dropout=None, pooling=None))
    assert terms.unsettled == {"pooling": ("b1",), "dropout": ("b1",)}
    assert list(terms.uses.values()) == [Use(max_length=77), Use()]


def test_equal_poolings_need_the_length_of_the_vectors_and_unequal_ones_do_not() -> None:
    silent = replace(XLMR, pooled_unit_norm=None)
    assert _terms(Policy(), XLMR, silent).unsettled == {"pooling": ("b1",)}
    unequal = _terms(Policy(), XLMR, replace(silent, pooling="cls"))
    assert not unequal.unsettled and unequal.values["pooling"] == "mean"


def test_arms_of_one_backbone_share_everything_unless_the_suite_asks() -> None:
    terms = _terms(Policy(), Facts(), Facts(), one_backbone=True)
    assert not terms and not terms.values and not terms.unsettled
    asked = _terms(Policy(max_length="trained"), LAION, LAION, one_backbone=True)
    assert set(asked.uses.values()) == {Use(max_length=77)}
    assert _terms(Policy(max_length="trained"), Facts(), one_backbone=True).unsettled


@pytest.mark.parametrize(
    ("policy", "facts", "said"),
    [
        (Policy(max_length=512), CLIP, "max_length = 512.*`arm1` .*`b1`.* accepts 77 tokens"),
        (Policy(pair_encoding="joint"), E5, 'pair_encoding = "joint".*reads the two texts of a pair apart'),
        (Policy(pooling="cls"), CLIP, 'pooling = "cls".*is causal'),
        (Policy(dropout=0.1), CLIP, r"dropout = 0\.1.*`arm1`.*was trained without dropout"),
    ],
)
def test_what_an_arm_is_known_to_be_unable_to_do_is_refused(policy: Policy, facts: Facts, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        _terms(policy, XLMR, facts)


def test_words_for_a_signature_and_for_a_terminal() -> None:
    terms = _terms(Policy(), XLMR, replace(CLIP, dropout=None))
    assert in_short(terms) == "len77,mean"
    words = terms_words(terms)
    assert (
        "at most 77 tokens" in words and "sentence vector mean" in words and "pairs of texts joint" in words
    )
    assert "not settled: dropout" in words and "xtremex check b1" in words
    assert "sentence vector and dropout as each was trained" in terms_words(_terms(Policy(), XLMR, XLMR))
    assert "dropout 0" in terms_words(_terms(Policy(), XLMR, CLIP))
    assert in_short(_terms(Policy(), XLMR, XLMR)) == ""


# ------------------------------------------------------------------ in a suite


PAIRS = {
    'text = { backbone = "muse", grounding = "text" }': 'text = { backbone = "muse" }',
    'vision = { backbone = "muse", grounding = "vision" }': 'vision = { backbone = "other" }',
    '"mini-retrieval", "mini-pictures"': '"mini-retrieval"',
}


def _plan(tmp_path: Path, policy: str = "") -> Plan:
    """Two arms: the catalogue's mUSE, and another of which nothing is known."""
    own = f'[backbones.other]\nadapter = "huggingface"\ncheckpoint = "{tmp_path}"\n'
    replaced = PAIRS | {"[conditions]": f"{policy}\n[conditions]"}
    return make_plan(load_suite(str(write_small(tmp_path, replace=replaced, append=own))), CPU)


def _work(plan: Plan, backbone: str) -> dict[str, Use]:
    return {j.key: j.use for j in plan.jobs.values() if j.backbone and j.backbone.name == backbone}


def test_an_empty_use_keeps_the_address_and_another_use_is_another_address(tmp_path: Path) -> None:
    alone = {
        **PAIRS,
        'vision = { backbone = "muse", grounding = "vision" }': 'vision = { backbone = "muse" }',
    }
    before = make_plan(load_suite(str(write_small(tmp_path, replace=alone))), CPU)
    unknown = _work(_plan(tmp_path), "muse")
    assert set(unknown) == set(_work(before, "muse")) and not any(unknown.values())
    shorter = _work(_plan(tmp_path, "[pairs.policy]\nmax_length = 16"), "muse")
    assert not set(shorter) & set(unknown)
    assert set(shorter.values()) == {Use(max_length=16)}  # intermediate and target stage, and zero-shot
    again = _work(_plan(tmp_path, "[pairs.policy]\nmax_length = 32"), "muse")
    assert not set(again) & (set(shorter) | set(unknown))


def test_an_empty_use_is_no_part_of_an_address(tmp_path: Path) -> None:
    """So that all that was stored before there were policies is still found."""
    suite = load_suite(str(write_small(tmp_path)))
    builder, arm, tasks = _Builder(suite, CPU), suite.pairs[0].arms["text"], suite.targets[:1]
    lineage = builder._lineage(arm, Use(), None, tasks)
    parts = [builder._numerics, builder.backbone_digest("muse"), "", [builder.task_digest(tasks[0])]]
    assert list(lineage) == parts
    assert list(builder._lineage(arm, Use(dropout=0.0), None, tasks))[: len(parts)] == parts


def test_reading_texts_and_schedules_do_not_depend_on_the_use(tmp_path: Path) -> None:
    plain, short = _plan(tmp_path), _plan(tmp_path, "[pairs.policy]\nmax_length = 16\ndropout = 0")
    keys = [{k for k, j in plan.jobs.items() if j.type == "describe"} for plan in (plain, short)]
    assert keys[0] == keys[1] and set(plain.schedules) == set(short.schedules)


@pytest.mark.parametrize(
    ("policy", "said", "hint"),
    [
        (
            'max_length = "acepted"',
            r"policy\.max_length: expected `accepted`, `trained` or int",
            "`accepted`",
        ),
        ("max_length = 3", "at least 8 tokens", "special tokens"),
        ("max_length = 51.5", r"expected `accepted`, `trained` or int, found `51\.5`", "accepted"),
        ("dropout = 1.0", r"policy\.dropout = 1", "below 1"),
        ("dropout = true", "expected `shared`, `native` or float, found `True`", "native"),
        ('pooling = "max"', "unknown value `max`", "mean"),
        ("maxlength = 3", "unknown key `maxlength`", "`max_length`"),
    ],
)
def test_a_policy_that_says_something_wrong_is_refused(
    tmp_path: Path, policy: str, said: str, hint: str
) -> None:
    with pytest.raises(SuiteError, match=said) as raised:
        _plan(tmp_path, f"[pairs.policy]\n{policy}")
    assert hint in raised.value.hint and str(tmp_path) in raised.value.message


def test_messages_name_places_in_one_style(tmp_path: Path) -> None:
    """``file: pairs.NAME.key``, whether a value's type or its meaning is wrong."""
    places = []
    for policy in ('max_length = "acepted"', "max_length = 3"):
        with pytest.raises(SuiteError) as raised:
            _plan(tmp_path, f"[pairs.policy]\n{policy}")
        places.append(raised.value.message.partition(" =")[0].partition(": expected")[0])
    assert set(places) == {f"{tmp_path / 'small.toml'}: pairs.muse.policy.max_length"}


def test_dropout_for_an_encoder_that_has_none_is_refused_by_the_plan(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"pairs\.muse\.policy\.dropout = 0\.1.*`muse`.*without dropout"):
        _plan(tmp_path, "[pairs.policy]\ndropout = 0.1")


def test_plan_prints_the_policy_of_pairs_with_different_backbones(tmp_path: Path) -> None:
    _plan(tmp_path, '[pairs.policy]\nmax_length = 48\npooling = "mean"')
    done = xtremex("plan", tmp_path / "small.toml", "--out", tmp_path / "runs", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    (line,) = (x for x in done.stdout.splitlines() if x.startswith("pair muse"))
    assert (
        "at most 48 tokens, sentence vector mean" in line and "not settled: pairs of texts, dropout" in line
    )
    write_small(tmp_path)
    plain = xtremex("plan", tmp_path / "small.toml", "--out", tmp_path / "runs", "--device", "cpu")
    assert "pair muse" not in plain.stdout  # its arms have one backbone


# ------------------------------------------------------------------ what is said of it


INFO = EncoderInfo("xlm-roberta", "mlm", "unigram:1", 32, 2, 512, 512, dropout=0.1)


KINDS = {"tagging", "spans"}
DEFAULT = Policy()


def _said(
    *infos: EncoderInfo, longest: int = 128, policy: Policy = DEFAULT, kinds: set[str] = KINDS
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Caveats and differences of a pair whose catalogue states all facts truly."""
    facts = [Facts(**{key: getattr(info, key) for key in vars(Facts())}) for info in infos]
    terms = _terms(policy, *facts)
    pair = Pair("p", {name: Arm("x") for name in terms.uses}, policy=policy)
    known = {name: asdict(info) for name, info in zip(terms.uses, infos, strict=True)}
    found = caveats(pair, terms, known, longest, kinds)
    return {(c["arm"], c["aspect"]): c["text"] for c in found}, differing(known, terms)


def test_twins_have_no_caveat() -> None:
    assert _said(INFO, INFO) == ({}, [])


@pytest.mark.parametrize(
    ("change", "aspect", "text"),
    [
        ({"causal": True}, "causal", "sees nothing to its right"),
        ({"attends_padding": True, "pad_to": 64}, "attends_padding", "padded to 64 tokens"),
        (
            {"max_length_trained": 77},
            "max_length_trained",
            "trained on inputs of up to 77 tokens, used up to 128",
        ),
        ({"language_code": "eng_Latn"}, "language_code", "`eng_Latn` before every text"),
        ({"cleaning": "canonicalize"}, "cleaning", "(canonicalize)"),
    ],
)
def test_a_trait_of_one_arm_is_its_caveat(change: dict[str, Any], aspect: str, text: str) -> None:
    found, _ = _said(INFO, replace(INFO, **change))
    assert text in found["arm1", aspect] and ("arm0", aspect) not in found


def test_what_the_policy_settles_is_no_difference_and_what_it_cannot_is() -> None:
    other = replace(
        INFO, max_length=64, max_length_trained=64, dropout=0.0, pooling="eos", text_prefix="query: "
    )
    found, odd = _said(INFO, replace(other, tokenizer_id="bpe:2"))
    assert odd == ["tokenizer"]
    assert ("", "tokenizer_id") in found and 'arm1 "query: "' in found["", "text_prefix"]
    assert ("", "dropout") not in found and ("", "pooling") not in found
    # both arms read less than a task asks for
    assert {arm for arm, aspect in found if aspect == "max_length"} == {"arm0", "arm1"}


def test_what_the_policy_changes_in_an_arm_is_its_caveat() -> None:
    other = replace(INFO, max_length=64, max_length_trained=64, dropout=0.0, pair_encoding="separate")
    found, _ = _said(INFO, replace(other, pooled_unit_norm=True))
    assert found["arm0", "policy"].endswith(
        "longest input 64 tokens (accepts 512); pairs of texts separate (its own: joint); dropout 0 (its own: 0.1)"
    )
    assert found["arm1", "policy"].endswith(
        "policy: sentence vector mean (its own: mean, of unit length times 10)"
    )
    # a limit beyond every task changes nothing
    assert not _said(INFO, INFO, policy=Policy(max_length=256))[0]


def test_a_prefix_that_the_policy_takes_away_is_told() -> None:
    e5 = replace(INFO, text_prefix="query: ")
    found, _ = _said(e5, e5, policy=Policy(prefix="none"))
    assert {arm for arm, aspect in found if aspect == "policy"} == {"arm0", "arm1"}
    assert 'text prefix none (its own: "query: ")' in found["arm0", "policy"]


@pytest.mark.parametrize(
    ("kinds", "causal", "cut"),
    [
        ({"classification"}, "sees nothing to its right", "longer texts are cut"),
        ({"tagging"}, "sees nothing to its right, which costs tagging, whose heads read single tokens", "are cut"),
        ({"spans"}, "costs span reading, whose", "are cut, contexts of questions are read in more windows"),
        ({"tagging", "spans"}, "costs tagging and span reading, whose", "in more windows"),
    ],
)  # fmt: skip
def test_a_caveat_tells_only_of_tasks_that_the_suite_has(kinds: set[str], causal: str, cut: str) -> None:
    found, _ = _said(INFO, replace(INFO, causal=True), longest=1024, kinds=kinds)
    assert found["arm1", "causal"].endswith(causal) or f"{causal} heads" in found["arm1", "causal"]
    assert found["arm1", "max_length"].endswith(cut)


def test_heads_that_read_vectors_of_unlike_scale_are_told() -> None:
    """Native vectors of unit length are multiplied by 10 before a head; the mean that a policy sets is not."""
    unit = replace(INFO, pooled_unit_norm=True)
    found, odd = _said(INFO, unit, policy=Policy(pooling="native"))
    assert "arm0 mean, arm1 mean, of unit length times 10" in found["", "pooling"]
    assert odd == ["sentence vector"]
    for settled in (unit, replace(unit, pooling="cls")):
        found, odd = _said(INFO, settled)
        assert ("", "pooling") not in found and not odd


def test_differences_are_told_in_words() -> None:
    assert _said(INFO, replace(INFO, hidden_size=64, causal=True))[1] == ["hidden size", "causal masking"]


def test_an_unsettled_aspect_is_told_where_the_arms_do_differ_in_it() -> None:
    terms = _terms(Policy(), XLMR, Facts())
    pair = Pair("p", {name: Arm("x") for name in terms.uses})
    infos = {"arm0": asdict(INFO), "arm1": asdict(replace(INFO, dropout=0.0))}
    (only,) = caveats(pair, terms, infos, 128, KINDS)
    assert only["aspect"] == "dropout" and only["arm"] == ""
    assert (
        "arm0 0.1 (as trained), arm1 0 (as trained);" in only["text"]
        and "`b1` (`xtremex check b1` prints it)" in only["text"]
    )


def test_the_policy_in_words() -> None:
    terms = _terms(Policy(), XLMR, CLIP)
    pair = Pair("p", {name: Arm("x") for name in terms.uses})
    clip = replace(INFO, max_length=77, dropout=0.0, pooling="eos", causal=True)
    lines = policy_words(pair, terms, {"arm0": asdict(INFO), "arm1": asdict(clip)})
    told = {line["aspect"]: (line["asked"], *line["arms"].values()) for line in lines}
    assert told == {
        "longest input": ("accepted", "77 tokens (accepts 512)", "77 tokens"),
        "pairs of texts": ("shared", "joint", "joint"),
        "sentence vector": ("shared", "mean", "mean (its own: eos)"),
        "dropout": ("shared", "0 (its own: 0.1)", "0"),
        "text prefix": ("native", "none", "none"),
    }
    twins = policy_words(pair, _terms(Policy(), XLMR, XLMR), dict.fromkeys(("arm0", "arm1"), asdict(INFO)))
    assert [line["arms"]["arm0"] for line in twins if line["aspect"] == "dropout"] == ["0.1 (as trained)"]
    assert not re.search(r"None|Use\(", str(lines))
