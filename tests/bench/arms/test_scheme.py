import pytest
import torch

from bench.arms.scheme import SchemeArm
from bench.suite.cases import Case
from bench.suite.plans import Adam
from osgan import SCHEMES, data, nets
from osgan.errors import InputError, NonFiniteLossError

CASE = Case(dataset="digits", architecture="dcgan32+resolution=16", loss="lsgan+weight_clipping=0.5", batch_size=8)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", resolution=16, device="cpu")


def _arm(dataset, scheme="one_stage", case=CASE, norm="group", **optimizer):
    torch.manual_seed(0)
    pair = nets.dcgan(resolution=16, width=8, channels=1, norm=norm, latent_dim=8)
    networks = nets.Networks(*pair, latent=nets.Gaussian(8))
    return SchemeArm(case, scheme, networks, dataset, Adam(**optimizer), seed=3)


FULL = {"generator_clip": 1, "discriminator_clip": 0.5, "accumulate": 2, "gradient_normalization": 0.9}


def _full_arm(dataset, scheme="one_stage"):
    """An arm with all that a suite can add to a step; ADA's probability moves at every update."""
    changes = {"augmentation": "ada+images=100+interval=1", "loss": "rpgan+r1=0.1+ar2=0.1+share=0.5"}
    full = FULL | ({"accumulate": 1} if scheme == "one_stage_staggered" else {})
    return _arm(dataset, scheme, case=CASE.model_copy(update=changes), betas=(0, 0.99), **full)


def _weights(arm):
    networks = (arm.networks.generator, arm.networks.discriminator)
    return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()])


def _run(arm, *visits):
    for steps in visits:
        with arm.turn():
            arm.run(steps)


def test_arms_differ_in_the_scheme_and_in_nothing_else(digits):
    arms = [_arm(digits, scheme) for scheme in SCHEMES]
    first = arms[0]
    for arm in arms[1:]:
        assert torch.equal(_weights(arm), _weights(first))
        assert torch.equal(arm.random_state, first.random_state)
        assert torch.equal(arm.loop.draw()[0], next(first.dataset.batches(8, seed=3))[0])
        assert arm.scheme.loss is first.scheme.loss
        assert arm.scheme.structure == first.scheme.structure
        assert [type(r) for r in arm.scheme.regularizers] == [type(r) for r in first.scheme.regularizers]
        for mine, its in zip(arm.loop.optimizers, first.loop.optimizers, strict=True):
            assert mine.defaults == its.defaults
        assert arm.networks.generator is not first.networks.generator
    kinds = [(type(arm.scheme), *(getattr(arm.scheme, k, None) for k in ("fresh_fakes", "freeze"))) for arm in arms]
    assert len(set(kinds)) == len(SCHEMES)


def test_what_a_case_and_a_suite_add_is_every_arms(digits):
    arms = [_full_arm(digits, scheme) for scheme in SCHEMES]
    for arm in arms:
        scheme = arm.scheme
        assert (scheme.generator_clip, scheme.discriminator_clip, scheme.num_parts) == (1, 0.5, 2)
        assert scheme.normalization.decay == 0.9
        assert (scheme.augmentation.interval, scheme.augmentation.images) == (1, 100)
        assert [optimizer.defaults["betas"] for optimizer in arm.loop.optimizers] == [(0.0, 0.99)] * 2
        before = [tensor.clone() for tensor in scheme.tensors()]
        _run(arm, 2)
        assert not all(map(torch.equal, before, scheme.tensors()))
    states = [tensor.data_ptr() for arm in arms for tensor in arm.scheme.tensors()]
    kept = sum(len(arm.scheme.kept) for arm in arms if hasattr(arm.scheme, "kept"))
    assert len(set(states)) == len(states) == 3 * len(SCHEMES) + kept  # each arm has its own


@pytest.mark.parametrize("build", [_arm, _full_arm])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_happens_between_visits_changes_nothing(digits, scheme, build):
    alone, visited = build(digits, scheme), build(digits, scheme)
    _run(alone, 6)
    _run(visited, 1)
    torch.manual_seed(99)
    torch.randn(1000)
    _run(visited, 2, 3)
    assert torch.equal(_weights(alone), _weights(visited))


@pytest.mark.parametrize("build", [_arm, _full_arm])
def test_restart_goes_back_to_the_first_step(digits, build):
    arm, fresh = build(digits), build(digits)
    first = arm.snapshot()
    _run(arm, 3)
    assert not torch.equal(_weights(arm), _weights(fresh))
    arm.restart(first)
    assert arm.steps_done == 0
    _run(arm, 4)
    _run(fresh, 4)
    assert torch.equal(_weights(arm), _weights(fresh))
    assert torch.equal(arm.sample(4), fresh.sample(4))


def test_a_restart_that_forgets_what_a_step_keeps_is_seen(digits, monkeypatch):
    arm, fresh = _full_arm(digits), _full_arm(digits)
    monkeypatch.setattr(type(arm.scheme), "tensors", lambda scheme: [])
    first = arm.snapshot()
    _run(arm, 3)
    arm.restart(first)
    _run(arm, 4)
    _run(fresh, 4)
    assert not torch.equal(_weights(arm), _weights(fresh))


def test_a_loss_that_is_not_finite_is_named_with_its_step(digits):
    arm = _arm(digits, generator_lr=1e30)
    with pytest.raises(NonFiniteLossError, match=r"_loss of lsgan\S* is (nan|inf) at step [2-5];"):
        _run(arm, 1, 4)


def test_samples_do_not_disturb_training(digits):
    arm, undisturbed = _arm(digits), _arm(digits)
    _run(arm, 2)
    images = arm.sample(9)
    assert images.shape == (9, 1, 16, 16)
    assert images.abs().max() <= 1
    _run(arm, 2)
    _run(undisturbed, 4)
    assert torch.equal(_weights(arm), _weights(undisturbed))


def test_a_discriminator_that_mixes_samples_is_refused_for_one_stage_alone(digits):
    with pytest.raises(InputError, match="mixes samples"):
        _arm(digits, "one_stage", norm="batch")
    _run(_arm(digits, "simultaneous", norm="batch"), 1)
