from dataclasses import fields
from pathlib import Path

import pytest

from bench import suite as suites
from bench.arms.scheme import recipe_of
from bench.suite.plans import Adam
from osgan.errors import InputError
from osgan.training.recipe import Recipe

GOOD = """
name: tiny
schemes: [two_stage, one_stage]
matrix: {dataset: digits, architecture: dcgan32+width=8, loss: [hinge, lsgan], batch_size: [4, 8]}
"""


@pytest.fixture
def load(tmp_path):
    def read(text: str):
        path = tmp_path / "tiny.yaml"
        path.write_text(text)
        return suites.load(str(path))

    return read


def test_the_matrix_is_a_product_in_the_order_written(load):
    assert [(case.loss, case.batch_size) for case in load(GOOD).cases()] == [
        ("hinge", 4),
        ("hinge", 8),
        ("lsgan", 4),
        ("lsgan", 8),
    ]


def test_exclude_takes_out_what_matches_on_every_axis(load):
    found = load(GOOD + "exclude: [{loss: hinge, batch_size: 8}, {batch_size: [4], loss: lsgan}]").cases()
    assert [(case.loss, case.batch_size) for case in found] == [("hinge", 4), ("lsgan", 8)]


def test_numbers_may_be_strings(load):
    # PyYAML reads 2e-4 as a string
    assert load(GOOD + "optimizer: {generator_lr: 2e-4}").optimizer.generator_lr == 2e-4
    assert load(GOOD + "timing: {budget_s: '12'}").timing.budget_s == 12.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "optimiser: {}", "optimiser: unknown key 'optimiser'. Did you mean 'optimizer'?"),
        (GOOD + "timing: {budget: 3}", "timing.budget: unknown key 'budget'. Did you mean 'budget_s'?"),
        (GOOD + "timing: {budget_s: -3}", "timing.budget_s: Input should be greater than 0, got -3"),
        (GOOD + "timing: {budget_s: soon}", "timing.budget_s: Input should be a valid number"),
        (GOOD + "optimizer: {generator_lr: nan}", "optimizer.generator_lr: Input should be a finite number"),
        (GOOD.replace("hinge", "hing"), "unknown loss 'hing'. Did you mean 'hinge'?"),
        (GOOD.replace("two_stage", "twostage"), "unknown scheme 'twostage'. Did you mean 'two_stage'?"),
        (GOOD.replace("dcgan32", "dcgan33"), "unknown architecture 'dcgan33'. Did you mean"),
        (GOOD.replace("width=8", "widht=8"), "unknown option 'widht'. Did you mean 'width'?"),
        (GOOD.replace("width=8", "width=-8"), "width must be a whole number above 0, got -8"),
        (GOOD.replace("hinge", "hinge+r3=1"), "unknown regularizer 'r3'"),
        (GOOD.replace("[4, 8]", "0"), "Input should be greater than 1, got 0"),
        (GOOD.replace("[4, 8]", "[]"), "batch_size"),
        (GOOD + "exclude: [{dataset: digits}]", "no case is left"),
        (GOOD.replace("name: tiny", "name: ../tiny"), "name"),
        ("- just\n- a list", "expected a mapping"),
        (GOOD + "targets: [{what: speedup, at_least: 1.5}]", "a target of kind 'speedup' needs 'baseline'"),
        (GOOD + "targets: [{what: speedup, baseline: two_stage}]", "a target of kind 'speedup' needs 'at_least'"),
        (GOOD + "targets: [{what: ceiling, baseline: two_stage, at_least: 1}]", "'ceiling' takes no 'at_least'"),
        (GOOD + "targets: [{what: idle_share, at_least: 0.1}]", "'idle_share' takes no 'at_least'"),
        (GOOD + "targets: [{what: speedup, baseline: twostage, at_least: 1}]", "Did you mean 'two_stage'?"),
        (GOOD + "targets: [{what: speed, at_least: 1}]", "targets.0.what: Input should be 'speedup'"),
        (GOOD + "targets: [{what: ceiling, base: two_stage}]", "unknown key 'base'. Did you mean 'baseline'?"),
        ("name: [", "not a YAML file"),
    ],
)
def test_a_mistake_is_named_with_its_place(load, text, message):
    with pytest.raises(InputError) as error:
        load(text)
    assert message in str(error.value)
    assert "tiny.yaml" in str(error.value)


def test_an_unknown_suite_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown suite 'quik'\. Did you mean 'quick'"):
        suites.load("quik")


@pytest.mark.parametrize("path", sorted(Path("suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_suite_is_valid_and_bears_its_file_name(path):
    assert suites.load(str(path)).name == path.stem


def test_a_suite_survives_the_way_through_json(load):
    suite = load(GOOD)
    assert suites.Suite.model_validate(suite.model_dump(mode="json")) == suite


@pytest.mark.parametrize(
    ("only", "exclude", "left"),
    [
        (["hinge"], [], [("hinge", 4), ("hinge", 8)]),
        ([], ["hinge"], [("lsgan", 4), ("lsgan", 8)]),
        (["hinge 4", "l?gan 8"], [], [("hinge", 4), ("lsgan", 8)]),
        (["digits*8 fp32"], ["lsgan"], [("hinge", 8)]),
    ],
)
def test_cases_are_selected_by_name(load, only, exclude, left):
    found = suites.select(load(GOOD).cases(), only, exclude)
    assert [(case.loss, case.batch_size) for case in found] == left


def test_a_selection_without_a_case_is_refused(load):
    with pytest.raises(InputError, match="no case is left of 4"):
        suites.select(load(GOOD).cases(), ["cifar"], [])


CONTROLLED = GOOD.replace("schemes: [two_stage, one_stage]", "schemes: [two_stage, control, one_stage]")


def test_a_suite_may_have_a_control(load):
    assert load(CONTROLLED).schemes == ("two_stage", "control", "one_stage")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONTROLLED.replace(", one_stage]", "]"), "add one_stage to `schemes`"),
        (CONTROLLED + "quality: {images: 100, evaluate_every: 50}", "control is for timing alone"),
        (
            CONTROLLED + "overrides: [{scheme: control, set: {discriminator_lr: 1e-5}}]",
            "takes the overrides of one_stage",
        ),
        (
            CONTROLLED + "targets: [{what: speedup, baseline: control, at_least: 1}]",
            "baseline 'control'",
        ),
        (GOOD.replace("two_stage,", "controll,"), "Did you mean 'control'?"),
    ],
)
def test_a_control_that_makes_no_sense_is_refused(load, text, message):
    with pytest.raises(InputError, match=message):
        load(text)


MODERN = """
name: modern
schemes: [two_stage, one_stage]
matrix:
  dataset: digits
  architecture: mlp
  loss: [rpgan+r1=0.1+r2=0.1, rpgan+ar1=0.1+ar2=0.1+share=0.25]
  batch_size: 8
  augmentation: [none, "diffaugment+policy='color'"]
optimizer: {betas: [0, 0.99], generator_clip: 1, discriminator_clip: 2.5, accumulate: 2, gradient_normalization: 0.9}
quality: {images: 100, evaluate_every: 50, schedule: cosine+warmup=0.1, penalty_schedule: linear+to=0.1}
"""


def test_what_a_recipe_adds_is_named_in_a_suite_and_reaches_every_arm(load):
    suite = load(MODERN)
    cases = suite.cases()
    assert len(cases) == 4
    plain, augmented = cases[:2]
    assert augmented.name == f"{plain.name} augmented by diffaugment+policy='color'"
    recipe = recipe_of(augmented, "two_stage", suite.optimizer, 3)
    assert (recipe.betas, recipe.generator_clip, recipe.discriminator_clip) == ((0, 0.99), 1, 2.5)
    assert (recipe.accumulate, recipe.gradient_normalization) == (2, 0.9)
    assert recipe.augmentation == "diffaugment+policy='color'"
    assert suite.quality.penalty_schedule == "linear+to=0.1"
    assert suites.Suite.model_validate(suite.model_dump(mode="json")) == suite


def test_a_whole_number_in_yaml_is_a_beta(load):
    betas = load(MODERN).optimizer.betas
    assert [(beta, type(beta)) for beta in betas] == [(0.0, float), (0.99, float)]


def test_an_exclude_and_a_target_match_an_augmentation(load):
    color = "diffaugment+policy='color'"
    among = f'targets: [{{what: speedup, baseline: two_stage, at_least: 1, among: {{augmentation: "{color}"}}}}]'
    (target,) = load(MODERN + among).targets
    assert [target.speaks_of(case) for case in load(MODERN).cases()] == [False, True, False, True]
    left = load(MODERN + "exclude: [{augmentation: none}]").cases()
    assert [case.augmentation for case in left] == [color] * 2


def test_what_a_suite_does_not_ask_for_changes_nothing(load):
    suite = load(GOOD)
    assert [case.augmentation for case in suite.cases()] == ["none"] * 4
    assert suite.cases()[0].name == "digits dcgan32+width=8 hinge 4 fp32 eager"
    usual = {field.name: field.default for field in fields(Recipe)}
    assert {key: usual[key] for key in Adam.model_fields} == Adam().model_dump()
    assert [usual[key] for key in ("schedule", "penalty_schedule", "augmentation")] == ["constant", "constant", "none"]


DISTILLED = """
name: d
distill: {dataset: digits, teacher: lenet5, student: lenet5_half, generator: dfad, batch_size: 4}
quality: {images: 100, evaluate_every: 50%s}
"""


def test_what_only_gans_have_is_refused_for_distillation(load):
    assert load(DISTILLED % "").quality.images == 100
    for asked in ("schedule: cosine", "penalty_schedule: cosine", "variants: {plain: {augmentation: diffaugment}}"):
        with pytest.raises(InputError, match="are for the GANs of `matrix`"):
            load(DISTILLED % f", {asked}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'color'", "'colour'", "colour"),
        ("[none, ", "[adaa, ", "adaa"),
        ("generator_clip: 1", "generator_clip: 0", "generator_clip"),
        ("accumulate: 2", "accumulate: 0", "accumulate"),
        ("accumulate: 2", "accumulate: 3", "`accumulate` 3 takes a batch .* batch_size 8 is no multiple of it"),
        ("gradient_normalization: 0.9", "gradient_normalization: 1", "gradient_normalization"),
        ("cosine+warmup=0.1", "cosine+warmup=1", "warmup"),
        ("evaluate_every: 50", "evaluate_every: 50, variants: {a: {augmentation: colour}}", "colour"),
        ("evaluate_every: 50", "evaluate_every: 50, variants: {a: {regularizers: r3=1}}", "variant 'a': .*'r3'"),
        ("evaluate_every: 50", "evaluate_every: 50, variants: {a: {regularizers: none}}", "variant 'a': .*at 'none'"),
        ("linear+to=0.1", "lin", "unknown schedule 'lin'"),
        ("share=0.25", "share=2", "share of the batch"),
    ],
)
def test_what_a_suite_names_and_is_not_there(load, old, new, message):
    with pytest.raises(InputError, match=message):
        load(MODERN.replace(old, new))
