"""ADA: the parts of its pipeline against the paper's formulas, and the controller against plain Python."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import affine_grid, grid_sample, pad, softplus
from waiting import waits_for_nothing

import osgan
from osgan import ADA, InputError, losses, nets
from osgan.adaptive import PARTS, _color_map, _inverse_map, _recolored, _rotated, _warped
from osgan.augmentation import Drawn, parse_augmentation

MANY = 4000
EXACT = 1e-10


def images_of(*shape, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype) * 2 - 1


def applied(*parts, n=MANY):
    return {part: torch.full((n,), float(part in parts), dtype=torch.float64) for part in PARTS}


def spread_of(values, mean, deviation):
    """Assert that many values have that mean and standard deviation, to five standard errors."""
    error = deviation / math.sqrt(len(values))
    assert values.mean().item() == pytest.approx(mean, abs=5 * error)
    assert values.std().item() == pytest.approx(deviation, abs=5 * error)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (5, 1, 7, 4), (5, 4, 1, 5), (2, 3, 2, 31, 64)])
def test_at_p_0_images_are_left_as_they_are(shape, dtype):
    images = images_of(*shape, dtype=dtype)
    assert torch.equal(ADA(p=0).draw(images)(images), images)


def test_at_p_1_every_image_changes():
    images = images_of(200, 3, 8, 8)
    assert (ADA(p=1).draw(images)(images) != images).flatten(1).any(1).all()


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_every_part_is_applied_to_a_share_p_of_the_images(p):
    images = images_of(MANY, 1, 1, 1)
    on = ADA(p=p)._applied(images)
    assert on.keys() == PARTS.keys()
    both = on.pop("rotation"), on.pop("second_rotation")
    on["a rotation"] = torch.maximum(*both)
    for part, share in on.items():
        torch.testing.assert_close(share.mean().item(), p, rtol=0, atol=5 * math.sqrt(p * (1 - p) / MANY), msg=part)
    pairs = torch.stack(list(on.values()))
    if 0 < p < 1:
        assert torch.corrcoef(pairs).fill_diagonal_(0).abs().max() < 5 / math.sqrt(MANY)  # each for itself


@pytest.mark.parametrize("pipeline", ["b", "g", "c", "gb"])
def test_a_pipeline_has_the_parts_of_its_groups(pipeline):
    on = ADA(p=1, pipeline=pipeline)._applied(images_of(3, 1, 1, 1))
    assert {part for part, of in on.items() if of.any()} == {part for part, group in PARTS.items() if group in pipeline}


def blitted(image):
    """Return all that blitting can make of a square image, up to 1 pixel of translation, by what it is made with."""
    found = {}
    for flip in (False, True):
        for turns in range(4):
            turned = torch.rot90(image.flip(-1) if flip else image, turns, (-2, -1))
            around = pad(turned[None], (1, 1, 1, 1), mode="reflect")[0]
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    cut = around[:, 1 - down : 1 - down + image.shape[1], 1 - right : 1 - right + image.shape[2]]
                    found[flip, turns, down, right] = cut
    return found


def test_blitting_moves_whole_pixels():
    images = images_of(1, 2, 8, 8).expand(2000, -1, -1, -1)
    out = ADA(p=1, pipeline="b").draw(images)(images)
    made = blitted(images[0])
    counts = {how: int((out == image).flatten(1).all(1).sum()) for how, image in made.items()}
    assert sum(counts.values()) == 2000
    for place, values in enumerate(((False, True), range(4))):
        for value in values:
            share = sum(count for how, count in counts.items() if how[place] == value) / 2000
            assert abs(share - 1 / len(values)) < 0.06
    for down in (-1, 0, 1):  # of -1 to 1, rounded
        share = sum(count for how, count in counts.items() if how[2] == down) / 2000
        assert abs(share - (0.5 if down == 0 else 0.25)) < 0.06


def inverse_map(*arguments):
    """Return the matrices with their third row, (N, 3, 3)."""
    matrices = _inverse_map(*arguments)
    last = torch.tensor([0, 0, 1]).to(matrices)
    return torch.cat([matrices, last.expand(len(matrices), 1, 3)], 1)


def test_rotations_keep_lengths():
    for part in ("rotation", "second_rotation", "turn"):
        linear = inverse_map(images_of(MANY, 1, 8, 6), applied(part))[:, :2, :2]
        unit = torch.eye(2, dtype=torch.float64).expand_as(linear)
        torch.testing.assert_close(linear @ linear.mT, unit, rtol=0, atol=EXACT)
        torch.testing.assert_close(torch.linalg.det(linear), torch.ones(MANY).double(), rtol=0, atol=EXACT)
        angle = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
        if part == "turn":
            assert sorted(set((angle / (math.pi / 2)).tolist())) == [-1, 0, 1, 2]
        else:
            assert angle.abs().max() > 0.99 * math.pi
            spread_of(angle, 0, math.pi / math.sqrt(3))


def test_scale_and_stretch():
    images = images_of(MANY, 1, 8, 8)
    forward = torch.linalg.inv(inverse_map(images, applied("scale")))
    spread_of(forward[:, 0, 0].log2(), 0, 0.2)
    torch.testing.assert_close(forward[:, 0, 0], forward[:, 1, 1], rtol=EXACT, atol=0)
    forward = torch.linalg.inv(inverse_map(images, applied("stretch")))
    spread_of(forward[:, 0, 0].log2(), 0, 0.2)
    torch.testing.assert_close(forward[:, 0, 0] * forward[:, 1, 1], torch.ones(MANY).double(), rtol=EXACT, atol=0)


def test_translations_are_shares_of_width_and_height():
    images = images_of(MANY, 1, 32, 64)
    moved = torch.linalg.inv(inverse_map(images, applied("offset", "rotation", "scale", "flip", "turn")))[:, :2, 2]
    spread_of(moved[:, 0], 0, 8)
    spread_of(moved[:, 1], 0, 4)
    moved = -inverse_map(images, applied("shift"))[:, :2, 2]
    assert set(moved[:, 0].tolist()) == set(range(-8, 9))
    assert set(moved[:, 1].tolist()) == set(range(-4, 5))


def test_the_parts_come_in_the_papers_order():
    """The whole map is the product of its parts' maps, the last part's first, for it leads back from the output."""
    images = images_of(5, 1, 8, 8)

    def of(*parts):
        torch.manual_seed(3)
        return inverse_map(images, applied(*parts, n=5))

    geometry = [part for part, group in PARTS.items() if group in "bg"]
    expected = torch.eye(3, dtype=torch.float64)
    for part in geometry:
        expected = expected @ of(part)
    torch.testing.assert_close(of(*geometry), expected.expand(5, -1, -1), rtol=0, atol=EXACT)
    backwards = torch.eye(3, dtype=torch.float64)
    for part in geometry:
        backwards = of(part) @ backwards
    assert (of(*geometry) - backwards).abs().max() > 0.1


@pytest.mark.parametrize(("height", "width"), [(6, 9), (8, 8)])
def test_interpolation_is_that_of_grid_sample(height, width):
    images = images_of(20, 3, height, width)
    inverse = _inverse_map(images, applied(*PARTS, n=20))
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2, 1]).double()
    grid = affine_grid(inverse * half / half[:2, None], list(images.shape), align_corners=True)
    expected = grid_sample(images, grid, padding_mode="reflection", align_corners=True)
    torch.testing.assert_close(_warped(images[:, None], inverse)[:, 0], expected, rtol=0, atol=EXACT)


def test_grid_sample_would_not_do():
    """Why interpolation is our own: grid_sample divides by the size and multiplies again, which mixes pixels."""
    images = images_of(2, 1, 32, 32, dtype=torch.float32)
    identity = torch.eye(2, 3).expand(2, -1, -1)
    grid = affine_grid(identity, list(images.shape), align_corners=True)
    assert torch.equal(_warped(images[:, None], identity)[:, 0], images)
    assert not torch.equal(grid_sample(images, grid, padding_mode="reflection", align_corners=True), images)


@pytest.mark.parametrize("quarters", [True, False])
def test_a_quarter_turn_mixes_no_pixels(quarters):
    """The cosine of pi / 2 is not 0: with it as it is they would be mixed."""
    images = images_of(1, 1, 64, 64, dtype=torch.float32)
    rows = _rotated(
        torch.tensor([[1.0, 0, 0]]), torch.tensor([[0, 1.0, 0]]), torch.tensor([math.pi / 2]), quarters=quarters
    )
    turned = _warped(images[:, None], torch.stack(rows, 1))[:, 0]
    by_pixels = torch.rot90(images, 1, (-2, -1))
    torch.testing.assert_close(turned, by_pixels, rtol=0, atol=1e-4)
    assert torch.equal(turned, by_pixels) == quarters


LUMA = torch.full((3,), 1 / math.sqrt(3), dtype=torch.float64)
CROSS = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)


def by_the_paper(image, brightness, contrast, luma_flip, hue, saturation):
    """Do the five maps of the paper's pseudocode one after the other, as matrices, to an image (3, H, W)."""
    along = torch.outer(LUMA, LUMA)
    across = torch.eye(3, dtype=torch.float64) - along
    householder = torch.eye(3, dtype=torch.float64) - 2 * along * luma_flip
    turn = along + hue.cos() * across + hue.sin() * CROSS  # Rodrigues; torch.linalg.matrix_exp is off by 7e-11
    colors = image.flatten(1) + brightness
    return ((along + across * saturation) @ turn @ householder @ (colors * contrast)).view_as(image)


def test_colours_are_the_papers_matrices():
    images = images_of(50, 3, 3, 2)
    colors = _color_map(images, applied(*PARTS, n=50))
    out = _recolored(images[:, None], colors)[:, 0]
    for image, made, (offset, luma, chroma, hue) in zip(images, out, colors, strict=True):
        contrast = luma.abs()
        expected = by_the_paper(image, offset / luma, contrast, float(luma < 0), hue, chroma / contrast)
        torch.testing.assert_close(made, expected, rtol=0, atol=EXACT)


def test_the_strength_of_colours():
    offset, luma, chroma, hue = _color_map(images_of(MANY, 1, 1, 1), applied(*PARTS)).unbind(1)
    spread_of(offset / luma, 0, 0.2)
    spread_of(luma.abs().log2(), 0, 0.5)
    spread_of((luma < 0).double(), 0.5, 0.5)
    spread_of((chroma / luma.abs()).log2(), 0, 1.0)
    spread_of(hue, 0, math.pi / math.sqrt(3))


def test_one_channel_has_neither_hue_nor_saturation():
    images = images_of(20, 1, 4, 4)
    colors = _color_map(images, applied("hue", "saturation", n=20))
    assert torch.equal(_recolored(images[:, None], colors)[:, 0], images)
    colors = _color_map(images, applied("brightness", "contrast", "luma_flip", n=20))
    same = _recolored(images.expand(-1, 3, -1, -1)[:, None], colors)[:, 0]
    torch.testing.assert_close(_recolored(images[:, None], colors)[:, 0], same[:, :1], rtol=0, atol=EXACT)


class Reference:
    """The controller in plain Python, on lists."""

    def __init__(self, target, images, interval, p):
        self.target, self.images, self.interval, self.p = target, images, interval, p
        self.signs, self.seen, self.observations = [], 0, 0

    def observe(self, logits):
        rows = logits.tolist()
        flat = [x for row in rows for x in (row if isinstance(row, list) else [row])]
        self.signs += [(x > 0) - (x < 0) for x in flat]
        self.seen += len(rows)
        self.observations += 1
        if self.observations == self.interval:
            mean = sum(self.signs) / len(self.signs)
            self.p += ((mean > self.target) - (mean < self.target)) * self.seen / self.images
            self.p = min(1.0, max(0.0, self.p))
            self.signs, self.seen, self.observations = [], 0, 0


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 1)])
@pytest.mark.parametrize("interval", [1, 4])
def test_the_controller_does_what_plain_python_does(interval, shape):
    options = {"target": 0.6, "images": 200, "interval": interval, "p": 0.2}
    ada, reference = ADA(**options), Reference(**options)
    moves = []
    for step in range(100):
        logits = torch.randn(shape) + 2.5 * math.sin(step / 8)
        before = ada.p.item()
        ada.observe(logits)
        reference.observe(logits)
        assert ada.p.item() == pytest.approx(reference.p, abs=1e-6), step
        moves.append(ada.p.item() - before)
    assert max(moves) > 0
    assert min(moves) < 0
    assert [step for step, move in enumerate(moves) if move and step % interval != interval - 1] == []
    assert ada.p.dtype == torch.float32
    assert ada.p.shape == ()


def test_one_logit_without_a_batch_is_of_one_image():
    ada = ADA(images=10, interval=1)
    ada.observe(torch.tensor(2.0))
    assert ada.p.item() == pytest.approx(0.1)


def test_p_rises_falls_and_stays_within_0_and_1():
    ada = ADA(images=100, interval=2)
    found = []
    for sign in (1, 1, -1, -1):
        for _ in range(30):
            ada.observe(torch.full((5,), 3.0 * sign))
        found.append(ada.p.item())
    assert found[0] == 1
    assert found[1:] == [1, 0, 0]
    ada = ADA(target=0.5, p=0.5)
    for _ in range(8):
        ada.observe(torch.tensor([1.0, 1.0, 1.0, -1.0]))
    assert ada.p.item() == 0.5  # at the target


@pytest.mark.parametrize("num_parts", [1, 2, 3])
def test_p_moves_at_the_end_of_a_batch_whatever_its_parts(num_parts):
    ada = ADA(images=120, interval=2)
    found = []
    for part in torch.ones(4 * 12).split(12 // num_parts):
        ada.observe(part, num_parts)
        found.append(ada.p.item())
    of_two_batches = 2 * num_parts
    assert found == pytest.approx([0.0] * (of_two_batches - 1) + [0.2] * of_two_batches + [0.4])


OWN = {
    "symmetric": losses.AdversarialLoss("mine", lambda r, f: softplus(-r) + softplus(f), lambda r, f: -softplus(f)),
    "paired": losses.AdversarialLoss("pair", lambda r, f: softplus(f - r), lambda r, f: softplus(r - f)),
    "off centre": losses.AdversarialLoss("off", lambda r, f: softplus(1 - r) + softplus(f), lambda r, f: softplus(-f)),
    "of probabilities": losses.AdversarialLoss("p", lambda r, f: -r.log() - (1 - f).log(), lambda r, f: -f.log()),
    "fails": losses.AdversarialLoss("no", lambda r, f: r / len(()), lambda r, f: f),
}


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        *((losses.LOSSES[name], name not in ("lsgan", "wgan")) for name in losses.LOSSES),
        *((OWN[name], name in ("symmetric", "paired")) for name in OWN),
    ],
)
def test_ada_is_refused_where_signs_say_nothing(loss, told):
    paired = loss.paired or loss is OWN["paired"]
    ADA(target=None).check_loss(loss, paired=paired)
    with nullcontext() if told else pytest.raises(InputError, match="target=None, which leaves p as it is"):
        ADA().check_loss(loss, paired=paired)


@pytest.mark.parametrize(("loss", "told"), [("wgan", False), ("lsgan", False), ("hinge", True), (OWN["paired"], True)])
def test_a_scheme_asks_before_its_first_step(loss, told):
    networks = nets.build("mlp+resolution=16+width=8", channels=1)
    optimizers = (torch.optim.SGD(n.parameters(), 0.1) for n in (networks.generator, networks.discriminator))
    players = networks.generator, networks.discriminator, *optimizers
    scheme = osgan.OneStage(*players, loss=loss, latent=networks.latent, augmentation=ADA())
    with nullcontext() if told else pytest.raises(InputError, match="ADA takes a logit above 0 for real"):
        scheme(images_of(4, 1, 16, 16, dtype=torch.float32))


def test_without_a_target_p_stays():
    ada = ADA(target=None, p=0.25)
    for _ in range(8):
        ada.observe(torch.ones(5))
    assert ada.p.item() == 0.25


def test_the_state_is_changed_in_place_and_can_be_put_back():
    ada = ADA(images=100, interval=2)
    state = ada.tensors()
    ada.observe(torch.ones(10))
    kept = [tensor.clone() for tensor in state]
    ada.observe(torch.ones(10))
    first = [tensor.clone() for tensor in state]
    assert all(mine is tensor for mine, tensor in zip(ada.tensors(), state, strict=True))
    assert not torch.equal(kept[0], first[0])
    for tensor, before in zip(state, kept, strict=True):
        tensor.copy_(before)
    ada.observe(torch.ones(10))
    assert all(torch.equal(a, b) for a, b in zip(state, first, strict=True))
    copied = copy.deepcopy(ada)
    copied.observe(torch.ones(10))
    assert torch.equal(ada.sums, first[1])


def test_a_draw_keeps_its_probability():
    images = images_of(50, 3, 8, 8)
    ada = ADA(p=0.5)
    drawn = ada.draw(images)
    before = drawn(images)
    ada.p.fill_(0)
    assert torch.equal(drawn(images), before)
    assert torch.equal(ada.draw(images)(images), images)


def test_the_state_must_be_where_the_images_are():
    ada = ADA()
    with pytest.raises(osgan.InputError, match=r"state is on cpu, the images on meta: call .to\(device\)"):
        ada.draw(torch.empty(2, 3, 4, 4, device="meta"))
    ada.to("meta")
    assert {tensor.device.type for tensor in ada.tensors()} == {"meta"}
    assert ada.draw(torch.empty(2, 3, 4, 4, device="meta"))(torch.empty(2, 3, 4, 4, device="meta")).shape == (
        2,
        3,
        4,
        4,
    )


class CountedOnTheHost(ADA):
    """The mistake: a graph that is replayed counts nothing here."""

    calls = 0

    def observe(self, real_logits, num_parts=1):
        self.calls += 1
        if self.calls % self.interval == 0:
            self.p += real_logits.sign().mean().sub(self.target).sign() * len(real_logits) / self.images


@pytest.mark.parametrize(("kind", "right"), [(ADA, True), (CountedOnTheHost, False)])
def test_a_recorded_observation_counts_when_it_is_replayed(kind, right):
    options = {"images": 100, "interval": 3, "p": 0.5}
    replayed, reference = kind(**options), Reference(0.6, **options)
    kept = [tensor.clone() for tensor in replayed.tensors()]
    recorded = make_fx(lambda logits: replayed.observe(logits))(torch.ones(5))
    for tensor, before in zip(replayed.tensors(), kept, strict=True):
        tensor.copy_(before)
    found, expected = [], []
    for sign in (1, 1, 1, 1, 1, 1, -1, 1, 1, 1, 1, -1):
        logits = torch.full((5,), float(sign))
        recorded(logits)
        reference.observe(logits)
        found.append(replayed.p.item())
        expected.append(reference.p)
    assert len(set(expected)) > 2
    assert (found == pytest.approx(expected, abs=1e-6)) == right


@pytest.mark.gpu
@pytest.mark.parametrize(
    "make", [lambda: ADA(p=0.5, images=1000), lambda: osgan.DiffAugment("color,translation,cutout,flip")]
)
def test_a_cuda_graph_of_it_is_right_when_it_is_replayed(make):
    augmentation = make()
    augmentation.to("cuda")
    images = images_of(8, 3, 16, 16, dtype=torch.float32).cuda()
    out = torch.empty_like(images)
    gradient = torch.empty_like(images)

    def step():
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            made = augmentation.draw(images)(leaf)
            gradient.copy_(torch.autograd.grad(made.square().sum(), leaf)[0])
        out.copy_(made.detach())
        augmentation.observe(out.mean((1, 2, 3)))

    torch.cuda.manual_seed(3)
    kept = [tensor.clone() for tensor in augmentation.tensors()]
    eager = []
    for _ in range(9):
        step()
        eager.append([tensor.clone() for tensor in (out, gradient, *augmentation.tensors())])
    for tensor, before in zip(augmentation.tensors(), kept, strict=True):
        tensor.copy_(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    torch.cuda.manual_seed(3)
    with waits_for_nothing():
        replayed = []
        for _ in range(9):
            graph.replay()
            replayed.append([tensor.clone() for tensor in (out, gradient, *augmentation.tensors())])
    assert not torch.equal(replayed[0][0], replayed[1][0])
    for mine, its in zip(replayed, eager, strict=True):
        for a, b in zip(mine, its, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_specs():
    built = parse_augmentation("ada+target=0.5+images=100000+interval=8+p=0.1+pipeline=bg")
    assert (built.target, built.images, built.interval, built.pipeline) == (0.5, 100_000, 8, "bg")
    assert built.p.item() == pytest.approx(0.1)
    assert parse_augmentation("ada+images=1e5").images == 1e5
    assert parse_augmentation("ada+target=None").target is None
    assert isinstance(built.draw(images_of(2, 3, 4, 4)), Drawn)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ada+target=2", "ADA needs a target from -1 to 1, got 2"),
        ("ada+target=high", "ADA needs a target from -1 to 1, got 'high'"),
        ("ada+images=0", "ADA needs images from 1 to"),
        ("ada+p=1.5", "ADA needs p from 0 to 1, got 1.5"),
        ("ada+interval=0", "ADA needs an interval from 1 to"),
        ("ada+interval=1.5", "an interval in whole updates of D, got 1.5"),
        ("ada+pipeline=bgd", "letters b, g and c, such as 'bgc', got 'bgd'"),
        ("ada+pipeline=''", "letters b, g and c"),
        ("ada+strength=1", "unknown option 'strength'"),
    ],
)
def test_what_cannot_be_built(text, message):
    with pytest.raises(osgan.InputError, match=message):
        parse_augmentation(text)
