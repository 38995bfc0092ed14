import pytest
import torch

from bench import suite as suites
from bench.arms.game import DistillGame, GameArm, open_game
from bench.arms.opening import open_arms
from bench.arms.quality import STUDENT_ERROR
from bench.execution.training import QualityJob, run_job
from bench.suite.cases import Case
from bench.suite.jobs import Job
from osgan.errors import InputError, NotExactError

CPU = torch.device("cpu")
SUITE = {
    "name": "tiny",
    "schemes": ["two_stage_frozen", "one_stage"],
    "distill": {
        "dataset": "digits",
        "teacher": "lenet5",
        "student": "lenet5_half",
        "generator": "dfad+width=4",
        "batch_size": 8,
        "student_steps": [2, 1],
        "teacher_epochs": 1,
    },
    "games": [{"game": "examples.dann:Game"}],
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp() / "home"))  # one teacher for all tests here


def cases(**changes):
    return suites.Suite.model_validate(SUITE | changes).cases()


def state(arm):
    networks = [player for player in arm.players if isinstance(player, torch.nn.Module)]
    return [value.clone() for network in networks for value in network.state_dict().values()]


def test_players_and_games_become_cases():
    found = cases()
    assert [case.name for case in found] == [
        "digits lenet5 to lenet5_half by dfad+width=4, 2 student steps l1 8 fp32 eager",
        "digits lenet5 to lenet5_half by dfad+width=4, 1 student steps l1 8 fp32 eager",
        "its own examples.dann:Game its own 64 fp32 eager",
    ]
    assert not any(case.is_gan for case in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill": SUITE["distill"] | {"loss": "l3"}}, "unknown distillation loss 'l3'"),
        ({"games": [{"game": "examples.nothing:Game"}]}, "cannot import 'examples.nothing'"),
        ({"distill": (), "games": ()}, "there is no case: write a `matrix`"),
        ({"quality": {"images": 8, "evaluate_every": 8}}, "quality of games is not measured"),
    ],
)
def test_what_cannot_be_played_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):  # pydantic wraps some of them
        cases(**changes)


@pytest.fixture(scope="module")
def dann():
    return open_game(cases()[2], CPU, 0)


@pytest.mark.parametrize("scheme", ["one_stage", "simultaneous", "two_stage"])
def test_a_game_starts_again_where_it_started(dann, scheme):
    arm = dann(scheme)
    start = arm.snapshot()
    with arm.turn():
        arm.run(3)
    first = state(arm)
    arm.restart(start)
    with arm.turn():
        arm.run(1)
    with arm.turn():
        arm.run(2)
    assert arm.steps_done == 3
    assert all(torch.equal(a, b) for a, b in zip(state(arm), first, strict=True))
    assert arm.count().flops > 0
    assert arm.sample(4) is None


def test_a_scheme_that_a_game_does_not_have_is_named(dann):
    with pytest.raises(InputError, match="has no scheme 'two_stage_reused'"):
        dann("two_stage_reused")


class Patches:
    """A game that says why it has no one_stage."""

    not_exact = "D gives many logits an image"

    def __init__(self):
        self.G, self.D = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD([*self.G.parameters(), *self.D.parameters()], 0.1)

    def simultaneous(self):
        self.optimizer.zero_grad()
        self.D(self.G(torch.ones(3, 2))).mean().backward()
        self.optimizer.step()


@pytest.mark.parametrize("fallback", [None, "simultaneous"])
def test_a_game_that_is_not_exact_in_one_stage(fallback, tmp_path):
    game = {"game": f"{__name__}:Patches"}
    suite = suites.Suite.model_validate(
        SUITE | {"games": [game], "distill": (), "fallback": fallback, "schemes": ["simultaneous", "one_stage"]}
    )
    arm_of = open_arms(Job(suite, suite.cases()[-1], "cpu", None, tmp_path), CPU)
    assert arm_of("simultaneous").ran_as is None
    if fallback is None:
        with pytest.raises(NotExactError, match="many logits an image"):
            arm_of("one_stage")
    else:
        arm = arm_of("one_stage")
        assert arm.ran_as == "simultaneous"
        assert "many logits an image" in arm.ran_as_because
        arm.run(1)


class Empty:
    def one_stage(self):
        pass


def test_a_game_without_networks_is_refused():
    case = Case(dataset="none", architecture="x", loss="none", batch_size=2, game=f"{__name__}:Empty")
    with pytest.raises(InputError, match="must keep its networks and optimizers as attributes"):
        open_game(case, CPU, 0)("one_stage")


def test_arms_of_distillation_start_alike_and_start_again():
    game = DistillGame(cases()[0], CPU, None)
    arms = [game.arm(scheme, seed=3) for scheme in ("two_stage_frozen", "one_stage")]
    assert all(torch.equal(a, b) for a, b in zip(*map(state, arms), strict=True))
    arm = arms[1]
    assert isinstance(arm, GameArm)
    start = arm.snapshot()
    with arm.turn():
        arm.run(2)
    first = state(arm)
    arm.restart(start)
    with arm.turn():
        arm.run(2)
    assert all(torch.equal(a, b) for a, b in zip(state(arm), first, strict=True))
    images = arm.sample(5)
    assert images.shape == (5, 1, 32, 32)
    assert (images.amin(), images.amax()) == (-1, 1)
    assert arms[0].count().flops > arm.count().flops


def test_students_are_judged_by_their_error(tmp_path):
    suite = suites.Suite.model_validate(
        SUITE | {"games": (), "quality": {"images": 64, "evaluate_every": 32, "seeds": 1, "levels": [50]}}
    )
    record = run_job(QualityJob(suite, suite.cases()[0], "plain", 0, "cpu", None, tmp_path), lambda *_: None)
    assert record["status"] == "ok", record["reason"]
    assert record["metric"] == STUDENT_ERROR
    assert "teacher's error" in record["notes"][0]
    for scheme in suite.schemes:
        arm = record["arms"][scheme]
        assert [point["images"] for point in arm["points"]] == [32, 64]
        assert all(0 <= point["average"][STUDENT_ERROR] <= 100 for point in arm["points"])
        assert arm["points"][0]["seconds"] < arm["points"][1]["seconds"]
        assert (tmp_path / arm["samples"]).is_file()
