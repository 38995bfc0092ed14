import json
import math

import pytest
import torch
from loops import make_loop
from reference import make_networks
from torch._C._distributed_c10d import _compute_bucket_assignment_by_size
from typer.testing import CliRunner

from osgan.commands.cli import app
from osgan.errors import InputError
from osgan.names import SCHEME_NAMES as SCHEMES
from osgan.regularizers import R1
from osgan.training.engine import Engine
from osgan.training.scaling import (
    BUCKET_BYTES,
    FIRST_BUCKET_BYTES,
    Interconnect,
    Reduction,
    Timeline,
    measure_timelines,
)

MB = 1_000_000
TEN_GB = Interconnect(2, bandwidth=10, latency_us=0)  # an all-reduce of 10 MB on two takes 1 ms


def test_an_all_reduce_takes_transfer_and_latency():
    assert Interconnect(8, bandwidth=100, latency_us=0).reduce_ms(100 * MB) == pytest.approx(2 * 7 / 8)
    assert Interconnect(64, bandwidth=1e9, latency_us=5).reduce_ms(0) == pytest.approx(0.06)
    assert Interconnect(1, bandwidth=1).reduce_ms(100 * MB) == 0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"gpus": 0, "bandwidth": 1}, "number of GPUs"),
        ({"gpus": 2, "bandwidth": 0}, "bandwidth"),
        ({"gpus": 2, "bandwidth": math.inf}, "bandwidth"),
        ({"gpus": 2, "bandwidth": 1, "latency_us": -1}, "latency"),
    ],
)
def test_what_no_interconnect_can_be_is_refused(values, named):
    with pytest.raises(InputError, match=named):
        Interconnect(**values)


def test_the_last_bucket_cannot_be_hidden():
    one = Reduction((0.0, 3.0), (400_000, 600_000))
    assert one.buckets() == [(3.0, MB)]
    assert one.exposed_ms(TEN_GB) == pytest.approx(0.1)


def test_a_bucket_that_is_ready_early_is_hidden_and_one_that_is_late_waits_for_it():
    early = Reduction((0.0, 50.0), (30 * MB, MB))
    assert early.buckets() == [(0.0, 30 * MB), (50.0, MB)]
    assert early.exposed_ms(TEN_GB) == pytest.approx(0.1)
    late = Reduction((0.0, 1.0), (30 * MB, MB))  # at 1 ms the first, of 3 ms, is still on its way
    assert late.exposed_ms(TEN_GB) == pytest.approx(2.1)


def test_buckets_are_those_of_distributed_data_parallel():
    sizes = [4 * n for n in (10, 200_000, 90_000, 8_000_000, 5, 3_000_000, 4_000_000, 1, 70_000)]
    tensors = [torch.empty(size // 4) for size in sizes]
    assignment, _ = _compute_bucket_assignment_by_size(tensors, [FIRST_BUCKET_BYTES, BUCKET_BYTES])
    expected = [(float(max(bucket)), sum(sizes[i] for i in bucket)) for bucket in assignment]
    assert Reduction(tuple(map(float, range(len(sizes)))), tuple(sizes)).buckets() == expected


def test_a_step_waits_for_every_update():
    update = Reduction((0.0, 3.0), (400_000, 600_000))
    timeline = Timeline(20.0, (update, update, update))
    assert timeline.reduced_bytes == 3 * MB
    assert timeline.step_ms_on(TEN_GB) == pytest.approx(20.3)
    assert timeline.step_ms_on(Interconnect(1, bandwidth=10)) == 20.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_update_reduces_its_players_gradients_once(scheme):
    networks = make_networks()
    loop = make_loop(scheme, Engine(), networks=networks, n_critic=3, regularizers=(R1(1.0, every=2),))
    timeline = measure_timelines({scheme: loop}, rounds=2, round_ms=0.1)[scheme]
    of_generator, of_discriminator = (sum(w.nbytes for w in network.parameters()) for network in networks)
    assert [sum(r.num_bytes) for r in timeline.reductions] == [of_discriminator] * 3 + [of_generator]
    assert timeline.step_ms > 0
    for reduction in timeline.reductions:
        assert reduction.ready_ms[0] == 0
        assert list(reduction.ready_ms) == sorted(reduction.ready_ms)


def test_a_backward_pass_reaches_the_last_layer_first():
    networks = make_networks()
    loop = make_loop("one_stage", Engine(), networks=networks)
    (of_discriminator, _) = measure_timelines({"": loop}, rounds=3, round_ms=0.1)[""].reductions
    sizes = [weight.nbytes for weight in networks[1].parameters()]
    assert of_discriminator.num_bytes[0] in sizes[-2:]
    assert of_discriminator.num_bytes[-1] in sizes[:2]


def predict(*options):
    architecture = ["--architecture", "dcgan32+width=4", "--dataset", "digits", "--batch-size", "4", "--device", "cpu"]
    return CliRunner().invoke(app, ["predict", *architecture, *options], catch_exceptions=True)


def test_predict_says_what_to_expect_of_many_gpus():
    done = predict("--gpus", "8", "--gpus", "64", "--bandwidth", "0.001", "--json")
    rows = json.loads(done.stdout)["scaling"]
    assert [(row["gpus"], row["scheme"]) for row in rows] == [(n, s) for n in (1, 8, 64) for s in SCHEMES]
    on = {(row["gpus"], row["scheme"]): row for row in rows}
    assert on[8, "one_stage"]["reduced_bytes"] == on[64, "two_stage"]["reduced_bytes"] > 0
    assert on[1, "one_stage"]["exposed_ms"] == 0
    # over a wire this slow a step is nothing but reductions, which are the same in every scheme
    assert on[64, "one_stage"]["exposed_ms"] > on[8, "one_stage"]["exposed_ms"] > on[1, "one_stage"]["step_ms"]
    assert abs(on[64, "two_stage"]["over_one_stage"] - 1) < abs(on[1, "two_stage"]["over_one_stage"] - 1)
    for row in rows:
        assert row["step_ms"] == pytest.approx(on[1, row["scheme"]]["step_ms"] + row["exposed_ms"])


def test_predict_shows_the_assumptions():
    done = predict("--bandwidth", "50")
    assert done.exit_code == 0
    for said in ("1,024 GPUs", "over one_stage", "50", "a model and no measurement"):
        assert said in done.stdout


def test_predict_without_a_bandwidth_says_what_it_needs():
    done = predict("--gpus", "8")
    assert isinstance(done.exception, InputError)
    assert "--bandwidth" in str(done.exception)
