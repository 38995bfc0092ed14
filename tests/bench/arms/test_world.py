"""Cases of several processes: real ones, over Gloo."""

import os
import pickle
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from bench import suite
from bench.arms.scheme import recipe_of
from bench.execution import runner
from bench.suite.cases import Case
from bench.suite.plans import Adam
from osgan import nets
from osgan.errors import InputError

NETWORKS = "dcgan32+width=4+norm=group"
SUITE = {
    "name": "world",
    "schemes": ["two_stage", "one_stage"],
    "matrix": {
        "dataset": "digits",
        "architecture": NETWORKS,
        "loss": "nonsaturating+r1=0.1",
        "batch_size": 8,
        "world_size": [1, 2],
    },
    "timing": {"budget_s": 0.3, "min_rounds": 5, "round_ms": 10, "warmup_s": 0.2, "replicates": 1, "preheat_s": 0},
    "samples": {"steps": 12, "images": 4},
}
CPU = torch.device("cpu")


def case_of(world_size, **values):
    given = {"dataset": "digits", "architecture": "dcgan32", "loss": "hinge", "batch_size": 8}
    return Case(**given | {"world_size": world_size} | values)


def run(tmp_path, **changes):
    asked = suite.Suite.model_validate(SUITE | changes)
    path = runner.start(asked, CPU, None, tmp_path / "results")
    return runner.finish(path, asked, CPU, None)


def test_a_case_of_one_process_is_called_as_before():
    assert case_of(1).name == "digits dcgan32 hinge 8 fp32 eager"
    assert case_of(4).name == "digits dcgan32 hinge 8 fp32 eager 4 processes"


def test_the_batch_of_a_case_is_each_processs():
    assert recipe_of(case_of(4), "one_stage", Adam(), 0).batch_size == 32


def test_a_batch_of_all_processes_larger_than_the_data_is_refused():
    with pytest.raises(InputError, match="1797 images"):
        runner.preflight([case_of(4, batch_size=512)], None)


def test_an_exclude_matches_a_world_size():
    cases = suite.Suite.model_validate(SUITE | {"exclude": [{"world_size": 2}]}).cases()
    assert [case.world_size for case in cases] == [1]


def test_quality_is_not_trained_in_several_processes():
    quality = {"images": 32, "evaluate_every": 16, "seeds": 2, "generated_images": 8, "real_images": 16}
    with pytest.raises(ValueError, match="world_size"):
        suite.Suite.model_validate(SUITE | {"quality": quality})


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return run(tmp_path_factory.mktemp("world"))


def test_a_case_of_two_processes_has_all_that_one_of_one_has(measured):
    alone, together = measured.cases
    assert [alone.status, together.status] == ["ok", "ok"]
    assert (alone.case.world_size, together.case.world_size) == (1, 2)
    for scheme, arm in together.arms.items():
        assert arm.flops == alone.arms[scheme].flops  # of one process: its batch is the same
        assert len(arm.wall_ms) == together.rounds >= 5
        assert arm.steps_trained >= 12
        assert arm.phases_ms.keys() == alone.arms[scheme].phases_ms.keys()
        assert (measured.path / arm.samples).is_file()
        assert arm.peak_resident_growth_mib is None


def test_the_reductions_are_measured_and_predicted(measured):
    alone, together = measured.cases
    for scheme, arm in together.arms.items():
        networks = nets.build(NETWORKS, channels=1, num_classes=None)
        weights = [*networks.generator.parameters(), *networks.discriminator.parameters()]
        assert arm.reduced_bytes == sum(w.nbytes for w in weights)
        assert arm.allreduce_gb_per_s > 0
        assert arm.predicted_ms > arm.local_ms > 0
        assert alone.arms[scheme].predicted_ms is None


class Unlucky(nn.Module):
    """A discriminator that does something in one of the processes at one of its calls, in the warm-up or later."""

    def __init__(self, network, end, rank):
        super().__init__()
        self.network = network
        self.end = end
        self.rank = rank
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        if self.calls == 25 and dist.is_initialized() and dist.get_rank() == self.rank:
            self.end()
        return self.network(images)


def out_of_luck():
    raise ValueError("out of luck")


def killed_once(flag):
    with suppress(FileExistsError):
        Path(flag).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


def exiting():
    return unlucky(lambda: os._exit(3))


def raising():
    return unlucky(out_of_luck)


def raising_first():
    return unlucky(out_of_luck, rank=0)


def dying_once(flag):
    return unlucky(partial(killed_once, flag))


def unlucky(end, rank=1):
    networks = nets.build(NETWORKS, channels=1, num_classes=None)
    return networks.generator, Unlucky(networks.discriminator, end, rank)


HERE = "tests.bench.arms.test_world"
TWO = SUITE["matrix"] | {"world_size": 2}


def test_a_process_that_is_lost_fails_the_case_and_is_named(tmp_path):
    architectures = [f"{HERE}:raising", f"{HERE}:exiting", NETWORKS]
    raised, exited, ran = run(tmp_path, matrix=TWO | {"architecture": architectures}).cases
    for row, said in ((raised, "ValueError: out of luck"), (exited, "it ended without a word: exit status 3")):
        assert row.status == "failed"
        assert {arm.reason for arm in row.arms.values()} == {f"process 1 of 2: {said}"}
        assert row.ended_by == "every arm failed"
    assert ran.status == "ok"


@pytest.mark.parametrize(("build", "said"), [("raising", "process 1 of 2: "), ("raising_first", "")])
def test_an_arm_that_fails_in_a_step_does_not_take_the_others_with_it(tmp_path, build, said):
    override = {"scheme": "two_stage", "set": {"architecture": f"{HERE}:{build}"}}
    (row,) = run(tmp_path, matrix=TWO, overrides=[override]).cases
    assert row.arms["two_stage"].reason == f"{said}ValueError: out of luck"
    assert row.arms["one_stage"].status == "ok"
    assert len(row.arms["one_stage"].wall_ms) == row.rounds >= 5


def test_a_process_that_is_killed_has_the_case_begun_again(tmp_path):
    (row,) = run(tmp_path, matrix=TWO | {"architecture": f"{HERE}:dying_once+flag={tmp_path / 'flag'}"}).cases
    assert row.status == "ok"
    assert row.lost == ["process 1 of 2 was killed by signal 9 (out of memory?)"]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    from bench.arms import world

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="world_size 2"), world.joined(pickle.dumps, 2, torch.device("cuda")):
        pass
