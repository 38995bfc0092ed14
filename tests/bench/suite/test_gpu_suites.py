"""The suites for a GPU, shrunk until a CPU can run their cases: what cannot be done there is said, and done without."""

import re

import pytest

from bench import suite as suites
from bench.execution.case import Job, run_case
from bench.execution.training import QualityJob, run_job
from bench.suite.model import Suite

QUICK = {
    "target_half_width": 0.5,
    "budget_s": 0.1,
    "min_rounds": 5,
    "round_ms": 1,
    "warmup_s": 0.05,
    "replicates": 1,
    "preheat_s": 0,
}


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where features are cached


def _shrunk(suite, case, **changes):
    """Return the suite with this one case, its networks, batch and images small."""
    architecture = re.sub(r"\+width=\d+", "", case.architecture) + (
        "+width=32" if "r3gan" in case.architecture else "+width=4"
    )
    images = "synthetic+images=24"
    small = case.model_dump(exclude_none=True) | {"architecture": architecture, "batch_size": 4, "dataset": images}
    return Suite.model_validate(suite.model_dump() | {"matrix": [small], "samples": {"images": 4}} | changes)


def _time(suite, case, folder, **changes):
    small = _shrunk(suite, case, timing=QUICK, **changes)
    return run_case(Job(small, small.cases()[0], "cpu", None, folder), lambda what, share: None)


def _train(suite, case, variant, seed, folder, **changes):
    plan = suite.quality.model_dump() | {
        "images": 16,
        "evaluate_every": 8,
        "extractor": "efficientnet-lite0+size=64",
        "generated_images": 4,
        "real_images": 8,
        "tune": suite.quality.tune.model_dump() | {"images": 8},
    }
    small = _shrunk(suite, case, quality=plan, **changes)
    settings = {scheme: {"discriminator_lr": 1e-4} for scheme in small.schemes} if seed is not None else {}
    job = QualityJob(small, small.cases()[0], variant, seed, "cpu", None, folder, settings)
    return run_job(job, lambda what, share: None)


def _kinds(cases):
    """Return the first case of every kind: family, norm, loss, engine, precision."""
    kinds = {}
    for case in cases:
        family = re.sub(r"\+width=\d+", "", case.architecture)
        kinds.setdefault((family, case.loss, case.engine, case.precision), case)
    return list(kinds.values())


def test_the_gpu_suite_is_what_it_says():
    cases = suites.load("gpu").cases()
    assert 35 <= len(cases) <= 45
    assert {case.batch_size for case in cases} == {16, 32, 64, 128, 256, 512}
    assert {case.precision for case in cases} == {"fp32", "tf32", "bf16"}
    assert {case.engine for case in cases} == {"eager", "compile", "cuda_graph", "compile_cuda_graph"}
    assert {case.loss.split("+")[0] for case in cases} == {
        "minimax",
        "nonsaturating",
        "lsgan",
        "hinge",
        "wgan",
        "rpgan",
    }
    assert all(case.dataset == "synthetic" for case in cases)  # nothing to download


@pytest.mark.parametrize("name", ["gpu", "gpu-quality"])
def test_every_target_speaks_of_some_case_and_of_schemes_that_run(name):
    suite = suites.load(name)
    for target in suite.targets:
        assert any(target.speaks_of(case) for case in suite.cases()), target
        assert target.baseline is None or target.baseline in suite.schemes


def test_a_case_of_the_gpu_suite_runs_on_a_cpu_and_says_what_it_did_without(tmp_path):
    suite = suites.load("gpu")
    case = next(case for case in suite.cases() if case.engine == "cuda_graph" and case.precision == "bf16")
    record = _time(suite, case, tmp_path, schemes=["two_stage", "one_stage"])
    assert record["status"] == "ok", record["reason"]
    assert record["matmul_flops_per_s"] > 0
    for arm in record["arms"].values():
        assert arm["fallbacks"] == ["cuda_graph is not possible here: a device of type cpu has no CUDA graphs"]
        assert len(arm["wall_ms"]) == record["rounds"]
        assert (arm["busy_ms"], arm["top_kernels"]) == (None, None)


def test_a_piece_of_the_gpu_quality_suite_runs_on_a_cpu(tmp_path):
    suite = suites.load("gpu-quality")
    record = _train(suite, suite.cases()[0], "optimistic", 2, tmp_path)
    assert record["status"] == "ok", record["reason"]
    assert list(record["arms"]) == ["two_stage", "two_stage_reused_frozen", "one_stage"]
    for arm in record["arms"].values():
        assert arm["fallbacks"] == ["cuda_graph is not possible here: a device of type cpu has no CUDA graphs"]
        assert [point["images"] for point in arm["points"]] == [8, 16]


@pytest.mark.slow
@pytest.mark.parametrize("case", _kinds(suites.load("gpu").cases()), ids=lambda case: case.name)
def test_every_kind_of_case_of_the_gpu_suite_runs(case, tmp_path):
    suite = suites.load("gpu")
    # what compiles takes its time for every scheme
    schemes = ("two_stage", "one_stage") if "compile" in case.engine else suite.schemes
    record = _time(suite, case, tmp_path, schemes=schemes)
    assert record["status"] == "ok", record["reason"]
    assert tuple(record["arms"]) == schemes


@pytest.mark.slow
def test_every_kind_of_piece_of_the_gpu_quality_suite_runs(tmp_path):
    suite = suites.load("gpu-quality")
    for case in suite.cases():
        for variant in suite.quality.variants:
            for seed in (None, 0):
                record = _train(suite, case, variant, seed, tmp_path)
                assert record["status"] == "ok", (case, variant, record["reason"])
