import math
from contextlib import contextmanager

import pytest
import torch

from bench import results
from bench.analysis.time_to_quality import studies
from bench.arms import quality as quality_arms
from bench.arms.quality import GanArm
from bench.execution.training import TUNING_SEED, _recipe, run_job
from bench.probes.timing import Elapsed
from bench.suite.jobs import QualityJob
from bench.suite.model import Suite
from osgan import SCHEMES
from osgan.errors import NonFiniteLossError
from tests.bench.rows import manifest

SUITE = {
    "name": "tiny",
    "schemes": ["two_stage", "one_stage"],
    "matrix": {
        "dataset": "digits",
        "architecture": "dcgan32+resolution=16+width=4+norm=group",
        "loss": "nonsaturating",
        "batch_size": 16,
    },
    "timing": None,
    "quality": {
        "images": 64,
        "evaluate_every": 32,
        "seeds": 2,
        "extractor": "efficientnet-lite0+size=64",
        "generated_images": 8,
        "real_images": 16,
        "ema_half_life": 32,
        "variants": {"plain": {}, "r1": {"regularizers": "r1=0.1", "optimizer": "optimistic_adam"}},
    },
    "samples": {"images": 4},
}
METRIC = "FD-EfficientNetLite0"


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # where features are cached
        yield


@pytest.fixture
def job(tmp_path):
    def make(seed=0, variant="plain", suite=None, settings=None, trial=None, waits_for=(), **quality):
        asked = Suite.model_validate(SUITE | (suite or {}) | {"quality": SUITE["quality"] | quality})
        case = asked.cases()[0]
        return QualityJob(asked, case, variant, seed, "cpu", None, tmp_path, settings or {}, trial, waits_for)

    return make


def _run(job):
    return run_job(job, lambda what, share: None)


def test_the_record_of_a_seed(job, tmp_path):
    record = _run(job())
    assert (
        record["name"] == "digits dcgan32+resolution=16+width=4+norm=group nonsaturating 16 fp32 eager / plain / seed 0"
    )
    assert (record["status"], record["reason"], record["variant"], record["seed"]) == ("ok", None, "plain", 0)
    assert record["metric"].startswith(METRIC)
    assert record["extractor"].startswith("efficientnet-lite0")
    assert len(record["weights_sha256"]) == 64
    assert (record["num_real"], record["num_fake"]) == (16, 8)
    assert list(record["arms"]) == ["two_stage", "one_stage"]
    for arm in record["arms"].values():
        assert (arm["status"], arm["reason"], arm["setting"]) == ("ok", None, None)
        assert "fallbacks" not in arm
        assert [point["images"] for point in arm["points"]] == [32, 64]
        assert 0 < arm["points"][0]["seconds"] < arm["points"][1]["seconds"]
        for point in arm["points"]:
            assert point["average"].keys() == point["raw"].keys() == {record["metric"]}
            assert point["average"][record["metric"]] > 0
        assert (tmp_path / arm["samples"]).is_file()


def test_evaluation_is_not_training_time(job, monkeypatch):
    class Timer:
        inside = False
        calls = 0

        def time(self, work):
            self.inside = True
            work()
            self.inside = False
            self.calls += 1
            return Elapsed(1000.0)

    timer = Timer()
    judged = []
    judge = GanArm.judge
    monkeypatch.setattr(quality_arms, "timer_for", lambda device: timer)
    monkeypatch.setattr(GanArm, "judge", lambda arm: judged.append(timer.inside) or judge(arm))
    record = _run(job())
    assert judged == [False] * 4
    assert timer.calls == 2 + 4  # each arm's warm-up, which counts for nothing, and its way to two evaluations
    for arm in record["arms"].values():
        assert [point["seconds"] for point in arm["points"]] == [1.0, 2.0]


@contextmanager
def _weights_at_the_start():
    found = {}

    def note(arm):
        networks = arm.trainer.networks
        tensors = [p.detach().flatten() for n in (networks.generator, networks.discriminator) for p in n.parameters()]
        found[arm.trainer.recipe.scheme] = torch.cat(tensors).clone(), arm.random_state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GanArm, "warm_up", note)
        patch.setattr(GanArm, "train_to", lambda arm, images: None)
        patch.setattr(GanArm, "judge", lambda arm: ({METRIC: 1.0}, {METRIC: 1.0}))
        yield found


def test_arms_share_their_start_and_seeds_do_not(job):
    starts = []
    for seed in range(2):
        with _weights_at_the_start() as found:
            _run(job(seed, suite={"schemes": list(SCHEMES)}))
        assert list(found) == list(SCHEMES)
        weights, state = found["one_stage"]
        for theirs, random_state in found.values():
            assert torch.equal(theirs, weights)
            assert torch.equal(random_state, state)
        starts.append(weights)
    assert not torch.equal(*starts)


def test_recipes_differ_in_the_scheme_and_in_nothing_else(job):
    asked = job(variant="r1", suite={"schemes": list(SCHEMES)})
    recipes = [_recipe(asked, scheme, 7, 64, {}).to_dict() for scheme in SCHEMES]
    assert [recipe.pop("scheme") for recipe in recipes] == list(SCHEMES)
    assert all(recipe == recipes[0] for recipe in recipes)
    assert (recipes[0]["loss"], recipes[0]["optimizer"]) == ("nonsaturating+r1=0.1", "optimistic_adam")


def test_schedules_and_a_variants_augmentation_are_every_arms(job):
    plan = {
        "schedule": "cosine+to=0.1",
        "penalty_schedule": "linear+to=0.5",
        "variants": {"plain": {}, "augmented": {"augmentation": "diffaugment"}},
    }
    own = {"scheme": "one_stage", "set": {"schedule": "linear"}}
    suite = {"matrix": SUITE["matrix"] | {"augmentation": "ada+p=0.5"}, "optimizer": {"generator_clip": 1}}
    for variant, augmentation in (("plain", "ada+p=0.5"), ("augmented", "diffaugment")):
        for scheme in ("two_stage", "one_stage"):
            recipe = _recipe(job(variant=variant, suite=suite, **plan), scheme, 7, 64, {})
            assert (recipe.schedule, recipe.penalty_schedule) == ("cosine+to=0.1", "linear+to=0.5")
            assert (recipe.augmentation, recipe.generator_clip) == (augmentation, 1)
    overridden = job(suite=suite | {"overrides": [own]}, **plan)
    assert [_recipe(overridden, scheme, 7, 64, {}).schedule for scheme in ("two_stage", "one_stage")] == [
        "cosine+to=0.1",
        "linear",
    ]


def test_warm_up_is_taken_back(job, monkeypatch):
    finals = []
    for warm_up in (GanArm.warm_up, lambda arm: None):
        monkeypatch.setattr(GanArm, "warm_up", warm_up)
        finals.append([arm["points"][-1]["average"] for arm in _run(job())["arms"].values()])
    assert finals[0] == finals[1]


def test_an_arm_that_breaks_ends_alone_and_keeps_its_points(job, monkeypatch):
    check = GanArm.check

    def broken(arm):
        if arm.trainer.recipe.scheme == "two_stage" and arm.images_seen > 32:
            raise NonFiniteLossError("generator_loss is nan at step 3")
        check(arm)

    monkeypatch.setattr(GanArm, "check", broken)
    record = _run(job())
    reason = "NonFiniteLossError: generator_loss is nan at step 3"
    assert (record["status"], record["reason"]) == ("failed", f"two_stage: {reason}")
    lost, whole = record["arms"]["two_stage"], record["arms"]["one_stage"]
    assert (lost["status"], lost["reason"], len(lost["points"]), lost["samples"]) == ("failed", reason, 1, None)
    assert (whole["status"], len(whole["points"])) == ("ok", 2)


def test_an_arm_that_cannot_be_built_leaves_the_others(job):
    matrix = SUITE["matrix"] | {"architecture": "dcgan32+resolution=16+width=4+norm=batch"}
    record = _run(job(suite={"matrix": matrix}))
    assert "mixes samples" in record["arms"]["one_stage"]["reason"]
    assert record["arms"]["one_stage"]["points"] == []
    assert len(record["arms"]["two_stage"]["points"]) == 2


def test_what_is_not_a_number_is_null_in_the_file_and_a_failure_in_the_report(job, monkeypatch, tmp_path):
    monkeypatch.setattr(GanArm, "judge", lambda arm: ({METRIC: math.nan}, {METRIC: math.inf}))
    row = results.row_of(_run(job()) | {"metric": METRIC})
    results.append(tmp_path, row)
    assert "NaN" not in (tmp_path / results.QUALITY).read_text()
    suite = {"quality": SUITE["quality"] | {"targets": []}}
    results.write_atomically(tmp_path / "run.json", manifest([row.case_name], suite=suite).model_dump_json())
    loaded = results.load(tmp_path)
    assert loaded.quality[0].arms["one_stage"].points[0].average == {METRIC: None}
    (study,) = studies(loaded)
    assert study.failures("one_stage") == (1, 0)


def test_the_search_keeps_the_lowest_and_records_every_trial(job, monkeypatch):
    values = {1e-4: 30.0, 2e-4: 20.0, 4e-4: math.nan, 8e-4: None}
    seen = []

    def judge(arm):
        recipe = arm.trainer.recipe
        seen.append((recipe.scheme, recipe.discriminator_lr, recipe.seed, arm.images_seen))
        value = values[recipe.discriminator_lr]
        if value is None:
            raise NonFiniteLossError("lost")
        return {arm._judge.names[0]: value}, {}

    monkeypatch.setattr(GanArm, "judge", judge)
    tune = {"images": 32, "grid": {"discriminator_lr": list(values)}}
    record = _run(job(seed=None, tune=tune))
    assert record["name"].endswith(" / plain / tune")
    assert seen == [(scheme, lr, TUNING_SEED, 32) for lr in values for scheme in ("two_stage", "one_stage")]
    for found in record["tuned"].values():
        assert [trial["setting"] for trial in found["trials"]] == [{"discriminator_lr": lr} for lr in values]
        assert [trial["value"] for trial in found["trials"]] == [30.0, 20.0, None, None]
        assert found["trials"][3]["reason"] == "NonFiniteLossError: lost"
        assert found["setting"] == {"discriminator_lr": 2e-4}


def test_a_trial_of_a_space_is_one_point_with_every_seed_of_the_search(job, monkeypatch):
    seen = []

    def judge(arm):
        recipe = arm.trainer.recipe
        seen.append((recipe.scheme, recipe.seed))
        assert recipe.betas[1] == 0.999  # not in the space
        return {arm._judge.names[0]: 10.0 * len(seen)}, {}

    monkeypatch.setattr(GanArm, "judge", judge)
    space = {"generator_lr": [1e-4, 1e-3], "beta1": [0.0, 0.5]}
    tune = {"images": 16, "space": space, "trials": 3, "seeds": 2}
    record = _run(job(seed=None, trial=1, tune=tune))
    assert record["name"].endswith(" / plain / trial 1")
    assert record["trial"] == 1
    assert seen == [(s, TUNING_SEED + n) for s in ("two_stage", "one_stage") for n in range(2)]
    settings = [found["trials"][0]["setting"] for found in record["tuned"].values()]
    assert settings[0] == settings[1]
    assert set(settings[0]) == {"generator_lr", "beta1"}
    (trial,) = record["tuned"]["two_stage"]["trials"]
    assert (trial["by_seed"], trial["value"]) == ([10.0, 20.0], 15.0)


def test_a_trial_one_of_whose_seeds_is_lost_has_no_value(job, monkeypatch):
    values = iter([10.0, math.nan, 20.0, 30.0])
    monkeypatch.setattr(GanArm, "judge", lambda arm: ({arm._judge.names[0]: next(values)}, {}))
    tune = {"images": 16, "space": {"beta1": [0.0, 0.5]}, "seeds": 2}
    record = _run(job(seed=None, trial=0, tune=tune))
    found = record["tuned"]["two_stage"]
    assert found["trials"][0]["by_seed"] == [10.0, None]
    assert (found["trials"][0]["value"], found["setting"]) == (None, None)
    assert record["tuned"]["one_stage"]["trials"][0]["value"] == 25.0


def test_betas_are_the_settings_else_the_variants_else_the_suites(job):
    variants = {"plain": {}, "own": {"betas": [0.1, 0.9]}}
    for variant, setting, expected in (
        ("plain", {}, (0.5, 0.999)),
        ("own", {}, (0.1, 0.9)),
        ("own", {"beta2": 0.95}, (0.1, 0.95)),
        ("plain", {"beta1": 0.3, "generator_lr": 1e-3}, (0.3, 0.999)),
    ):
        assert _recipe(job(variant=variant, variants=variants), "one_stage", 0, 64, setting).betas == expected


def test_a_variant_that_is_not_tuned_takes_no_setting(job):
    tune = {"images": 16, "grid": {"generator_lr": [1e-4]}}
    record = _run(job(variant="plain", variants={"plain": {"tuned": False}}, tune=tune))
    assert record["status"] == "ok"


def test_only_the_schemes_asked_for_are_trained_and_g_itself_is_judged_if_asked(job):
    record = _run(job(schemes=["one_stage"], judge_raw=False, standing_batches=2))
    assert list(record["arms"]) == ["one_stage"]
    points = record["arms"]["one_stage"]["points"]
    assert [point["raw"] for point in points] == [{}, {}]
    plain = _run(job(schemes=["one_stage"]))["arms"]["one_stage"]["points"]
    assert plain[-1]["average"] != points[-1]["average"]  # with the statistics of G's last batches


def test_a_search_that_found_nothing_says_so(job, monkeypatch):
    monkeypatch.setattr(GanArm, "judge", lambda arm: 1 / 0)
    record = _run(job(seed=None, tune={"images": 16, "grid": {"generator_lr": [1e-4]}}))
    assert record["tuned"]["one_stage"]["setting"] is None
    assert "ZeroDivisionError" in record["tuned"]["one_stage"]["trials"][0]["reason"]


def test_an_arm_whose_search_found_nothing_is_not_trained_untuned(job):
    tune = {"images": 16, "grid": {"generator_lr": [1e-4]}}
    record = _run(job(settings={"one_stage": {"generator_lr": 1e-4}}, tune=tune, waits_for=("its search",)))
    assert record["arms"]["one_stage"]["status"] == "ok"
    assert record["arms"]["two_stage"]["status"] == "failed"
    assert "its search found no setting" in record["arms"]["two_stage"]["reason"]
    assert record["arms"]["two_stage"]["points"] == []


def test_the_search_has_a_seed_of_its_own_whatever_the_suite_s(job, monkeypatch):
    seen = set()

    def judge(arm):
        seen.add(arm.trainer.recipe.seed)
        return {arm._judge.names[0]: 1.0}, {}

    monkeypatch.setattr(GanArm, "judge", judge)
    for seed in (0, TUNING_SEED):
        _run(job(seed=None, suite={"seed": seed}, tune={"images": 16, "grid": {"generator_lr": [1e-4]}}))
    assert seen == {TUNING_SEED, 2 * TUNING_SEED}


def test_what_the_search_chose_is_what_is_trained(job):
    record = _run(job(settings={"one_stage": {"discriminator_lr": 3e-4}}))
    assert record["arms"]["one_stage"]["setting"] == {"discriminator_lr": 3e-4}
    assert record["arms"]["two_stage"]["setting"] is None
    assert _recipe(job(), "one_stage", 0, 64, {"discriminator_lr": 3e-4}).discriminator_lr == 3e-4
