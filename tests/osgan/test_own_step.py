"""verify and predict_speedup of a step function of the user's own."""

import itertools

import pytest
import torch
from reference import TEXTBOOK, make_networks, make_real, snapshot, with_gradients
from test_passes import l1, latents

import osgan
from osgan.errors import InputError


class Own:
    """A loop of one's own: what fills gradients in one stage, what it replaces, and what is wrong with it."""

    def __init__(self, loss="hinge", *, logits=False, middle="group", dtype=torch.float64, weight=1.0, dropout=0.0):
        self.G, self.D = make_networks(middle, dtype=dtype)
        self.D.insert(1, torch.nn.Dropout(dropout))
        self.loss, self.logits, self.weight = loss, logits, weight
        self.real, self.z = make_real(dtype), latents(dtype)

    def fill(self, spoil=lambda fake, leaf: leaf, extra=l1):
        of_d, of_g = TEXTBOOK[self.loss]
        fake = self.G(self.z)
        leaf = osgan.tap(fake)
        r, f = self.D(self.real), self.D(spoil(fake, leaf))
        logits = (r, f) if self.logits else None
        return osgan.backward(
            leaf, of_d(r, f), of_g(r, f), extra=extra(fake, self.real), logits=logits, weight=self.weight
        )

    def two_gradients(self):
        of_d, of_g = TEXTBOOK[self.loss]
        fake = self.G(self.z)
        d_loss = of_d(self.D(self.real), self.D(fake.detach()))
        d_loss.backward()
        kept = [p.grad.clone() for p in self.D.parameters()]
        (of_g(None, self.D(fake)) + l1(fake, self.real)).backward()
        for p, gradient in zip(self.D.parameters(), kept, strict=True):
            p.grad = gradient

    def alternating(self):
        of_d, of_g = TEXTBOOK[self.loss]
        optimizers = [torch.optim.SGD(n.parameters(), 0.1) for n in (self.D, self.G)]
        fake = self.G(self.z)
        of_d(self.D(self.real), self.D(fake.detach())).backward()
        optimizers[0].step()
        (of_g(None, self.D(fake)) + l1(fake, self.real)).backward()
        optimizers[1].step()


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("loss", ["hinge", "nonsaturating", "wgan"])
def test_a_step_that_is_exact(loss, logits):
    own = Own(loss, logits=logits)
    found = osgan.verify(own.G, own.D, step=own.fill)
    assert found.exact
    assert max(found.generator_error, found.discriminator_error) <= 1e-10
    assert found.structure is None
    assert "cross_sample_derivative" not in found.rows()
    assert str(found).startswith("EXACT\n")


def test_randomness_is_the_same_for_both():
    own = Own(dropout=0.3)
    assert osgan.verify(own.G, own.D, step=own.fill).exact


def test_float32():
    own = Own(dtype=torch.float32)
    found = osgan.verify(own.G, own.D, step=own.fill)
    assert found.exact
    assert found.tolerance == 1e-5
    assert found.precision == "float32, TF32 off"


def test_an_adaptive_weight():
    own = Own(weight=lambda arrived: 0.1 / arrived.norm())
    assert osgan.verify(own.G, own.D, step=own.fill).exact


def test_against_a_loop_of_ones_own():
    own = Own("nonsaturating", logits=True)
    assert osgan.verify(own.G, own.D, step=own.fill, reference=own.two_gradients).exact
    own.fill_without = lambda: own.fill(extra=lambda fake, real: ())
    found = osgan.verify(own.G, own.D, step=own.fill_without, reference=own.two_gradients)
    assert not found.exact
    assert found.generator_error > 1e-2
    assert found.discriminator_error <= 1e-10


def test_a_wrong_ratio_is_seen(monkeypatch):
    from osgan.decomposition import decompose

    monkeypatch.setattr("osgan.passes.decompose", lambda *given: (decompose(*given)[0], -decompose(*given)[1]))
    own = Own("nonsaturating", logits=True)
    found = osgan.verify(own.G, own.D, step=own.fill)
    assert not found.exact
    assert found.generator_error > 0.1
    assert "differ by more than 1e-10" in found.reason


@pytest.mark.parametrize("ask", ["verify", "predict"])
def test_everything_is_put_back(ask):
    own = Own(middle="batch", dropout=0.2)
    with_gradients(own.G, own.D)
    before = snapshot(own.G, own.D)
    if ask == "verify":
        osgan.verify(own.G, own.D, step=own.fill)
    else:
        osgan.predict_speedup(own.G, own.D, step=own.fill, against={"mine": own.alternating})
    after = snapshot(own.G, own.D)
    assert [name for name in before if not _same(before[name], after[name])] == []


def _same(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a is b


def test_flops_against_the_alternating_loop():
    own = Own("hinge")
    found = osgan.predict_speedup(own.G, own.D, step=own.fill, against={"mine": own.alternating})
    assert list(found.flops) == ["mine", "two_gradients", "step"]
    assert found.reference == "step"
    ceilings = found.ceilings
    assert ceilings["step"] == 1
    assert 1.2 < ceilings["mine"] < 1.5  # D forward 2 + 1, backward 2 and once more, of which the weights' are wasted
    assert 0.98 < ceilings["two_gradients"] < 1.02
    own.logits = True
    one = osgan.predict_speedup(own.G, own.D, step=lambda: own.fill(), against={"mine": own.alternating})
    assert one.flops["step"] < found.flops["step"]
    assert one.ceilings["mine"] > ceilings["mine"]


WRONG = {
    "moves weights": lambda own: own.alternating,
    "does not call osgan.backward": lambda own: own.two_gradients,
}


@pytest.mark.parametrize(("said", "step"), WRONG.items(), ids=WRONG)
def test_steps_that_cannot_be_verified(said, step):
    own = Own()
    before = snapshot(own.G, own.D)
    with pytest.raises(InputError, match=said):
        osgan.verify(own.G, own.D, step=step(own))
    after = snapshot(own.G, own.D)
    assert [name for name in before if not _same(before[name], after[name])] == []


def test_a_step_that_takes_another_batch_each_time():
    own = Own()
    batches = itertools.count()

    def step():
        own.z = latents() * next(batches)
        own.fill()

    with pytest.raises(InputError, match="let it work on one batch"):
        osgan.verify(own.G, own.D, step=step)


@pytest.mark.parametrize("ask", [osgan.verify, osgan.predict_speedup])
def test_neither_a_loss_nor_a_step(ask):
    own = Own()
    with pytest.raises(InputError, match="or a step function of your own as step="):
        ask(own.G, own.D)
