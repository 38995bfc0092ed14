"""Two real processes, Gloo, on CPUs: what they find out together stands in distributed_checks.py."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import distributed_checks
import pytest
import torch
from distributed_checks import SAVED_AT, TINY, TRAINED_TO
from reference import SCHEMES

from osgan import data
from osgan.errors import InputError
from osgan.parallel import ddp, processes
from osgan.training import checkpoint
from osgan.training.recipe import Recipe
from osgan.training.trainer import Trainer

EXACT = 1e-10
HERE = Path(__file__).parents[1]
RUN = {
    "--dataset": "digits",
    "--batch-size": 8,
    "--images": 800,
    "--checkpoint-every": 400,
    "--device": "cpu",
    "--keep": 5,
}


def find_out(folder, *names):
    """Run the checks in two processes; return what they found, and what they raised as a failure."""
    torch.multiprocessing.spawn(distributed_checks.run, (str(folder), names), nprocs=distributed_checks.WORLD)
    found = [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(distributed_checks.WORLD)]
    for rank, each in enumerate(found):
        raised = [f"rank {rank}, {name}: {value['raised']}" for name, value in each.items() if "raised" in value]
        assert not raised, "\n".join(raised)
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def found(folder):
    one = Trainer(Recipe(**TINY, loss="nonsaturating+r1=1", schedule="cosine"))
    one.train(SAVED_AT)
    one.save(folder / "trainer_runs" / "of-one")
    names = [check.__name__ for check in distributed_checks.CHECKS]
    return find_out(folder, *(name for name in names if name != "compiled"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_half_a_batch_each_is_the_whole_batch(found, scheme):
    cases = {name: errors for name, errors in found["equality"].items() if name.startswith(f"{scheme}/")}
    assert len(cases) == 17
    for name, errors in cases.items():
        assert errors["moved"] > 1e-3, f"{name} proves nothing"
        assert errors["weights"] <= EXACT, name
        assert errors["losses"] <= EXACT, name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_parts_of_a_part_of_the_batch_are_reduced_once(found, scheme):
    cases = {name: each for name, each in found["accumulation"].items() if name.startswith(f"{scheme}/")}
    assert len(cases) == 5
    for name, each in cases.items():
        assert each["same_everywhere"], name
        assert each["reduced"] == 1, name
        assert each["weights"] <= EXACT, name


def test_what_a_step_keeps_is_the_same_everywhere(found):
    assert found["state_of_a_step"]["same_everywhere"]
    assert any(found["state_of_a_step"]["moved"])


def test_updates_half_a_batch_apart_are_those_of_one_process(found):
    assert found["staggered"]["same_everywhere"]
    assert found["staggered"]["weights"] <= EXACT < 1e-3 < found["staggered"]["moved"]


def test_a_loss_with_a_mean_over_the_batch_is_another_one(found):
    assert EXACT < found["relativistic_average"]["weights"] < found["relativistic_average"]["moved"]


def test_adaptive_augmentation_has_one_probability(found):
    first, second = found["adaptive_augmentation"]
    assert first["together"] == second["together"]
    assert first["together"] == pytest.approx(first["whole"], abs=1e-6)
    assert first["apart"] != second["apart"]
    assert len(set(first["whole"])) > 4


def test_a_penalty_after_the_reduction_would_be_wrong(found):
    wrong = found["penalty_after_the_reduction"]
    assert wrong["alone"] <= EXACT, "in one process the order does not matter"
    assert wrong["together"] > 1e-3
    assert not wrong["same_everywhere"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_gradient_is_reduced_once_an_update(found, scheme):
    cases = {name: numel for name, numel in found["reductions"].items() if name.startswith(f"{scheme}/")}
    assert len(cases) == 4
    for name, numel in cases.items():
        assert numel == {"G": 1, "D": int(name.split("/")[1])}, name


def test_reductions_begin_while_the_backward_pass_goes_on(found):
    assert found["overlap"] == {"D": True, "G": True}


def test_the_generators_update_must_not_call_the_discriminator_that_is_reduced(found):
    wrong = found["discriminator_reduced_in_the_generators_update"]
    assert wrong["wasted"] == 2, "gradients that are thrown away are reduced as well"
    assert "mark a variable ready only once" in wrong["frozen"]


def test_batch_norm_keeps_its_own_statistics_through_two_forward_passes(found):
    assert found["batch_norm_with_two_forward_passes"] == {"weights": True, "running_means": [0, 1]}


def test_what_cannot_be_distributed_is_refused_with_the_way_out(found):
    refused = found["refusals"]
    assert refused["twice"]
    assert "pass its .module, and call osgan.distribute(step)" in refused["wrapped"]
    assert "batch_size 9 (--batch-size)" in refused["batch_size"]
    assert "choose a multiple of 2" in refused["batch_size"]
    assert "no implementation for CPUs" in refused["sync_batch_norm"]
    assert "different steps" in refused["folders"]
    assert "[0, 1]" in refused["folders"]


@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_the_processes_share_each_batch_without_repeats(found, kind):
    assert found["data_order"][kind] == [True] * 5


def test_two_processes_go_on_bit_for_bit(found):
    runs = found["trainer_runs"]
    assert runs["bit_for_bit"]
    assert runs["losses"]
    assert all(runs["same_everywhere"])
    assert runs["streams_differ"]


def test_a_reading_of_the_losses_is_their_mean_over_the_processes(found):
    losses = found["trainer_runs"]["first_loss"]
    own = torch.tensor(losses["own"])
    assert not torch.equal(own[0], own[1])
    torch.testing.assert_close(torch.tensor(losses["given"]), own.mean(0))


def test_one_process_goes_on_for_two_and_two_for_one(found, folder):
    runs = found["trainer_runs"]
    assert runs["from"] == [2, 1]
    assert runs["steps"] == TRAINED_TO
    assert runs["streams_after_one_differ"]
    saved = checkpoint.load_newest(folder / "trainer_runs" / "of-two")
    assert saved.facts["processes"] == 2
    assert {key for key in saved.state if key.startswith("random.")} == {"random.cpu", "random.cpu.1"}
    draws = []
    for seed in (1, 2):  # chance must not come from here
        torch.manual_seed(seed)
        alone = Trainer(Recipe(**TINY, loss="nonsaturating+r1=1", schedule="cosine"))
        alone.resume(saved)
        assert alone.resumed_from_processes == 2
        assert all(torch.equal(mine, saved.weights[key]) for key, mine in alone._weights().items())
        draws.append(torch.rand(3))
    assert torch.equal(*draws)
    alone.train(TRAINED_TO - SAVED_AT)
    assert alone.num_steps == TRAINED_TO
    assert len(alone.losses()) == TRAINED_TO - SAVED_AT


def test_one_process_writes_checkpoints_as_ever(folder, found):
    saved = checkpoint.load_newest(folder / "trainer_runs" / "of-one")
    assert "processes" not in saved.facts
    assert {key for key in saved.state if key.startswith("random.")} == {"random.cpu"}


def test_a_loss_that_is_not_finite_anywhere_stops_all_at_that_step(found):
    assert all("generator_loss of nonsaturating is nan at step 2" in message for message in found["not_finite"])


def test_all_processes_make_the_images_that_are_judged_and_one_measures(found):
    judged = found["judged"]
    assert judged["made"] == [26, 24]
    assert judged["different"]
    assert judged["found"][0] == judged["found"][1] == pytest.approx(judged["expected"], rel=1e-6)
    assert judged["notes"][0] == judged["notes"][1]
    assert judged["random_state_kept"]
    assert judged["caches"] == ["cache-0"]
    assert judged["lost"] == ["nan", "generated images 8 to 15 are not all finite: there are no values"]


def test_running_statistics_are_shared_when_they_are_asked_for(found):
    assert found["buffers"] == {"before": False, "after": True}


@pytest.mark.parametrize("architecture", distributed_checks.ARCHITECTURES)
def test_our_networks_train_on_two_processes(found, architecture):
    cases = {name: same for name, same in found["architectures"].items() if name.startswith(architecture)}
    assert len(cases) == 2
    assert all(cases.values()), cases


def test_a_loop_of_ones_own_reduces_both_players_once(found):
    assert {key: each["passes"] for key, each in found["own_loop"].items() if "True" in key} == {
        "nonsaturating/True": 1,
        "hinge/True": 1,
        "wgan/True": 1,
    }
    for each in found["own_loop"].values():
        assert max(each["errors"]) <= EXACT
        assert each["reduced"] == {"G": 1, "D": 1}
        assert each["overlapped"], "D's reduction began after G's backward pass"


@pytest.mark.slow
def test_compiled_networks_are_reduced_too(tmp_path):
    compiled = find_out(tmp_path, "compiled")["compiled"]
    assert compiled["fallbacks"] == []
    assert compiled["called"] == ["DistributedDataParallel", "DistributedDataParallel", "OptimizedModule"]
    assert compiled["same_everywhere"]
    assert compiled["error"] <= EXACT
    first, second = compiled["one_fails"]
    assert first == second
    assert "compile is not possible here" in first[0]
    assert compiled["still_same"]


def torchrun(folder, architecture, *options, train=None, flags=()):
    words = [str(word) for pair in (RUN | (train or {})).items() for word in pair]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    return subprocess.run(
        [*command, "-m", "osgan", "train", "--out", str(folder), "--architecture", architecture, *words, *flags],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "COLUMNS": "200"},
    )


def test_a_process_that_dies_is_replaced_and_the_run_ends_as_if_it_had_lived(tmp_path):
    died = torchrun(tmp_path / "died", "mortal:build+resolution=16+at=70+how=exit", "--max-restarts", "1")
    assert died.returncode == 0, died.stderr[-3000:]
    assert "going on from step 50 (400 images)" in died.stdout
    assert died.stdout.count("800 images in 100 steps") == 1, "process 0 alone speaks"
    lived = torchrun(tmp_path / "lived", "mortal:build+resolution=16+at=0")
    assert lived.returncode == 0, lived.stderr[-3000:]
    assert "going on" not in lived.stdout
    one, other = (checkpoint.load_newest(tmp_path / name) for name in ("died", "lived"))
    assert one.facts["step"] == other.facts["step"] == 100
    for mine, theirs in ((one.weights, other.weights), (one.state, other.state)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_without_restarts_the_run_ends_with_the_cause(tmp_path):
    died = torchrun(tmp_path / "died", "mortal:build+resolution=16+at=10+how=raise")
    assert died.returncode != 0
    cause = died.stderr.split("Root Cause")[1]
    assert "rank      : 1" in cause
    assert "RuntimeError: the cause of it all" in cause


@pytest.mark.parametrize("rows", [[], [0, 0], [-1], [4]])
def test_rows_that_a_batch_does_not_have_are_refused(rows):
    digits = data.load("digits", resolution=8, device="cpu")
    with pytest.raises(InputError, match=f"rows {re.escape(str(rows))} of a batch: expected one or more of 0 to 3"):
        digits.batches(4, seed=0, rows=rows)


@pytest.mark.parametrize("seed", [0, 7, -1])
def test_process_0_has_the_seed_and_the_others_their_own(seed):
    assert processes.derived_seed(seed, 0) == seed
    assert len({processes.derived_seed(seed, rank) for rank in range(100)}) == 100
    assert processes.derived_seed(seed, 5, 0) != processes.derived_seed(seed, 0, 5)


def test_alone_nothing_is_distributed(monkeypatch):
    step = distributed_checks.build("one_stage", whole=True)
    ddp.distribute(step)
    assert step.G is step.generator
    assert step.D is step.local_D is step.discriminator
    assert processes.local_rows(7) is None
    assert processes.gather_to_all("me") == processes.gather_to_first("me") == ["me"]
    monkeypatch.setenv("WORLD_SIZE", "4")  # not enough: some clusters set it for other purposes
    assert not processes.launched()
    with processes.process_group(torch.device("cpu")) as device:
        assert device == torch.device("cpu")
        assert processes.size() == 1


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device, message in (("cuda:1", "takes a GPU of its own"), ("cuda", "4 processes on this machine, but.*2 GPUs")):
        with pytest.raises(InputError, match=message), processes.process_group(torch.device(device)):
            pass


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_with_nccl_and_synchronised_batch_norm(tmp_path):
    options = {"--device": "cuda", "--loss": "minimax", "--engine": "eager", "--scheme": "one_stage"}
    run = torchrun(tmp_path, "dcgan32+width=16", train=options, flags=["--sync-batch-norm"])
    assert run.returncode == 0, run.stderr[-3000:]
    saved = checkpoint.load_newest(tmp_path)
    assert {"random.cuda", "random.cuda.1"} < saved.state.keys()
