import copy

import pytest
import torch
from distill_reference import (
    BATCH,
    CLASSES,
    LATENT_DIM,
    LOSSES,
    SAME_WEIGHTS,
    SCHEMES,
    PlainLoop,
    Waiting,
    gradient_errors,
    latent_of,
    make_players,
    make_scheme,
)
from reference import EXACT, changed, relative_error, snapshot
from torch import nn
from waiting import waits_for_nothing

import osgan
from osgan import distill
from osgan.cost import count_step


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SAME_WEIGHTS)
def test_both_gradients_are_those_of_the_reference(name, loss, dtype):
    players = make_players(dtype)
    assert players[1].training
    assert any(isinstance(module, nn.BatchNorm2d) for module in players[1].modules())
    errors = gradient_errors(make_scheme(name, players, loss), loss)
    assert max(errors) <= EXACT[dtype], errors


def test_a_read_would_be_noticed():
    scheme = make_scheme("one_stage", make_players())
    agreement = lambda t, s: (t - s).abs().mean() * float(t.mean() < 1e9)  # noqa: E731
    scheme.loss = distill.DistillationLoss("curious", agreement)
    scheme.prepare()
    with pytest.raises(AssertionError, match="waits for"), Waiting():
        scheme()


class SameSign(distill.OneStage):
    """The generator helps the student."""

    def play(self):
        leaf, *rest = super().play()
        leaf.register_hook(torch.neg)
        return leaf, *rest


class DeafToTheTeacher(distill.OneStage):
    """The generator's gradient comes through the student alone."""

    def observe(self, images):
        outputs = super().observe(images)
        return distill.TeacherOutputs(outputs.logits.detach(), outputs.features)


class DeafToTheStudent(distill.OneStage):
    """The generator's gradient comes through the teacher alone."""

    def play(self):
        student, self.student = self.student, lambda x: student(x.detach())
        played = super().play()
        self.student = student
        return played


class TermsTurned(distill.OneStage):
    """The generator's own terms go in with the student's sign."""

    def play(self):
        *rest, terms = super().play()
        return *rest, -terms


class TeacherFollows(distill.OneStage):
    """The teacher's BatchNorm uses the batch."""

    def observe(self, images):
        self.teacher.train()
        outputs = super().observe(images)
        self.teacher.eval()
        return outputs


CORRUPTIONS = {
    SameSign: "l1",
    DeafToTheTeacher: "l1",
    DeafToTheStudent: "kl",
    TermsTurned: "l1+one_hot=1",
    TeacherFollows: "l1",
}


@pytest.mark.parametrize(("corrupt", "loss"), CORRUPTIONS.items())
def test_a_broken_step_is_seen(corrupt, loss):
    scheme = make_scheme("", make_players(), loss, build=lambda _, *players, **options: corrupt(*players, **options))
    assert max(gradient_errors(scheme, loss)) > 1e-2


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("loss", ["l1", "kl+temperature=2+one_hot=0.3"])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_a_plain_loop(name, loss, k):
    players = make_players()
    ends = []
    for build in (
        lambda these: make_scheme(name, these, loss, lr=0.05, k=k),
        lambda these: PlainLoop(these, loss, lr=0.05, k=k, merged=name in SAME_WEIGHTS).step,
    ):
        these = copy.deepcopy(players)
        step = build(these)
        torch.manual_seed(3)
        for _ in range(3):
            step()
        ends.append([tensor for network in these[1:] for tensor in network.state_dict().values()])
    start = [tensor for network in players[1:] for tensor in network.state_dict().values()]
    assert relative_error(ends[0], start) > 1e-4
    assert relative_error(*ends) <= 1e-10


@pytest.mark.parametrize("loss", ["l1", "l1+one_hot=1+activation=0.1"])
@pytest.mark.parametrize("name", SCHEMES)
def test_the_teacher_stays_as_it_was_bit_for_bit(name, loss):
    players = make_players()
    players[0].last.bias.requires_grad_(False)  # the user's own choice is kept
    before, modes = snapshot(players[0]), [module.training for module in players[0].modules()]
    student = snapshot(players[1])
    scheme = make_scheme(name, players, loss, lr=0.1, k=2)
    for _ in range(3):
        scheme()
    after = snapshot(players[0])
    before.pop("rng"), after.pop("rng")
    assert changed(before, after) == []
    assert [module.training for module in players[0].modules()] == modes
    assert len(changed(student, snapshot(players[1]))) > 10


def test_a_teacher_that_moves_would_be_noticed():
    players = make_players()
    before = snapshot(players[0])
    players[0].train()
    players[0](torch.randn(4, 1, 8, 8, dtype=torch.float64))
    assert "0.body.1.running_mean" in changed(before, snapshot(players[0]))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", SCHEMES)
def test_passes_graphs_and_updates_of_a_step(name, k):
    players = make_players()
    scheme = make_scheme(name, players, lr=0.1, k=k)
    scheme.prepare()
    graphs, wasted, updates = [], [], []
    players[2].register_forward_hook(lambda module, z, images: graphs.append(images.requires_grad))
    for weight in players[0].parameters():
        weight.register_post_accumulate_grad_hook(lambda _: wasted.append(1))
    for which, optimizer in (("S", scheme.student_optimizer), ("G", scheme.generator_optimizer)):
        optimizer.register_step_post_hook(lambda *_, which=which: updates.append(which))
    scheme()
    merged = name in SAME_WEIGHTS
    assert sorted(updates) == ["G", *["S"] * k]
    assert graphs == [name == "two_stage"] * (k - merged) + [True]
    assert bool(wasted) == (name == "two_stage")


@pytest.mark.parametrize("name", SCHEMES)
def test_frozen_players_thaw_when_the_step_fails(name):
    players = make_players()
    scheme = make_scheme(name, players)
    scheme.prepare()

    def fail(*_):
        raise RuntimeError("out of memory")

    players[0].last.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        scheme()
    assert all(weight.requires_grad for network in players for weight in network.parameters())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SCHEMES)
def test_a_step_reads_nothing_from_the_device(name, loss):
    scheme = make_scheme(name, make_players(), loss, lr=1e-3, k=2)
    scheme()
    with Waiting():
        stats = scheme()
    assert all(value.shape == () and value.isfinite() and not value.requires_grad for value in stats)


@pytest.mark.parametrize("name", SAME_WEIGHTS)
def test_the_losses_of_a_symmetric_game_add_up_to_nothing(name):
    stats = make_scheme(name, make_players(), "l1")()
    assert stats.student_loss > 0
    assert stats.generator_loss == -stats.student_loss


def test_dafl_shows_the_student_nothing_of_the_generators_gradient():
    players = make_players()
    scheme = make_scheme("one_stage", players, LOSSES[-1])
    scheme.prepare()
    asked = []
    players[1].register_forward_pre_hook(lambda module, given: asked.append(given[0].requires_grad))
    scheme()
    assert asked == [False]


G, T, S1, S2 = LATENT_DIM * 9, 9 * CLASSES, 9 * 3, 3 * CLASSES


def closed_form_flops(k):
    """Count the step of linear players by hand, in multiplications of one sample; `s1` and `s2` are the student's."""
    update = G + T + (S1 + S2) + (S1 + S2) + S2  # three forwards; the student's weights; back to its first layer
    forward, images, weights = G + T + S1 + S2, T + S1 + S2, S1 + S2
    return {
        "two_stage": k * update + forward + images + weights + T + G,
        "two_stage_frozen": k * update + forward + images + G,
        "simultaneous": (k - 1) * update + forward + images + (weights + S2) + G,
        "one_stage": (k - 1) * update + forward + images + weights + G,
    }


@pytest.mark.parametrize("k", [1, 4])
def test_flops_are_those_counted_by_hand(k):
    generator = nn.Linear(LATENT_DIM, 9)
    teacher, student = nn.Linear(9, CLASSES), nn.Sequential(nn.Linear(9, 3), nn.Tanh(), nn.Linear(3, CLASSES))
    players = [network.double() for network in (teacher.eval(), student, generator)]
    before = snapshot(*players)
    found = distill.predict_speedup(*players, latent=latent_of(), batch_size=BATCH, student_steps=k)
    assert found.flops == {name: 2 * BATCH * count for name, count in closed_form_flops(k).items()}
    assert found.ceilings["one_stage"] == 1
    assert changed(before, snapshot(*players)) == []


def test_terms_of_the_generator_cost_no_flops():
    counts = []
    for loss in ("l1", "l1+one_hot=1+activation=0.1+information_entropy=5"):
        scheme = make_scheme("one_stage", make_players(), loss)
        scheme.prepare()
        counts.append(count_step(scheme).flops)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_built_by_its_name(name):
    assert tuple(distill.SCHEMES) == SCHEMES
    scheme = make_scheme(name, make_players())
    assert isinstance(scheme, distill.DistillationScheme)
    if name.startswith("two"):
        assert scheme.freeze == name.endswith("frozen")


def test_an_unknown_scheme_is_refused_with_the_nearest():
    with pytest.raises(osgan.InputError, match=r"unknown distillation scheme 'onestage'\. Did you mean 'one_stage'"):
        make_scheme("onestage", make_players())


@pytest.mark.gpu
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SCHEMES)
def test_a_step_never_waits_for_the_gpu(name, loss):
    scheme = make_scheme(name, [network.cuda() for network in make_players(torch.float32)], loss, lr=1e-3, k=2)
    scheme()
    scheme()
    with waits_for_nothing():
        scheme()
